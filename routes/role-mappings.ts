/** Owns the calls on role mappings: a user's own, and an administrator's to list, set and delete them, or to try that. */
import { type Request, type Response, Router } from 'express';
import { parseRoleArn } from '../src/arn.ts';
import { ApiError, type FieldError } from '../src/errors.ts';
import type { AwsIdentity } from '../src/iam.ts';
import type { ServiceAccount } from '../src/kubernetes.ts';
import type { Watched } from '../src/kubernetes-watch.ts';
import type { Log } from '../src/log.ts';
import { previewMappings } from '../src/mapping-preview.ts';
import type { MappingStore } from '../src/mapping-store.ts';
import { completeMapping, isManaged, mappingsOf, type RoleMapping } from '../src/mappings.ts';
import type { Metrics } from '../src/metrics.ts';
import { adminOnly, callerOf, requestIdOf } from '../src/middleware.ts';
import type { PodIdentity } from '../src/pod-identity.ts';
import { type Revocations, revocationFor } from '../src/revocations.ts';
import { allStartedBy, type PodIndex } from '../src/runs.ts';
import type { TrustStatuses } from '../src/trust-status.ts';
import { parseWant, type Want } from '../src/wants.ts';

export interface RoleMappingDeps {
  config: { computeNamespace: string };
  mappings: MappingStore;
  accounts: Watched<ServiceAccount>;
  pods: PodIndex;
  statuses: TrustStatuses;
  revocations: Revocations;
  podIdentity: PodIdentity | undefined;
  awsIdentity: () => AwsIdentity | undefined;
  log: Log;
  metrics: Metrics;
}

type Sent = Pick<RoleMapping, 'iam_role_arn' | 'proxy_iam_role_arn'> & Partial<RoleMapping>;

export function roleMappingRoutes(deps: RoleMappingDeps): Router {
  const { mappings, log, metrics } = deps;
  const router = Router();

  router.get('/my_role_mappings', (_req, res) => {
    metrics.mappingQueries.inc();
    res.json({ my_role_mappings: mappingsOf(callerOf(res).orgs, mappings.current()) });
  });

  router.get('/role_mappings', adminOnly, async (_req, res) => {
    const { byOrg } = await mappings.read();
    res.json({ all_role_mappings: Object.fromEntries(byOrg) });
  });

  router.post('/update_role_mapping', adminOnly, async (req, res) => {
    const { domino_org: org, ...sent } = req.body as Sent & { domino_org: string };
    res.json(await set(org, [completeMapping(org, sent)], '/body', req, res));
  });

  router.post('/update_multirole_mapping', adminOnly, async (req, res) => {
    const { domino_org: org, role_data: sent } = req.body as { domino_org: string; role_data: Sent[] };
    const list = sent.map((one) => completeMapping(org, one));
    res.json(await set(org, list, '/body/role_data', req, res));
  });

  router.delete('/delete_role_mapping', adminOnly, async (req, res) => {
    const { domino_org: org } = req.body as { domino_org: string };
    if (isDryRun(req)) {
      res.json(await preview(org, undefined));
      return;
    }
    const before = await mappings.remove(org);
    audit(res, org, before, []);
    res.json({ domino_org: org, deleted: true });
  });

  async function set(org: string, list: RoleMapping[], path: string, req: Request, res: Response) {
    const identity = deps.awsIdentity();
    if (!identity)
      throw new ApiError('aws_unavailable', 'The AWS account of this service is not known yet; try again.');
    const errors = [...refusals(org, list, path, identity), ...podIdentityRoles(list, path)];
    if (errors.length > 0) {
      throw new ApiError('invalid_request', 'This mapping cannot be used; nothing was changed.', { errors });
    }
    if (isDryRun(req)) return preview(org, list);
    const before = await mappings.set(org, list);
    audit(res, org, before, list);
    return { domino_org: org, role_data: list };
  }

  /** A role that Pod Identity gives to somebody has no room for runs. */
  function podIdentityRoles(list: readonly RoleMapping[], path: string): FieldError[] {
    const users = [...(deps.podIdentity?.identities.current().byUser.values() ?? [])];
    return list.flatMap((mapping, index) => {
      const user = users.find(({ iam_role_arn: role }) => role === mapping.proxy_iam_role_arn)?.domino_user;
      if (user === undefined) return [];
      const at = path === '/body' ? path : `${path}/${index}`;
      return [
        { path: `${at}/proxy_iam_role_arn`, message: `the Pod Identity role of user ${user}: use a role of its own` },
      ];
    });
  }

  /** What the change would do. @param list what would be stored; undefined: the organization's mappings would go. */
  async function preview(org: string, list: readonly RoleMapping[] | undefined) {
    const { before, after } = await mappings.preview(org, list);
    const status = (arn: string) => deps.statuses.get(arn)?.status;
    const namespace = deps.config.computeNamespace;
    const effect = previewMappings({ before, after, org, wants: wantsThatCount(), status, namespace });
    return { dry_run: true, domino_org: org, role_data: list ?? [], ...effect };
  }

  function wantsThatCount(): Map<string, Want> {
    const wants = new Map<string, Want>();
    for (const { name, wanted } of deps.accounts.values()) {
      const want = parseWant(wanted);
      if (!want || !allStartedBy(deps.pods.ofAccount(name), want.user.id)) continue;
      if (!revocationFor(want.run, [name], deps.pods, deps.revocations)) wants.set(name, want);
    }
    return wants;
  }

  function audit(res: Response, org: string, before: readonly RoleMapping[], after: RoleMapping[]) {
    const { id, name } = callerOf(res);
    const about = { audit: 'mapping', request_id: requestIdOf(res), user: name, user_id: id, org, before, after };
    log.info(about, 'role mappings changed');
  }

  return router;
}

function isDryRun(req: Request): boolean {
  return String(req.query.dry_run) === 'true';
}

/** What the contract's patterns cannot say: which accounts and partitions the ARNs may be of. */
function refusals(org: string, list: readonly RoleMapping[], path: string, identity: AwsIdentity): FieldError[] {
  const errors: FieldError[] = [];
  // Kubernetes would take this key, and JavaScript would lose it on the way.
  if (org === '__proto__') errors.push({ path: '/body/domino_org', message: 'not a name that can be stored' });
  for (const [index, mapping] of list.entries()) {
    const at = path === '/body' ? path : `${path}/${index}`;
    for (const field of ['iam_role_arn', 'proxy_iam_role_arn'] as const) {
      const arn = parseRoleArn(mapping[field]);
      if (!arn) errors.push({ path: `${at}/${field}`, message: 'not the ARN of an IAM role' });
      else if (arn.partition !== identity.partition) {
        const message = `in partition ${arn.partition}; this cluster is in ${identity.partition}, and roles cannot be assumed across`;
        errors.push({ path: `${at}/${field}`, message });
      }
    }
    const proxy = parseRoleArn(mapping.proxy_iam_role_arn);
    if (proxy && isManaged(mapping) && proxy.account !== identity.account) {
      const message = `in account ${proxy.account}; its trust policy can only be written in the cluster's own, ${identity.account}`;
      errors.push({ path: `${at}/proxy_iam_role_arn`, message });
    }
  }
  return errors;
}
