/** Owns the look-up of a user's organizations in the activity record: those of the user's newest request for roles. */
import type { Log } from '../lib/log.ts';
import type { Activity } from './activity.ts';
import type { ActivityEntry } from './entry.ts';

/** @returns undefined where the record has no such user or cannot be read; the caller's answer then leaves them out. */
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
