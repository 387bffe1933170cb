/** Owns the request's side of a grant: write down what a run wants, and wait until the writer has settled it. */
import type { RoleOutcome } from './aws-config.ts';
import type { Caller } from './caller.ts';
import type { Clock } from './clock.ts';
import { ApiError } from './errors.ts';
import type { Kubernetes, ServiceAccount } from './kubernetes.ts';
import { KubernetesError, kubernetesUnavailable } from './kubernetes-api.ts';
import type { Watched } from './kubernetes-watch.ts';
import { type Mappings, resolve, type Target } from './mappings.ts';
import { type Revocations, refuseRevoked, revocationFor } from './revocations.ts';
import { findRun, type PodIndex, type Run } from './runs.ts';
import { statusName, type TrustStatuses, trustStatusForm } from './trust-status.ts';
import { covers, newWant, otherAskers, parseWant, sameContent, type Want, type WantContent } from './wants.ts';

export interface GrantRequest {
  caller: Caller;
  /** 24 hex digits. */
  run: string;
  workloadType: string | undefined;
  /** Aborted when nobody waits for the answer any more. */
  signal: AbortSignal;
}

export interface Grant {
  accounts: string[];
  outcomes: RoleOutcome[];
  /** Seconds from the first want to the last answer; 0 where all was settled already. */
  settledSeconds: number;
}

export interface Grants {
  /**
   * Grants the caller's run what the mappings allow, and waits until IAM has it.
   * @throws ApiError `run_not_found`, `run_revoked`, `shared_service_account`, `kubernetes_unavailable`,
   * `trust_policy_full`, `grant_pending`.
   */
  grant(request: GrantRequest): Promise<Grant>;
}

export interface GrantsOptions {
  kubernetes: Pick<Kubernetes, 'listPods' | 'getServiceAccount' | 'setWanted' | 'getConfigMap'>;
  accounts: Watched<ServiceAccount>;
  pods: PodIndex;
  statuses: TrustStatuses;
  revocations: Revocations;
  mappings: () => Mappings;
  timeoutMs: number;
  clock: Clock;
}

/** How long a request waits for the API server to confirm what a lost watch showed. */
const maxConfirmMs = 1_000;
/** How often a want is made anew since another one was written meanwhile. */
const attempts = 20;

