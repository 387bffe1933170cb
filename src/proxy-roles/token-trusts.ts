/** Owns which roles accept role tokens, and which service accounts' tokens they deny. In memory, without I/O. */
import { roleTokenAudience } from '../lib/arn.ts';
import type { TimeRange } from '../lib/clock.ts';
import type { Mappings } from '../mappings/role-mappings.ts';
import { effectiveRequest, hasLiveAsker, isShutOut, type RequestView } from '../runs/effective-request.ts';
import { anyRole, tokensOverAt } from '../runs/held-tokens.ts';
import type { Revocation } from '../runs/revocations.ts';
import { parseRoleRequest, type RoleRequest } from '../runs/role-request.ts';
import { sameTokenTrust, type TokenTrust } from '../trust-policy/role-tokens.ts';
import { sameSet } from '../trust-policy/sets.ts';
import type { ProxyRole } from './proxy-role.ts';
import { allowedProxies } from './run-placement.ts';

export interface TokenTrustsOptions {
  view: RequestView;
  /** The names of all service accounts that carry a request. */
  names: () => Iterable<string>;
  mappings: () => Mappings;
  /** The records of revoked runs. */
  revocations: () => ReadonlyMap<string, Pick<Revocation, 'tokens'>>;
  /** Whether a mapping says that the role's trust policy is not managed here. */
  isUnmanaged: (arn: string) => boolean;
  /** How long a role token lives. */
  lifeMs: number;
  time: TimeRange;
  role: (arn: string) => ProxyRole;
  roles: () => Iterable<ProxyRole>;
  /** Called for each role whose desired tokens changed. */
  onChange: (role: ProxyRole) => void;
}

/** Service account that holds tokens of a role -> whether it may have the role now. */
type Holders = Map<string, { entitled: boolean }>;

export class TokenTrusts {
  private readonly options: TokenTrustsOptions;
  private readonly byRole = new Map<string, Holders>();
  /** Service account -> the roles whose tokens it may hold. */
  private readonly heldBy = new Map<string, ReadonlySet<string>>();
  /** Role -> service account -> when the last token of a revoked run may expire, also where the run has ended. */
  private revoked = new Map<string, Map<string, string>>();
  /** Those of them that are not denied, since a later run on the account has the role: an incomplete list does not undo this. */
  private readonly lifted = new Set<string>();
  /** Run -> when all tokens that it held at its revocation have surely expired, by this replica's clock; ISO 8601. */
  private readonly overAt = new Map<string, string>();
  /** Unmanaged roles that are given by tokens. */
  private readonly elsewhere = new Set<string>();

  constructor(options: TokenTrustsOptions) {
    this.options = options;
  }

  /** Re-evaluates a service account, after its annotation or its pods changed. */
  account(name: string): void {
    const denied = [...this.options.roles()].filter(({ desired }) => desired.tokenEnds.has(name)).map(({ arn }) => arn);
    for (const arn of new Set([...this.note(name), ...denied])) this.settle(this.options.role(arn), name);
  }

  /** Re-evaluates every service account and every role, after the mappings or the revocations changed, or time passed. */
  all(): void {
    for (const name of new Set([...this.options.names(), ...this.heldBy.keys()])) this.note(name);
    this.revoked = this.revokedByRole();
    const named = this.options.mappings().tokenProxies;
    const known = [...this.options.roles()].filter(({ desired }) => desired.tokens).map(({ arn }) => arn);
    for (const arn of new Set([...named, ...this.byRole.keys(), ...known])) this.settle(this.options.role(arn));
  }

