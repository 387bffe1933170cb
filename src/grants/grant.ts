/** Owns a grant from the request's side: stores the role requests of a run, and waits until the leader has settled them. */
import type { Caller } from '../auth/caller.ts';
import type { Kubernetes } from '../kubernetes/client.ts';
import { ApiError } from '../lib/errors.ts';
import { proposedDefaults } from '../mappings/default-proposals.ts';
import { choiceOf, type Mappings, resolve } from '../mappings/role-mappings.ts';
import { withHeldTokens } from '../runs/held-tokens.ts';
import { type Revocations, refuseRevoked, revocationFor } from '../runs/revocations.ts';
import { askersOf, parseRoleRequest, type RoleRequest, type RoleRequestContent } from '../runs/role-request.ts';
import { findRun } from '../runs/runs.ts';
import type { RoleOutcome } from './aws-config.ts';
import { planCarriers } from './carriers.ts';
import type { Memberships } from './membership.ts';
import { isDenied } from './outcome.ts';
import { type RecordDeps, recordRequest } from './record.ts';
import { createSecondLooks } from './second-look.ts';
import { Settlement, type SettlementDeps } from './settlement.ts';

export interface GrantRequest {
  caller: Caller;
  /** 24 hex digits. */
  run: string;
  workloadType: string | undefined;
  /** Whether the client keeps token files. */
  roleTokens: boolean;
  /** Aborted when the client is gone. */
  signal: AbortSignal;
}

export interface Grant {
  accounts: string[];
  outcomes: RoleOutcome[];
  /** The targets that the caller's organizations propose as the default profile. */
  proposed: ReadonlySet<string>;
  /** Seconds from the first role request to the last answer; 0 where all was settled already. */
  settledSeconds: number;
}

export interface Grants {
  /**
   * Grants the caller's run what the mappings allow, and waits until IAM has it.
   * @throws ApiError `run_not_found`, `run_revoked`, `shared_service_account`, `too_many_roles`,
   * `kubernetes_unavailable`, `trust_policy_full`, `grant_pending`.
   */
  grant(request: GrantRequest): Promise<Grant>;
}

export interface GrantsOptions extends Omit<RecordDeps, 'looks'>, Omit<SettlementDeps, 'revocations'> {
  kubernetes: Pick<
    Kubernetes,
    'listPods' | 'listPodsOfAccount' | 'getServiceAccount' | 'setWanted' | 'getConfigMap' | 'annotateConfigMap'
  >;
  revocations: Revocations;
  mappings: () => Mappings;
  memberships: Pick<Memberships, 'settle'>;
  /** How long a role token lives. */
  roleTokenSeconds: number;
}

export function createGrants(options: GrantsOptions): Grants {
  const { kubernetes, pods, clock } = options;
  const deps = { ...options, looks: createSecondLooks(options) };
  return {
    grant: async ({ caller, run: runId, workloadType, roleTokens, signal }) => {
      const run = await findRun(runId, caller.id, pods, kubernetes);
      const revoked = () => revocationFor(run.id, run.accounts, pods, options.revocations);
      refuseRevoked(revoked());
      const membership = await options.memberships.settle(caller);
      const { targets, refused } = resolve(membership, options.mappings());
      const choiceFor = choiceOf(membership, options.mappings());
      const recorded = run.accounts.flatMap((name) => requestOf(name, { caller, run: run.id }, options) ?? []);
      const plan = planCarriers(targets, roleTokens, recorded, choiceFor);
      const content: RoleRequestContent = {
        run: run.id,
        user: { id: caller.id, name: caller.name },
        workload_type: workloadType,
        roles: [...plan.entries.map(({ arn, proxies }) => ({ target: arn, proxies })), ...plan.kept],
      };
      const startedAt = clock.monotonic();
      // An earlier run of the account may have left a Deny: it ends once a request records that this run may have the role.
      const shutOut = (name: string) =>
        plan.tokens.filter(({ arn }) => isDenied(name, options.statuses.get(arn)?.status));
      const record = async (name: string) => {
        const given = shutOut(name);
        const withTokens = (known: RoleRequest | undefined) =>
          withHeldTokens(content, known, given, choiceFor, options);
        return [name, await recordRequest(name, withTokens, deps)] as const;
      };
      // Tokens are recorded when they are given, so an account without other roles needs no write here.
      const isBare = (name: string) => content.roles.length === 0 && options.accounts.get(name)?.wanted === undefined;
      const recording = run.accounts.filter(
        (name) => plan.tokens.length === 0 || !isBare(name) || shutOut(name).length > 0,
      );
      const requests = new Map(await Promise.all(recording.map(record)));
      const awaited = { targets: plan.entries, tokens: plan.tokens, accounts: run.accounts, requests, revoked };
      const settled = await new Settlement(awaited, deps).wait(signal);
      const outcomes: RoleOutcome[] = [
        ...settled,
        ...plan.unmanaged.map(({ arn, proxies }) => ({
          kind: 'granted' as const,
          target: arn,
          proxy: proxies[0]?.arn ?? '',
        })),
        ...plan.refused,
        ...refused.map(({ arn, code, detail }) => ({ kind: 'refused' as const, target: arn, code, detail })),
      ];
      refuseWhereNothingHasRoom(outcomes);
      const proposed = proposedDefaults(membership, options.mappings());
      return { accounts: run.accounts, outcomes, proposed, settledSeconds: (clock.monotonic() - startedAt) / 1000 };
    },
  };
}

/** The request on record of a service account, if this run of the caller is among those that made it. */
function requestOf(
  account: string,
  { caller, run }: { caller: Caller; run: string },
  { accounts }: Pick<GrantsOptions, 'accounts'>,
): RoleRequest | undefined {
  const known = parseRoleRequest(accounts.get(account)?.wanted);
  return known?.user.id === caller.id && askersOf(known).has(run) ? known : undefined;
}

/** Asks the client to retry where the run gets no role because a proxy role is full; with some roles, the run gets these. */
function refuseWhereNothingHasRoom(outcomes: readonly RoleOutcome[]): void {
  if (outcomes.some(({ kind }) => kind === 'granted')) return;
  const full = outcomes.find((outcome) => outcome.kind === 'refused' && outcome.code === 'trust_policy_full');
  if (full?.kind !== 'refused') return;
  const detail = `${full.target}: ${full.detail}. The run gets it as soon as another one ends.`;
  throw new ApiError('trust_policy_full', detail, { retryAfterSeconds: 10 });
}
