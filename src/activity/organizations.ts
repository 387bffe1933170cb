/** Owns what the activity record says of a user's organizations: those of the newest call for roles. */
import type { Log } from '../lib/log.ts';
import type { Activity } from './activity.ts';
import type { ActivityEntry } from './entry.ts';

/** @returns undefined where the user is not in the record, or it cannot be read: the answer does without it. */
export async function recordedOrganizations(userId: string, activity: Pick<Activity, 'read'>, log: Log) {
  try {
    const { entries } = await activity.read();
    const isTheirs = ({ user_id, organizations }: ActivityEntry) => user_id === userId && organizations !== undefined;
    const newest = entries.find(isTheirs);
    return newest && { at: newest.at, organizations: newest.organizations ?? [] };
  } catch (error) {
    log.info({ err: error }, 'the activity record could not be read');
    return undefined;
  }
}