  /** Updates which tokens a service account holds. @returns the roles that it held or holds tokens of. */
  private note(name: string): ReadonlySet<string> {
    const { view } = this.options;
    const request = parseRoleRequest(view.accounts.get(name)?.wanted);
    // The tokens of an ended run end with its pods.
    const held = request && hasLiveAsker(request, view.pods.ofAccount(name)) ? (request.tokens ?? []) : [];
    const before = this.heldBy.get(name) ?? new Set<string>();
    const now = new Set(held.map(({ arn }) => arn));
    for (const arn of before.difference(now)) this.byRole.get(arn)?.delete(name);
    const counts = now.size > 0 ? effectiveRequest(name, view) : undefined;
    for (const arn of now) {
      const holders: Holders = this.byRole.get(arn) ?? new Map();
      holders.set(name, { entitled: isEntitled(counts, arn, this.options.mappings()) });
      this.byRole.set(arn, holders);
    }
    if (now.size > 0) this.heldBy.set(name, now);
    else this.heldBy.delete(name);
    return before.union(now);
  }

  /**
   * Updates the desired part for role tokens from the role's mappings and holders.
   * @param only the service account that changed. With thousands, a change of one must not evaluate all.
   */
  private settle(role: ProxyRole, only?: string): void {
    const { mappings, time, onChange } = this.options;
    const audience = roleTokenAudience(role.arn);
    if (audience === undefined) return;
    const holders = this.byRole.get(role.arn) ?? new Map<string, never>();
    const { desired } = role;
    const { tokens: before, tokenEnds } = desired;
    this.settleEnds(role, holders, only);
    // Runs that have the role by a token keep it while a mapping changes its carrier from tokens to entries.
    const granted = mappings().tokenProxies.has(role.arn) || [...holders.values()].some(({ entitled }) => entitled);
    if (this.isForgotten(role, granted)) {
      desired.tokens = undefined;
      onChange(role);
      return;
    }
    const revoked = this.revokedOf(role.arn);
    const isDenied = (name: string) => granted && Date.parse(tokenEnds.get(name) ?? '') > time.earliest();
    const isRevoked = (name: string) => isDenied(name) && (revoked.has(name) || isShutOut(name, this.options.view));
    const isOneAlone = only !== undefined && before?.granted === granted;
    const next: TokenTrust = isOneAlone
      ? {
          ...before,
          denied: withOrWithout(before.denied, only, isDenied(only)),
          revoked: withOrWithout(before.revoked ?? new Set(), only, isRevoked(only)),
        }
      : { audience, granted, ...split([...tokenEnds.keys()].filter(isDenied), isRevoked) };
    const isNothing = !granted && !before;
    if (isNothing || (before && sameTrust(before, next))) return;
    desired.tokens = next;
    onChange(role);
  }

  /** Updates which service accounts have tokens of the role that must not be used any more. */
  private settleEnds({ arn, desired: { tokenEnds } }: ProxyRole, holders: Holders, only: string | undefined): void {
    const { view, mappings, time, lifeMs } = this.options;
    // An unmanaged trust policy is never written, so no denial can be added to it.
    const isUnmanaged = this.options.isUnmanaged(arn);
    const keyOf = (name: string, until: string) => JSON.stringify([arn, name, until]);
    const revoked = this.revokedOf(arn);
    const left = entriesOf(revoked, only).filter(([name, until]) => !this.lifted.has(keyOf(name, until)));
    for (const [name, until] of isUnmanaged ? [] : left) {
      const isLater = !tokenEnds.has(name) || Date.parse(until) > Date.parse(tokenEnds.get(name) ?? '');
      if (Date.parse(until) > time.earliest() && isLater) tokenEnds.set(name, until);
    }
    for (const [name, until] of entriesOf(tokenEnds, only)) {
      const holder = holders.get(name);
      // AWS does not check whether the pod is live, so the Deny outlasts the revoked run. A later run on its service account
      // that may have the role, by an entry for example, ends the Deny, which would lock out that run too.
      const isIn = holder?.entitled ?? isEntitled(effectiveRequest(name, view), arn, mappings());
      if (isIn || (!holder && Date.parse(until) <= time.earliest())) tokenEnds.delete(name);
      const over = isIn ? revoked.get(name) : undefined;
      if (over !== undefined) this.lifted.add(keyOf(name, over));
    }
    // Counted from now, by this replica's clock: the times on record are by other replicas' clocks.
    const over = tokensOverAt(time.latest(), lifeMs);
    for (const [name, { entitled }] of isUnmanaged ? [] : entriesOf(holders, only)) {
      if (!entitled && !tokenEnds.has(name)) tokenEnds.set(name, over);
    }
  }

