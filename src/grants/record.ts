/** Owns writing a role request to a service account, unless the account has the same request already and it still counts. */
import type { Kubernetes, ServiceAccount } from '../kubernetes/client.ts';
import { KubernetesError, kubernetesUnavailable } from '../kubernetes/transport.ts';
import type { Watched } from '../kubernetes/watch.ts';
import type { Clock } from '../lib/clock.ts';
import { ApiError } from '../lib/errors.ts';
import type { TrustStatuses } from '../proxy-roles/status.ts';
import {
  isOnRecord,
  maxRoleRequestBytes,
  newRoleRequest,
  otherAskers,
  parseRoleRequest,
  type RoleRequest,
  type RoleRequestContent,
} from '../runs/role-request.ts';
import type { PodIndex } from '../runs/runs.ts';
import type { SecondLooks } from './second-look.ts';

export interface RecordDeps {
  kubernetes: Pick<Kubernetes, 'getServiceAccount' | 'setWanted'>;
  accounts: Watched<ServiceAccount>;
  pods: PodIndex;
  statuses: TrustStatuses;
  looks: SecondLooks;
  /** Whether something that the request depends on has changed since it was made. */
  changedSince: (request: RoleRequest) => boolean;
  clock: Clock;
}

/** How often a write is tried while other requests are written meanwhile. */
const attempts = 20;

/**
 * @param contentFor what to write, given what is on record of the account.
 * @returns the request that counts.
 * @throws ApiError `run_not_found`, `too_many_roles`, `kubernetes_unavailable`
 */
export async function recordRequest(
  account: string,
  contentFor: (known: RoleRequest | undefined) => RoleRequestContent,
  deps: RecordDeps,
): Promise<RoleRequest> {
  let seen = deps.accounts.get(account);
  for (let tries = 1; ; tries += 1) {
    try {
      // The account may have a recent request of another run, which the new one must include: it is read before it is written.
      seen ??= await deps.kubernetes.getServiceAccount(account);
      return await write(account, contentFor, seen, deps);
    } catch (error) {
      if (error instanceof ApiError) throw error;
      const kind = error instanceof KubernetesError ? error.kind : undefined;
      if (kind === 'not_found') {
        throw new ApiError('run_not_found', `The service account ${account} of this run does not exist any more.`);
      }
      if (kind !== 'conflict' || tries >= attempts) throw kubernetesUnavailable(error);
      seen = undefined;
    }
  }
}

async function write(
  account: string,
  contentFor: (known: RoleRequest | undefined) => RoleRequestContent,
  { wanted, resourceVersion }: ServiceAccount,
  { kubernetes, pods, statuses, looks, changedSince, clock }: RecordDeps,
): Promise<RoleRequest> {
  const known = parseRoleRequest(wanted);
  const content = contentFor(known);
  const alive = new Set(pods.ofAccount(account).map(({ run }) => run));
  if (known && isOnRecord(known, content, alive) && !changedSince(known)) {
    // The cause of an earlier refusal may be gone by now.
    await looks.at(refusedBy(known, statuses));
    return known;
  }
  const request = newRoleRequest(content, clock.now(), otherAskers(known, content, alive, clock.now()));
  await kubernetes.setWanted(account, requestText(request), resourceVersion);
  return request;
}

/** The proxy roles of the refused targets of a request. One that waits for capacity is left out: the leader retries it. */
function refusedBy(request: RoleRequest, statuses: TrustStatuses): string[] {
  const isRefused = (target: string, proxies: readonly { arn: string }[]) =>
    proxies
      .flatMap(({ arn }) => statuses.get(arn)?.status.refused ?? [])
      .some((one) => one.want === request.id && one.target === target && one.code !== 'trust_policy_full');
  return request.roles.flatMap(({ target, proxies }) =>
    isRefused(target, proxies) ? proxies.map(({ arn }) => arn) : [],
  );
}

/** @throws ApiError `too_many_roles` where it is too long for Kubernetes: a retry would not help. */
function requestText(request: RoleRequest): string {
  const text = JSON.stringify(request);
  const bytes = Buffer.byteLength(text);
  if (bytes <= maxRoleRequestBytes) return text;
  const detail = `Your organizations are mapped to ${request.roles.length} roles, which take ${bytes} bytes, and Kubernetes keeps at most ${maxRoleRequestBytes} on a service account. Ask an administrator to map fewer roles to them, or leave one of them.`;
  throw new ApiError('too_many_roles', detail);
}
