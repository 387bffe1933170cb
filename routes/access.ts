/** Owns `GET /access`: it shows administrators why a run, or a user, has no role. It writes nothing. */
import { type Request, Router } from 'express';
import { ApiError } from '../src/lib/errors.ts';
import { type AccessOfDeps, accessOf, runSubject } from '../src/reports/access-of.ts';
import { knownUser, type RecordedOrganizations } from '../src/reports/known-user.ts';
import { requireRunId } from '../src/runs/runs.ts';

export interface AccessDeps extends AccessOfDeps {
  /** A user's organizations, as the activity record has them. @param userId the user's id in Domino. */
  recordedOrganizations: (userId: string) => Promise<RecordedOrganizations | undefined>;
}

export function accessRoutes(deps: AccessDeps): Router {
  const router = Router();

  router.get('/access', async (req, res) => {
    const { run_id: runId, user: asked } = oneOf(req);
    const about = runId === undefined ? undefined : runSubject(requireRunId(runId), deps);
    if (runId !== undefined && !about) {
      const detail = 'No live pod of this run is there, and no service account has roles for it.';
      throw new ApiError('run_not_found', detail);
    }
    const user = knownUser(about?.userId ?? asked ?? '', deps);
    if (!user) {
      const detail = 'No live run, role request or recent call of this user is known here. Check the name.';
      throw new ApiError('user_not_found', detail);
    }
    res.json(accessOf(user, await deps.recordedOrganizations(user.id), about, deps));
  });

  return router;
}

/** @throws ApiError `invalid_request` unless the query has exactly one of the two. */
function oneOf({ query }: Request): { run_id?: string; user?: string } {
  const { run_id, user } = query;
  if ((run_id === undefined) === (user === undefined)) {
    const message = 'give one of run_id and user';
    throw new ApiError('invalid_request', 'Say which run, or which user.', {
      errors: [{ path: '/query/run_id', message }],
    });
  }
  return run_id === undefined ? { user: String(user) } : { run_id: String(run_id) };
}