  /** Service accounts whose revoked runs may still hold tokens of the role -> when the last one expires. */
  private revokedOf(arn: string): ReadonlyMap<string, string> {
    const named = this.revoked.get(arn) ?? new Map<string, string>();
    const ofAny = this.revoked.get(anyRole);
    if (!ofAny) return named;
    return new Map([
      ...named,
      ...[...ofAny].map(([name, over]) => [name, latest(named.get(name) ?? '', over)] as const),
    ]);
  }

  private revokedByRole(): Map<string, Map<string, string>> {
    const { revocations, time, lifeMs } = this.options;
    const records = revocations();
    for (const run of this.overAt.keys()) if (!records.has(run)) this.overAt.delete(run);
    const found = new Map<string, Map<string, string>>();
    for (const [run, { tokens }] of records) {
      if (!tokens) continue;
      const over = this.overAt.get(run) ?? latest(tokens.until, tokensOverAt(time.latest(), lifeMs));
      this.overAt.set(run, over);
      for (const [name, arns] of Object.entries(tokens.held)) {
        for (const arn of arns) {
          const ends = found.get(arn) ?? new Map<string, string>();
          found.set(arn, ends.set(name, latest(ends.get(name) ?? '', over)));
        }
      }
    }
    return found;
  }

  /** Whether no mapping gives the role by tokens any more, and its trust policy was unmanaged, with nothing for us to remove. */
  private isForgotten({ arn, desired, observed }: ProxyRole, granted: boolean): boolean {
    const { elsewhere } = this;
    const wasElsewhere = elsewhere.delete(arn);
    if (granted && this.options.isUnmanaged(arn)) elsewhere.add(arn);
    return wasElsewhere && !granted && desired.tokens !== undefined && observed.tokens === undefined;
  }
}

/**
 * Whether the mappings still give a role to a service account, by a token or by an entry: a Deny would block both.
 * @param request its effective request. @param arn the ARN of the proxy role.
 */
function isEntitled(request: RoleRequest | undefined, arn: string, mappings: Mappings): boolean {
  const isAllowed = (org: string, target: string, id: string | undefined) => mappings.allows(org, target, arn, id);
  return (
    request?.tokens?.some((one) => one.arn === arn && !one.until && isAllowed(one.org, one.target, one.org_id)) ||
    request?.roles.some((role) => allowedProxies(role, mappings).some((proxy) => proxy.arn === arn)) ||
    false
  );
}

/** Whether a service account holds a working token of the role. @param request its effective request. */
export function holdsToken(request: RoleRequest | undefined, arn: string, mappings: Mappings): boolean {
  return request?.tokens?.some((one) => one.arn === arn) === true && isEntitled(request, arn, mappings);
}

/** Of two times in ISO 8601; '' is before all. */
function latest(one: string, other: string): string {
  return one > other ? one : other;
}

/** @param only the one key to read; all entries where it is left out. */
function entriesOf<T>(map: ReadonlyMap<string, T>, only: string | undefined): [string, T][] {
  if (only === undefined) return [...map];
  const found = map.get(only);
  return found === undefined ? [] : [[only, found]];
}

function split(names: readonly string[], isRevoked: (name: string) => boolean) {
  return { denied: new Set(names), revoked: new Set(names.filter(isRevoked)) };
}

/** @returns the same set where nothing changes. */
function withOrWithout(set: ReadonlySet<string>, name: string, isIn: boolean): ReadonlySet<string> {
  if (set.has(name) === isIn) return set;
  return isIn ? new Set([...set, name]) : set.difference(new Set([name]));
}

function sameTrust(a: TokenTrust, b: TokenTrust): boolean {
  return a.granted === b.granted && sameTokenTrust(a, b) && sameSet(a.revoked, b.revoked);
}
