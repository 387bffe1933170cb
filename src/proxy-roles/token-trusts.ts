/** Owns which roles let role tokens in, and which service accounts may not use theirs any more. In memory, without I/O. */
import { roleTokenAudience } from '../lib/arn.ts';
import type { TimeRange } from '../lib/clock.ts';
import type { Mappings } from '../mappings/role-mappings.ts';
import { effectiveRequest, hasLiveAsker, type RequestView } from '../runs/effective-request.ts';
import { tokensOverAt } from '../runs/held-tokens.ts';
import type { Revocation } from '../runs/revocations.ts';
import { parseRoleRequest, type RoleRequest } from '../runs/role-request.ts';
import { sameTokenTrust, type TokenTrust } from '../trust-policy/role-tokens.ts';
import { allowedProxies } from './placement.ts';
import type { ProxyRole } from './proxy-role.ts';

export interface TokenTrustsOptions {
  view: RequestView;
  /** The names of all service accounts that carry a request. */
  names: () => Iterable<string>;
  mappings: () => Mappings;
  /** The runs that were shut out, by id. */
  revocations: () => ReadonlyMap<string, Revocation>;
  /** How long a role token lives. */
  lifeMs: number;
  time: TimeRange;
  role: (arn: string) => ProxyRole;
  roles: () => Iterable<ProxyRole>;
  /** Called for each role whose desired tokens changed. */
  onChange: (role: ProxyRole) => void;
}

/** The holders of a role's tokens: whether each may have the role now. */
type Holders = Map<string, { entitled: boolean }>;

export class TokenTrusts {
  private readonly options: TokenTrustsOptions;
  private readonly byRole = new Map<string, Holders>();
  /** Service account -> the roles whose tokens it may hold. */
  private readonly heldBy = new Map<string, ReadonlySet<string>>();

  /** When each revoked run was known to be, at the latest. */
  private readonly revokedSince = new Map<string, number>();

  constructor(options: TokenTrustsOptions) {
    this.options = options;
  }

  /** Looks at a service account anew, after its annotation or its pods changed. */
  account(name: string): void {
    const denied = [...this.options.roles()].filter(({ desired }) => desired.tokenEnds.has(name)).map(({ arn }) => arn);
    for (const arn of new Set([...this.note(name), ...denied])) this.settle(this.options.role(arn));
  }

  /** Looks at every service account and every role anew: after the mappings or the revocations changed, or time passed. */
  all(): void {
    const revoked = this.options.revocations();
    for (const run of this.revokedSince.keys()) if (!revoked.has(run)) this.revokedSince.delete(run);
    for (const name of new Set([...this.options.names(), ...this.heldBy.keys()])) this.note(name);
    const named = this.options.mappings().tokenProxies;
    const known = [...this.options.roles()].filter(({ desired }) => desired.tokens).map(({ arn }) => arn);
    for (const arn of new Set([...named, ...this.byRole.keys(), ...known])) this.settle(this.options.role(arn));
  }

  /** @returns the roles that it concerns, before or now. */
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

  /** Brings what is desired of the role in line with its mappings and its holders. */
  private settle(role: ProxyRole): void {
    const { view, mappings, time, lifeMs, onChange } = this.options;
    const audience = roleTokenAudience(role.arn);
    if (audience === undefined) return;
    const holders: Holders = this.byRole.get(role.arn) ?? new Map();
    const { desired } = role;
    this.noteEnded(role, holders);
    for (const [name, until] of [...desired.tokenEnds]) {
      const holder = holders.get(name);
      // AWS does not ask whether a pod lives: a Deny outlasts the run that was shut out. A later run on its service account
      // that may have the role, by an entry say, ends it, since a Deny would end that too.
      const isIn = holder?.entitled ?? isEntitled(effectiveRequest(name, view), role.arn, mappings());
      if (isIn || (!holder && Date.parse(until) <= time.earliest())) desired.tokenEnds.delete(name);
    }
    // From when we saw it, by our own clock: what others wrote was by theirs.
    const over = tokensOverAt(time.latest(), lifeMs);
    for (const [name, { entitled }] of holders) {
      if (!entitled && !desired.tokenEnds.has(name)) desired.tokenEnds.set(name, over);
    }
    // Runs that have it by a token keep it while a mapping moves the role to entries.
    const granted = mappings().tokenProxies.has(role.arn) || [...holders.values()].some(({ entitled }) => entitled);
    const late = [...desired.tokenEnds].filter(([, until]) => granted && Date.parse(until) > time.earliest());
    const next: TokenTrust = { audience, granted, denied: new Set(late.map(([name]) => name)) };
    const isNothing = !granted && !desired.tokens;
    if (isNothing || (desired.tokens && sameTrust(desired.tokens, next))) return;
    desired.tokens = next;
    onChange(role);
  }

  /** Shuts out the service accounts of revoked runs that have ended, perhaps before any leader had written their Deny. */
  private noteEnded({ arn, desired: { tokenEnds } }: ProxyRole, holders: Holders): void {
    const { revocations, lifeMs, time } = this.options;
    for (const [run, { at, tokens = {} }] of revocations()) {
      const since = this.revokedSince.get(run) ?? Math.max(Date.parse(at), time.latest());
      this.revokedSince.set(run, since);
      for (const [name, roles] of Object.entries(tokens)) {
        if (!roles.includes(arn) || holders.has(name) || tokenEnds.has(name)) continue;
        tokenEnds.set(name, tokensOverAt(since, lifeMs));
      }
    }
  }
}

/**
 * Whether the mappings still give a role to who asked and may hold a token of it, by either carrier: a Deny would end both.
 * @param request as it counts now. @param arn the proxy role's.
 */
function isEntitled(request: RoleRequest | undefined, arn: string, mappings: Mappings): boolean {
  const isAllowed = (org: string, target: string, id: string | undefined) => mappings.allows(org, target, arn, id);
  return (
    request?.tokens?.some((one) => one.arn === arn && !one.until && isAllowed(one.org, one.target, one.org_id)) ||
    request?.roles.some((role) => allowedProxies(role, mappings).some((proxy) => proxy.arn === arn)) ||
    false
  );
}

/** Whether a service account holds a token of the role that works. @param request as it counts now. */
export function holdsToken(request: RoleRequest | undefined, arn: string, mappings: Mappings): boolean {
  return request?.tokens?.some((one) => one.arn === arn) === true && isEntitled(request, arn, mappings);
}

function sameTrust(a: TokenTrust, b: TokenTrust): boolean {
  return a.granted === b.granted && sameTokenTrust(a, b);
}
