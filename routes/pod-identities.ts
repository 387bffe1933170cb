/** Owns the calls on Pod Identity mappings: administrators list, set and delete them, and users read their own. */
import { type Request, type Response, Router } from 'express';
import type { AwsIdentity } from '../src/aws/iam.ts';
import { audit } from '../src/http/audit.ts';
import { callerOf, isDryRun } from '../src/http/middleware.ts';
import { type PageQuery, pageOf, pageQuery } from '../src/http/page.ts';
import type { Pod } from '../src/kubernetes/client.ts';
import { parseRoleArn } from '../src/lib/arn.ts';
import { ApiError, type FieldError } from '../src/lib/errors.ts';
import type { Log } from '../src/lib/log.ts';
import type { MappingStore } from '../src/mappings/store.ts';
import {
  accountProblem,
  completePodIdentity,
  type PodIdentities,
  type PodIdentityMapping,
  type PodIdentitySent,
  policyProblem,
} from '../src/pod-identity/mappings.ts';
import { beganBeforeMapping } from '../src/pod-identity/mutation-rules.ts';
import type { PodIdentityPreview } from '../src/pod-identity/preview.ts';
import type { PodIdentity } from '../src/pod-identity/setup.ts';
import type { PodIdentityChange } from '../src/pod-identity/store.ts';
import { roleArnProblem } from '../src/reports/mapping-refusals.ts';
import {
  type PodIdentityReportSources,
  podIdentityOf,
  podIdentityReports,
  podIdentitySources,
} from '../src/reports/pod-identity.ts';
import type { PodIndex } from '../src/runs/runs.ts';

export interface PodIdentityDeps {
  podIdentity: PodIdentity | undefined;
  podIdentityPreview: PodIdentityPreview | undefined;
  mappings: Pick<MappingStore, 'current'>;
  pods: PodIndex;
  awsIdentity: () => AwsIdentity | undefined;
  log: Log;
}

export function podIdentityRoutes(deps: PodIdentityDeps): Router {
  const router = Router();

  router.get('/my_pod_identity', (_req, res) => {
    const podIdentity = enabled(deps);
    const caller = callerOf(res);
    const found = podIdentityOf(caller, podIdentitySources(podIdentity, deps.pods));
    res.json({ user: caller.name, pod_identity: found ?? null });
  });

  router.get('/pod_identity_mappings', async ({ query }, res) => {
    const podIdentity = enabled(deps);
    const identities = await podIdentity.identities.read();
    const isPaged = query.limit !== undefined || query.continue !== undefined;
    const sources = { ...podIdentitySources(podIdentity, deps.pods), identities };
    res.json(isPaged ? pageAnswer(sources, pageQuery(query)) : mappingAnswer(identities));
  });

  router.post('/update_pod_identity_mapping', async (req, res) => {
    const { identities } = enabled(deps);
    const mapping = completePodIdentity(req.body as PodIdentitySent);
    const errors = refusals(mapping, deps);
    if (errors.length > 0) {
      throw new ApiError('invalid_request', 'This mapping cannot be used; nothing was changed.', { errors });
    }
    await answer(req, res, await identities.set(mapping, isDryRun(req)), mapping.domino_user);
  });

  router.delete('/delete_pod_identity_mapping', async (req, res) => {
    const { domino_user: user } = req.body as { domino_user: string };
    await answer(req, res, await enabled(deps).identities.remove(user, isDryRun(req)), user);
  });

  async function answer(req: Request, res: Response, { before, after }: PodIdentityChange, user: string) {
    if (isDryRun(req)) {
      res.json({
        dry_run: true,
        domino_user: user,
        before: before ?? null,
        after: after ?? null,
        ...effect(before, after),
        warnings: (after && (await deps.podIdentityPreview?.(after))) ?? [],
      });
      return;
    }
    const about = { domino_user: user, before, after };
    audit(deps.log, res, 'pod_identity_mapping', about, 'Pod Identity mapping changed');
    res.json(after ?? { domino_user: user, deleted: true });
  }

  /** The pods that would lose the role, the user's pods that need a restart, and other users' pods on the account. */
  function effect(before: PodIdentityMapping | undefined, after: PodIdentityMapping | undefined) {
    const { domino_user: user, service_account: account } = after ?? {};
    const former = new Set(before && before.service_account !== account ? [before.service_account] : []);
    const misses = (pod: Pod) => (pod.account === account ? !pod.hasPodIdentity : beganBeforeMapping(pod, former));
    const own = after ? [...deps.pods.all()].filter((pod) => pod.userName === user && misses(pod)) : [];
    const others = deps.pods.ofAccount(account ?? '').filter(({ userName }) => userName !== user);
    return {
      pods_that_lose_it: namesOf([...former].flatMap((name) => deps.pods.ofAccount(name))),
      pods_to_restart: namesOf(own),
      pods_of_others_in_the_way: namesOf(others),
    };
  }

  return router;
}