export function createGrants(options: GrantsOptions): Grants {
  const { kubernetes, accounts, statuses, revocations, clock } = options;
  const revoked = (run: Run) => revocationFor(run.id, run.accounts, options.pods, revocations);

  /** Writes the want down unless it stands there already. @returns the want that counts. */
  async function record(account: string, content: WantContent): Promise<Want> {
    let seen = accounts.get(account);
    for (let tries = 1; ; tries += 1) {
      try {
        // What stands there may be another run's of a moment ago, which is to be told on: it is not written over unseen.
        seen ??= await kubernetes.getServiceAccount(account);
        const known = parseWant(seen.wanted);
        // A want that was refused is asked for anew: whatever stood against it may be mended. One that waits for room is
        // not, since it is served by itself.
        if (known && sameContent(known, content) && !wasRefused(known)) return known;
        const alive = new Set(options.pods.ofAccount(account).map(({ run }) => run));
        const want = newWant(content, clock.now(), otherAskers(known, content, alive, clock.now()));
        await kubernetes.setWanted(account, JSON.stringify(want), seen.resourceVersion);
        return want;
      } catch (error) {
        const kind = error instanceof KubernetesError ? error.kind : undefined;
        if (kind === 'not_found') {
          throw new ApiError('run_not_found', `The service account ${account} of this run does not exist any more.`);
        }
        if (kind !== 'conflict' || tries >= attempts) throw kubernetesUnavailable(error);
        seen = undefined;
      }
    }
  }

  /** The wants whose settlement is ours: our own, and one written over it since that covers it. */
  function idsThatCount(account: string, want: Want): readonly string[] {
    const current = parseWant(accounts.get(account)?.wanted);
    return current && current.id !== want.id && covers(current, want) ? [want.id, current.id] : [want.id];
  }

  function wasRefused(want: Want): boolean {
    const roles = new Set(want.roles.flatMap(({ proxies }) => proxies.map(({ arn }) => arn)));
    const refusals = [...roles].flatMap((arn) => statuses.get(arn)?.status.refused ?? []);
    return refusals.some((refusal) => refusal.want === want.id && refusal.code !== 'trust_policy_full');
  }

  /** What became of a target for these wants, or undefined while the writer has not said. */
  function outcomeOf(target: Target, ids: ReadonlyMap<string, readonly string[]>): RoleOutcome | undefined {
    const names = [...ids.keys()];
    const counts = (name: string, id: string | undefined) => id !== undefined && (ids.get(name)?.includes(id) ?? false);
    const published = target.proxies.flatMap(({ arn }) => statuses.get(arn)?.status ?? []);
    const refusalOf = (name: string) =>
      published
        .flatMap(({ refused }) => refused)
        .find((one) => one.target === target.arn && one.account === name && counts(name, one.want));
    for (const { role_arn: proxy, members } of published) {
      const isIn = (name: string) => Object.hasOwn(members, name) && counts(name, members[name]?.want);
      const inside = names.filter(isIn);
      if (inside.length === names.length) return { kind: 'granted', target: target.arn, proxy };
      const outside = names.filter((name) => !isIn(name)).map((name) => ({ name, refusal: refusalOf(name) }));
      if (inside.length > 0 && outside.every(({ refusal }) => refusal)) {
        // Some accounts of the run have it, and the others cannot: the file is for all of them.
        const note = outside.map(
          ({ name, refusal }) => `not for account ${name}, ${refusal?.code}: ${refusal?.detail}`,
        );
        return { kind: 'granted', target: target.arn, proxy, note: note.join('; ') };
      }
    }
    const refusals = names.map(refusalOf);
    const [refusal] = refusals;
    if (!refusal || !refusals.every(Boolean)) return undefined;
    return { kind: 'refused', target: target.arn, code: refusal.code, detail: refusal.detail };
  }

  /**
   * Whether what the statuses show is so. Where their watch is lost, whoever they show to be in may have been moved since:
   * the API server is asked. Invariant 6.
   */
  async function isStillSo(outcomes: readonly RoleOutcome[], names: readonly string[]): Promise<boolean | 'unknown'> {
    if (statuses.isLive()) return true;
    const proxies = new Set(outcomes.flatMap((outcome) => (outcome.kind === 'granted' ? [outcome.proxy] : [])));
    const late = clock.sleep(maxConfirmMs).then(() => 'unknown' as const);
    const isSo = [...proxies].map(async (proxy) => {
      const shown = statuses.get(proxy)?.status.members ?? {};
      const asked = kubernetes.getConfigMap(statusName(proxy)).catch(() => 'unknown' as const);
      const found = await Promise.race([asked, late]);
      if (found === 'unknown') return found;
      const members = (found && trustStatusForm.parse(found.data)?.members) ?? {};
      const isIn = (name: string) => Object.hasOwn(members, name) && members[name]?.want === shown[name]?.want;
      return names.every((name) => !Object.hasOwn(shown, name) || isIn(name));
    });
    const said = await Promise.all(isSo);
    return said.includes(false) ? false : (said.find((one) => one === 'unknown') ?? true);
  }

  /** Waits until every target is settled, one way or the other. */
  async function settle(run: Run, targets: readonly Target[], wants: ReadonlyMap<string, Want>, signal: AbortSignal) {
    let wasDenied = false;

    function shown(): (RoleOutcome | undefined)[] {
      const ids = new Map([...wants].map(([name, want]) => [name, idsThatCount(name, want)]));
      return targets.map((target) => outcomeOf(target, ids));
    }

    /** @returns what became of all targets, once that is known and true. */
    async function settled(): Promise<RoleOutcome[] | undefined> {
      const found = shown();
      if (!found.every((one) => one !== undefined)) return undefined;
      const isSo = await isStillSo(found, [...wants.keys()]);
      if (isSo === false) wasDenied = true;
      // An API server that does not answer leaves it at what is shown, so that runs go on while it is away.
      return isSo === true || (isSo === 'unknown' && !wasDenied) ? found : undefined;
    }

    const roles = new Set(targets.flatMap(({ proxies }) => proxies.map(({ arn }) => arn)));
    const done = new AbortController();
    let answer: RoleOutcome[] | undefined;
    const look = async () => {
      const found = await settled();
      if (!found) return;
      answer = found;
      done.abort();
    };
    const listening = [
      statuses.onChange((role) => void (roles.has(role) && look())),
      // A want that is written over ours counts when we know of it; its status may have come before.
      accounts.onChange((name) => void (wants.has(name) && look())),
      // A run that is revoked meanwhile never settles.
      revocations.onChange(() => revoked(run) && done.abort()),
    ];
    try {
      await look();
      if (!done.signal.aborted) await clock.sleep(options.timeoutMs, AbortSignal.any([done.signal, signal]));
    } finally {
      for (const forget of listening) forget();
      done.abort();
    }
    refuseRevoked(revoked(run));
    if (answer) return answer;
    const last = shown();
    const missing = targets.filter((_, index) => wasDenied || !last[index]).map(({ arn }) => arn);
    const detail = `What this run wants is on record, but IAM has not confirmed it yet for ${missing.join(', ')}. Ask again in a few seconds.`;
    throw new ApiError('grant_pending', detail);
  }

  return {
    grant: async ({ caller, run: runId, workloadType, signal }) => {
      const run = await findRun(runId, caller.id, options.pods, kubernetes);
      refuseRevoked(revoked(run));
      const { targets, refused } = resolve(caller.orgs, options.mappings());
      const managed = targets.filter((target) => target.managed);
      const content: WantContent = {
        run: run.id,
        user: { id: caller.id, name: caller.name },
        ...(workloadType === undefined ? {} : { workload_type: workloadType }),
        roles: managed.map(({ arn, proxies }) => ({ target: arn, proxies })),
      };
      const startedAt = clock.monotonic();
      const wants = new Map(
        await Promise.all(run.accounts.map(async (name) => [name, await record(name, content)] as const)),
      );
      const settled = await settle(run, managed, wants, signal);
      const unmanaged = targets.filter((target) => !target.managed);
      const outcomes: RoleOutcome[] = [
        ...settled,
        ...unmanaged.map(({ arn, proxies }) => ({
          kind: 'granted' as const,
          target: arn,
          proxy: proxies[0]?.arn ?? '',
        })),
        ...refused.map(({ arn, code, detail }) => ({ kind: 'refused' as const, target: arn, code, detail })),
      ];
      refuseWhereNothingHasRoom(outcomes);
      return { accounts: run.accounts, outcomes, settledSeconds: (clock.monotonic() - startedAt) / 1000 };
    },
  };
}

/** A run that gets nothing for want of room is told to come again; one that gets some roles gets these. */
function refuseWhereNothingHasRoom(outcomes: readonly RoleOutcome[]): void {
  if (outcomes.some(({ kind }) => kind === 'granted')) return;
  const full = outcomes.find((outcome) => outcome.kind === 'refused' && outcome.code === 'trust_policy_full');
  if (full?.kind !== 'refused') return;
  const detail = `${full.target}: ${full.detail}. The run gets it as soon as another one ends.`;
  throw new ApiError('trust_policy_full', detail, { retryAfterSeconds: 10 });
}
