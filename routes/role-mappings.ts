/** Owns the calls on role mappings: users read their own; administrators list, set and delete them, or preview that. */
import { type Request, type Response, Router } from 'express';
import type { Memberships } from '../src/grants/membership.ts';
import { audit } from '../src/http/audit.ts';
import { callerOf, isDryRun } from '../src/http/middleware.ts';
import type { Log } from '../src/lib/log.ts';
import type { Metrics } from '../src/lib/metrics.ts';
import type { OrganizationRecords } from '../src/mappings/organizations.ts';
import { completeMapping, mappingsOf, type RoleMapping } from '../src/mappings/role-mappings.ts';
import { type MappingChangeDeps, previewChange, refuseUnusable, setMappings } from '../src/reports/mapping-change.ts';

export interface RoleMappingDeps extends MappingChangeDeps {
  memberships: Pick<Memberships, 'of'>;
  log: Log;
  metrics: Metrics;
}

type Sent = Pick<RoleMapping, 'iam_role_arn' | 'proxy_iam_role_arn'> & Partial<RoleMapping>;

export function roleMappingRoutes(deps: RoleMappingDeps): Router {
  const { mappings, organizations, log, metrics } = deps;
  const router = Router();

  router.get('/my_role_mappings', (_req, res) => {
    metrics.mappingQueries.inc();
    res.json({ my_role_mappings: mappingsOf(deps.memberships.of(callerOf(res)).orgs, mappings.current()) });
  });

  router.get('/role_mappings', async (_req, res) => {
    const [{ byOrg }, records] = await Promise.all([mappings.read(), organizations.read()]);
    res.json({ all_role_mappings: Object.fromEntries(byOrg), organizations: organizationsOf(records) });
  });

  router.post('/update_role_mapping', async (req, res) => {
    const { domino_org: org, ...sent } = req.body as Sent & { domino_org: string };
    res.json(await set(org, [completeMapping(org, sent)], '/body', req, res));
  });

  router.post('/update_multirole_mapping', async (req, res) => {
    const { domino_org: org, role_data: sent } = req.body as { domino_org: string; role_data: Sent[] };
    const list = sent.map((one) => completeMapping(org, one));
    res.json(await set(org, list, '/body/role_data', req, res));
  });

  router.delete('/delete_role_mapping', async (req, res) => {
    const { domino_org: org } = req.body as { domino_org: string };
    if (isDryRun(req)) {
      res.json(await previewChange({ org, list: undefined, by: callerOf(res) }, deps));
      return;
    }
    const before = await mappings.remove(org);
    audit(log, res, 'mapping', { org, before, after: [] }, 'role mappings changed');
    res.json({ domino_org: org, deleted: true });
  });

  async function set(org: string, list: RoleMapping[], path: string, req: Request, res: Response) {
    refuseUnusable(org, list, path, deps);
    const removeSubjects = String(req.query.remove_subjects) === 'true';
    const change = { org, list, by: callerOf(res), removeSubjects };
    if (isDryRun(req)) return previewChange(change, deps);
    const { handed, warnings } = await setMappings(change, deps, (before, organization_id) =>
      audit(log, res, 'mapping', { org, before, after: list, organization_id }, 'role mappings changed'),
    );
    return {
      domino_org: org,
      role_data: list,
      handed_over: handed.length > 0 ? handed : undefined,
      warnings: warnings.length > 0 ? warnings : undefined,
    };
  }

  return router;
}

/** Which organization each name stands for, and which other organizations of that name had members request roles. */
function organizationsOf(records: OrganizationRecords) {
  return Object.fromEntries(
    [...records].map(([org, { id, by, at, contenders }]) => [
      org,
      {
        organization_id: id === '' ? null : id,
        by,
        at,
        contenders: contenders.map((one) => ({ organization_id: one.id, user: one.user, at: one.at })),
      },
    ]),
  );
}
