/** Owns `GET /activity`: the newest grants, refusals and changes of all replicas. */
import { type Request, Router } from 'express';
import { type Activity, keyOfEntry } from '../src/activity/activity.ts';
import type { ActivityEntry } from '../src/activity/entry.ts';
import { pageOf, pageQuery } from '../src/http/page.ts';
import { orUnavailable } from '../src/kubernetes/error.ts';
import { requireRunId } from '../src/runs/runs.ts';

export interface ActivityDeps {
  activity: Pick<Activity, 'read'>;
}

export function activityRoutes({ activity }: ActivityDeps): Router {
  const router = Router();

  router.get('/activity', async (req, res) => {
    const isWanted = filterOf(req.query);
    const { entries, droppedUntil = null } = await orUnavailable(() => activity.read());
    const { items, next } = pageOf(entries.filter(isWanted), keyOfEntry, pageQuery(req.query), 'descending');
    res.json({ activity: items.map(toAnswer), next, holds_since: droppedUntil });
  });

  return router;
}

/** An entry must match every parameter that is given. */
function filterOf({ since, user, run_id, role_arn, kind }: Request['query']): (entry: ActivityEntry) => boolean {
  const from = since === undefined ? undefined : Date.parse(String(since));
  const run = run_id === undefined ? undefined : requireRunId(String(run_id));
  return (entry) =>
    (from === undefined || Date.parse(entry.at) >= from) &&
    (user === undefined || [entry.user, entry.user_id, entry.of_user].includes(String(user))) &&
    (kind === undefined || entry.kind === kind) &&
    (run === undefined || entry.run_id === run) &&
    (role_arn === undefined || namesRole(entry, String(role_arn)));
}

function namesRole({ roles = [], refused = [] }: ActivityEntry, arn: string): boolean {
  return roles.includes(arn) || refused.some(({ iam_role_arn: target }) => target === arn);
}

function toAnswer({ organizations, ...entry }: ActivityEntry) {
  if (!organizations) return entry;
  return { ...entry, domino_orgs: [...new Set(organizations.map(({ name }) => name))] };
}
