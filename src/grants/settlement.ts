/** Owns a request's wait until the leader has settled its targets, and IAM has confirmed them. */
import type { Kubernetes, ServiceAccount } from '../kubernetes/client.ts';
import type { Watched } from '../kubernetes/watch.ts';
import type { Clock } from '../lib/clock.ts';
import { ApiError } from '../lib/errors.ts';
import type { Target } from '../mappings/role-mappings.ts';
import { statusName, type TrustStatuses, trustStatusForm } from '../proxy-roles/status.ts';
import type { TokenRole } from '../runs/held-tokens.ts';
import { type Revocation, type Revocations, refuseRevoked } from '../runs/revocations.ts';
import { covers, parseRoleRequest, type RoleRequest } from '../runs/role-request.ts';
import type { RoleOutcome } from './aws-config.ts';
import { outcomeOf, tokenOutcomeOf } from './outcome.ts';

export interface SettlementDeps {
  kubernetes: Pick<Kubernetes, 'getConfigMap'>;
  accounts: Watched<ServiceAccount>;
  statuses: TrustStatuses;
  revocations: Pick<Revocations, 'onChange'>;
  timeoutMs: number;
  clock: Clock;
}

/** What a request waits for. */
export interface Awaited {
  targets: readonly Target[];
  /** The roles that are given by tokens, and the run's service accounts. */
  tokens: readonly (TokenRole & { managed: boolean })[];
  accounts: readonly string[];
  /** Service account -> its request. */
  requests: ReadonlyMap<string, RoleRequest>;
  /** The revocation of the run, where there is one now. */
  revoked: () => Revocation | undefined;
}

/** How long a request waits for the API server to confirm what a lost watch showed. */
const maxConfirmMs = 1_000;
/** The reason of aborts: the default one would be an error with a stack trace for each request. */
const settled = 'settled';

export class Settlement {
  readonly #awaited: Awaited;
  readonly #deps: SettlementDeps;
  readonly #done = new AbortController();
  #answer: RoleOutcome[] | undefined;
  /** Whether the API server contradicted what the statuses showed. */
  #wasDenied = false;

  constructor(awaited: Awaited, deps: SettlementDeps) {
    this.#awaited = awaited;
    this.#deps = deps;
  }

  /**
   * @param signal aborted when the client is gone.
   * @returns the outcome for each target.
   * @throws ApiError `run_revoked`, `grant_pending`
   */
  async wait(signal: AbortSignal): Promise<RoleOutcome[]> {
    const { targets, tokens, revoked } = this.#awaited;
    const done = this.#done;
    const listening = this.#listen();
    try {
      await this.#look();
      if (!done.signal.aborted) {
        await this.#deps.clock.sleep(this.#deps.timeoutMs, AbortSignal.any([done.signal, signal]));
      }
    } finally {
      for (const forget of listening) forget();
      done.abort(settled);
    }
    refuseRevoked(revoked());
    if (this.#answer) return this.#answer;
    const last = this.#shown();
    const all = [...targets.map(({ arn }) => arn), ...tokens.map(({ target }) => target)];
    const missing = all.filter((_, index) => this.#wasDenied || !last[index]);
    const detail = `What this run wants is on record, but IAM has not confirmed it yet for ${missing.join(', ')}. Ask again in a few seconds.`;
    throw new ApiError('grant_pending', detail);
  }

  #listen(): (() => void)[] {
    const { targets, tokens, requests, revoked } = this.#awaited;
    const { statuses, accounts, revocations } = this.#deps;
    const roles = new Set([...targets.flatMap(({ proxies }) => proxies), ...tokens].map(({ arn }) => arn));
    return [
      statuses.onChange((role) => void (roles.has(role) && this.#look())),
      // A request that replaced ours counts once the watch shows it; the status that answers it may have come earlier.
      accounts.onChange((name) => void (requests.has(name) && this.#look())),
      // A run that is revoked meanwhile never settles.
      revocations.onChange(() => revoked() && this.#done.abort(settled)),
    ];
  }

  async #look(): Promise<void> {
    const found = await this.#settled();
    if (!found) return;
    this.#answer = found;
    this.#done.abort(settled);
  }

  /** @returns the outcomes for all targets, once they are known and confirmed. */
  async #settled(): Promise<RoleOutcome[] | undefined> {
    const found = this.#shown();
    if (!found.every((one) => one !== undefined)) return undefined;
    const isSo = await this.#isStillSo(found);
    if (isSo === false) this.#wasDenied = true;
    // Where the API server does not answer, the published outcome stands, so that runs go on while it is unavailable.
    return isSo === true || (isSo === 'unknown' && !this.#wasDenied) ? found : undefined;
  }

  #shown(): (RoleOutcome | undefined)[] {
    const { targets, tokens, accounts, requests } = this.#awaited;
    const ids = new Map([...requests].map(([name, request]) => [name, this.#idsThatCount(name, request)]));
    const status = (arn: string) => this.#deps.statuses.get(arn)?.status;
    return [
      ...targets.map((target) => outcomeOf(target, ids, status)),
      ...tokens.map((role) => tokenOutcomeOf(role, accounts, status)),
    ];
  }

  /** The ids of our own request, and of one that replaced it and covers it. */
  #idsThatCount(account: string, request: RoleRequest): readonly string[] {
    const current = parseRoleRequest(this.#deps.accounts.get(account)?.wanted);
    return current && current.id !== request.id && covers(current, request) ? [request.id, current.id] : [request.id];
  }

  /**
   * Whether the outcomes still hold. Where the watch of the statuses is lost, the members may have moved since, so they are
   * read from the API server. Invariant 6.
   */
  async #isStillSo(outcomes: readonly RoleOutcome[]): Promise<boolean | 'unknown'> {
    if (this.#deps.statuses.isLive()) return true;
    const proxies = new Set(outcomes.flatMap((outcome) => (outcome.kind === 'granted' ? [outcome.proxy] : [])));
    const late = this.#deps.clock.sleep(maxConfirmMs).then(() => 'unknown' as const);
    const said = await Promise.all([...proxies].map((proxy) => this.#isConfirmed(proxy, late)));
    return said.includes(false) ? false : (said.find((one) => one === 'unknown') ?? true);
  }

  /** Whether the API server shows the same members of the proxy role. @param late resolves when that took too long. */
  async #isConfirmed(proxy: string, late: Promise<'unknown'>): Promise<boolean | 'unknown'> {
    const shown = this.#deps.statuses.get(proxy)?.status.members ?? {};
    const asked = this.#deps.kubernetes.getConfigMap(statusName(proxy)).catch(() => 'unknown' as const);
    const found = await Promise.race([asked, late]);
    if (found === 'unknown') return found;
    const members = (found && trustStatusForm.parse(found.data)?.members) ?? {};
    const isMember = (name: string) => Object.hasOwn(members, name) && members[name]?.want === shown[name]?.want;
    return [...this.#awaited.requests.keys()].every((name) => !Object.hasOwn(shown, name) || isMember(name));
  }
}