/** @param users the users to answer about; all where it is left out. */
function mappingAnswer({ byUser, problems, replaced }: PodIdentities, users?: ReadonlySet<string>) {
  const isAsked = (user: string) => users?.has(user) ?? true;
  const unusable = [...problems, ...replaced].map(([domino_user, problem]) => ({ domino_user, ...problem }));
  return {
    pod_identity_mappings: [...byUser.values()].filter(({ domino_user: user }) => isAsked(user)),
    unusable: unusable.filter(({ domino_user: user }) => isAsked(user)),
  };
}

/** Keeps all about one user on one page. Users of unusable mappings, and of deleted ones in cleanup, count too. */
function pageAnswer(sources: PodIdentityReportSources, page: PageQuery) {
  const { identities } = sources;
  const { byUser, problems } = identities;
  const reports = Map.groupBy(podIdentityReports(sources), ({ domino_user: user }) => user);
  const all = [...new Set([...byUser.keys(), ...problems.keys(), ...reports.keys()])].sort();
  const { items, next } = pageOf(all, (user) => user, page, 'ascending');
  return {
    ...mappingAnswer(identities, new Set(items)),
    pod_identities: items.flatMap((user) => reports.get(user) ?? []),
    next,
  };
}

function namesOf(pods: readonly Pod[]): string[] {
  return pods.map(({ name }) => name).sort();
}

/** @throws ApiError `pod_identity_disabled`, and `kubernetes_unavailable` before its caches are filled. */
function enabled({ podIdentity }: PodIdentityDeps): PodIdentity {
  if (!podIdentity) {
    const detail = 'This installation does not use EKS Pod Identity: EKS_CLUSTER_NAME is not set.';
    throw new ApiError('pod_identity_disabled', detail);
  }
  if (podIdentity.isSynced()) return podIdentity;
  const detail = 'This replica has just started and does not know the Pod Identity mappings yet. Try again.';
  throw new ApiError('kubernetes_unavailable', detail);
}

/** Checks what the contract's patterns cannot express: names, accounts and partitions. */
function refusals(mapping: PodIdentityMapping, { awsIdentity, mappings }: PodIdentityDeps): FieldError[] {
  const identity = awsIdentity();
  if (!identity) {
    throw new ApiError('aws_unavailable', 'The AWS account of this service is not known yet; try again.');
  }
  const errors: FieldError[] = [];
  const note = (field: keyof PodIdentityMapping, message: string | undefined) => {
    if (message !== undefined) errors.push({ path: `/body/${field}`, message });
  };
  const { domino_user: user, service_account: account, iam_role_arn: role, target_role_arn: target } = mapping;
  // Kubernetes accepts this key, but a JavaScript object does not keep it.
  if (user === '__proto__') note('domino_user', 'not a name that can be stored');
  const noName = 'required: no name of a service account can be made of this user’s name';
  note('service_account', account === '' ? noName : accountProblem(account));
  note('iam_role_arn', roleArnProblem(role, identity));
  if (target !== undefined) note('target_role_arn', roleArnProblem(target, identity));
  note('policy', policyProblem(mapping));
  const parsed = parseRoleArn(role);
  if (parsed && parsed.account !== identity.account) {
    const message = `in account ${parsed.account}; EKS gives pods roles of the cluster’s own account only, ${identity.account}. Name a role there, and this one as target_role_arn`;
    note('iam_role_arn', message);
  }
  if (mappings.current().managedProxies.has(role)) {
    const message = 'a proxy role of an organization, whose trust policy is reserved for runs: use a separate role';
    note('iam_role_arn', message);
  }
  return errors;
}
