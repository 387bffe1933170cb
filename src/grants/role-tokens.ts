/** Owns giving role tokens to a live pod of the caller's run, for the roles that the mappings give the caller now. Invariant 11. */
import type { Caller } from '../auth/caller.ts';
import type { Kubernetes, Pod } from '../kubernetes/client.ts';
import { KubernetesError } from '../kubernetes/error.ts';
import type { MakeToken } from '../kubernetes/tokens.ts';
import { kubernetesUnavailable } from '../kubernetes/transport.ts';
import { roleTokenAudience } from '../lib/arn.ts';
import { ApiError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';
import type { OrganizationStore } from '../mappings/organization-store.ts';
import { choiceOf, resolve, type Target, type TokenChoice } from '../mappings/role-mappings.ts';
import type { MappingStore } from '../mappings/store.ts';
import type { TrustStatuses } from '../proxy-roles/status.ts';
import { withHeldTokens } from '../runs/held-tokens.ts';
import { type Revocations, refuseRevoked, revocationFor } from '../runs/revocations.ts';
import type { RoleRequest } from '../runs/role-request.ts';
import { findRunPod, noPod, type PodIndex } from '../runs/runs.ts';
import { tokenProfiles } from './aws-config.ts';
import { evaluateMembership, type Memberships } from './membership.ts';
import { isDenied, tokenOutcomeOf } from './outcome.ts';
import { type RecordDeps, recordRequest } from './record.ts';

export interface RoleTokensRequest {
  caller: Caller;
  /** 24 hex digits. */
  run: string;
  pod: string;
  /** All profiles where it is left out. */
  profiles?: readonly string[] | undefined;
}

export interface GivenToken {
  profile: string;
  target: string;
  proxy: string;
  token: string;
  /** ISO 8601. */
  expiresAt: string;
  /** The token's own id, for the audit. */
  jti: string | undefined;
}

export interface RefusedToken {
  profile: string;
  code: string;
  detail: string;
}

export interface RoleTokens {
  /** @throws ApiError `run_not_found`, `run_revoked`, `shared_service_account`, `kubernetes_unavailable`, `kubernetes_refused` */
  give(request: RoleTokensRequest): Promise<{ account: string; tokens: GivenToken[]; refused: RefusedToken[] }>;
}

export interface RoleTokensOptions extends Omit<RecordDeps, 'looks'> {
  kubernetes: Pick<Kubernetes, 'listPods' | 'listPodsOfAccount' | 'getServiceAccount' | 'setWanted'>;
  revocations: Pick<Revocations, 'isLive' | 'get' | 'read'>;
  mappings: Pick<MappingStore, 'isLive' | 'current' | 'read'>;
  organizations: Pick<OrganizationStore, 'isLive' | 'current' | 'read'>;
  memberships: Pick<Memberships, 'settle'>;
  makeToken: MakeToken;
  /** How long a role token lives. */
  roleTokenSeconds: number;
  log: Log;
}

type Wanted = { target: Target & { token: TokenChoice }; profile: string };
const hasToken = (target: Target): target is Target & { token: TokenChoice } => target.token !== undefined;

export function createRoleTokens(options: RoleTokensOptions): RoleTokens {
  return {
    give: async ({ caller, run, pod: podName, profiles }) => {
      const pod = await findRunPod(run, podName, caller.id, options.pods, options.kubernetes);
      const checkedRules = async () => {
        const { revocations, ...rules } = await rulesNow(options);
        refuseRevoked(revocationFor(run, [pod.account], options.pods, revocations));
        return rules;
      };
      const rules = await checkedRules();
      const { mappings } = rules;
      const membership = await options.memberships.settle(caller, rules);
      const { targets } = resolve(membership, mappings);
      const byToken = targets.filter(hasToken);
      const names = tokenProfiles(byToken.map(({ arn }) => arn));
      const all = byToken.map((target): Wanted => ({ target, profile: names.get(target.arn) ?? '' }));
      const wanted = profiles ? all.filter(({ profile }) => profiles.includes(profile)) : all;
      const refused = (profiles ?? [])
        .filter((name) => !all.some(({ profile }) => profile === name))
        .map((profile) => ({ profile, ...notGiven }));
      const ready = wanted.filter((one) => {
        const reason = whyNot(one, pod.account, options.statuses);
        if (reason) refused.push({ profile: one.profile, ...reason });
        return !reason;
      });
      const choiceFor = choiceOf(membership, mappings);
      // An earlier run of the account may have left a Deny: it ends once a request records that this run may have the role.
      const shutOut = wanted.filter(
        (one) => !ready.includes(one) && isDenied(pod.account, options.statuses.get(one.target.token.arn)?.status),
      );
      const given = [...ready, ...shutOut].map(({ target: { arn: target, token } }) => ({ target, ...token }));
      const user = { id: caller.id, name: caller.name };
      const contentFor = (known: RoleRequest | undefined) =>
        withHeldTokens(
          { run, user, roles: entriesOf(known, caller.id, membership.orgs), workload_type: known?.workload_type },
          known,
          given,
          choiceFor,
          options,
        );
      // Recorded before a client gets a token, so that a revocation finds every token.
      const recording = recordRequest(pod.account, contentFor, { ...options, looks: { at: async () => undefined } });
      const making = Promise.all(ready.map((one) => make(one, pod, options)));
      const [, made] = await Promise.all([recording, making]);
      const rulesAfter = await checkedRules();
      const stillGiven = resolve(evaluateMembership(caller, rulesAfter), rulesAfter.mappings).targets;
      refuseEnded(pod, options.pods);
      const tokens = made.flatMap((one) => ('token' in one && isStill(one, stillGiven) ? [one] : []));
      for (const one of made) {
        if (!('token' in one)) refused.push(one);
        else if (!tokens.includes(one)) refused.push({ profile: one.profile, ...notGiven });
      }
      return { account: pod.account, tokens, refused };
    },
  };
}

/** A token cannot be taken back, so where a watch is lost, the API server is read. @throws ApiError `kubernetes_unavailable` */
async function rulesNow(options: RoleTokensOptions) {
  const [mappings, records, revocations] = await Promise.all([
    options.mappings.isLive() ? options.mappings.current() : options.mappings.read(),
    options.organizations.isLive() ? options.organizations.current() : options.organizations.read(),
    options.revocations.isLive() ? options.revocations : options.revocations.read(),
  ]);
  return { mappings, records, revocations };
}

const notGiven = {
  code: 'not_mapped',
  detail: 'no mapping of your organizations carries a role of this profile by tokens',
};

function whyNot(
  { target }: Wanted,
  account: string,
  statuses: TrustStatuses,
): Omit<RefusedToken, 'profile'> | undefined {
  const status = (arn: string) => statuses.get(arn)?.status;
  const outcome = tokenOutcomeOf({ target: target.arn, ...target.token }, [account], status);
  if (!outcome)
    return { code: 'pending', detail: 'the trust policy of the proxy role does not let the run’s tokens in yet' };
  return outcome.kind === 'refused' ? { code: outcome.code, detail: outcome.detail } : undefined;
}

/** The entries that the account keeps: all that it has, except those of organizations that the caller left. */
function entriesOf(known: RoleRequest | undefined, userId: string, orgs: readonly string[]): RoleRequest['roles'] {
  if (known?.user.id !== userId) return [];
  const left = known.roles.map((role) => ({ ...role, proxies: role.proxies.filter(({ org }) => orgs.includes(org)) }));
  return left.filter(({ proxies }) => proxies.length > 0);
}

function isStill({ target, proxy }: GivenToken, targets: readonly Target[]): boolean {
  return targets.some(({ arn, token }) => arn === target && token?.arn === proxy);
}

/** @throws ApiError `run_not_found` where the pod ended while its token was made. */
function refuseEnded(pod: Pod, pods: Pick<PodIndex, 'ofAccount' | 'ofRun'>): void {
  const known = pods.ofRun(pod.run ?? '').find(({ name }) => name === pod.name);
  // A pod that is seconds old may not be in the watch yet: the API server listed it just now.
  if (known && known.uid !== pod.uid) throw podEnded();
}

function podEnded(cause?: unknown): ApiError {
  return new ApiError('run_not_found', noPod, { cause });
}

/** Makes a token bound to the checked pod: the API server refuses one for a later pod of the name, or of another account. */
async function make(
  { target, profile }: Wanted,
  pod: Pod,
  options: RoleTokensOptions,
): Promise<GivenToken | RefusedToken> {
  const audience = roleTokenAudience(target.token.arn) ?? '';
  const { account, name, uid } = pod;
  try {
    const seconds = options.roleTokenSeconds;
    const { token, expiresAt } = await options.makeToken({ account, audience, pod: { name, uid }, seconds });
    return { profile, target: target.arn, proxy: target.token.arn, token, expiresAt, jti: idOf(token) };
  } catch (cause) {
    const { kind, status } = cause instanceof KubernetesError ? cause : { kind: 'unavailable', status: undefined };
    if (kind === 'not_found' || kind === 'conflict' || status === 400) throw podEnded(cause);
    if (kind !== 'refused') throw kubernetesUnavailable(cause);
    options.log.error({ err: cause, role: target.token.arn }, 'Kubernetes refuses to make a role token');
    const detail = 'a policy of the cluster refuses the token; an administrator of the cluster has to act';
    return { profile, code: 'token_refused', detail };
  }
}

/** RFC 7519 section 4.1.7. */
function idOf(token: string): string | undefined {
  try {
    const { jti } = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as { jti?: unknown };
    return typeof jti === 'string' ? jti : undefined;
  } catch {
    return undefined;
  }
}
