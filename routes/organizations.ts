/** Owns `POST /accept_organization`: an administrator says which of Domino's organizations a mapped name stands for. */
import { Router } from 'express';
import { audit } from '../src/http/audit.ts';
import { callerOf } from '../src/http/middleware.ts';
import { ApiError } from '../src/lib/errors.ts';
import type { Log } from '../src/lib/log.ts';
import type { OrganizationStore } from '../src/mappings/organization-store.ts';

export interface OrganizationDeps {
  organizations: OrganizationStore;
  log: Log;
}

export function organizationRoutes({ organizations, log }: OrganizationDeps): Router {
  const router = Router();

  router.post('/accept_organization', async (req, res) => {
    const { domino_org: org, organization_id: id } = req.body as { domino_org: string; organization_id: string };
    // Kubernetes accepts this key, but a JavaScript object does not keep it.
    if (org === '__proto__') {
      const errors = [{ path: '/body/domino_org', message: 'not a name that can be stored' }];
      throw new ApiError('invalid_request', 'This name cannot be stored; nothing was changed.', { errors });
    }
    const before = await organizations.accept(org, id, callerOf(res).name);
    const about = { org, organization_id: id, before };
    audit(log, res, 'organization', about, 'an administrator accepted the organization of a mapped name');
    res.json({ domino_org: org, organization_id: id, before: before?.id || null });
  });

  return router;
}
