/** Owns the record of the role tokens that a service account's pods may hold, on its role request. Pure. */

import { longestQuietMs } from '../kubernetes/watch.ts';
import type { Clock } from '../lib/clock.ts';
import type { RevokedTokens } from './revocations.ts';
import type { HeldToken, RequestedRole, RoleRequest, RoleRequestContent } from './role-request.ts';

/** A role that the caller may have by a token, with the organization by which that is so. */
export type TokenRole = Omit<HeldToken, 'until'>;
type Choice = Omit<TokenRole, 'target'>;

/**
 * Added to a token's lifetime: a replica whose watch of revocations went silent may give one until it notices that, and the
 * clocks of the API server and of AWS may differ.
 */
const tokenLeewayMs = longestQuietMs + 60_000;

/** The roles that the service account's run may still use by tokens, in the form of roles that are given by entries. */
export function rolesByToken({ tokens = [] }: Pick<RoleRequest, 'tokens'>): RequestedRole[] {
  const held = tokens.filter(({ until }) => until === undefined);
  return held.map(({ target, until: _over, ...proxy }) => ({ target, proxies: [proxy] }));
}

/** When every token that was given until now has surely expired, ISO 8601. */
export function tokensOverAt(now: number, lifeMs: number): string {
  return new Date(now + lifeMs + tokenLeewayMs).toISOString();
}

/** In a record of revoked tokens: the service account may hold tokens of any role. */
export const anyRole = '*';

/** A longer record of revoked tokens names no roles, so that the ConfigMap has capacity for other revocations. */
const mostRecordedChars = 16_384;
/** The longest record that names no roles: more than a thousand service accounts of one run. */
const mostNamesChars = 65_536;

/** The tokens that a revocation records. @param held service account -> the tokens that its pods may hold. */
export function revokedTokens(
  held: ReadonlyMap<string, readonly Pick<HeldToken, 'arn'>[]>,
  now: number,
  lifeMs: number,
): RevokedTokens | undefined {
  const roles = [...held].map(([name, list]) => [name, [...new Set(list.map(({ arn }) => arn))].sort()] as const);
  const some = roles.filter(([, arns]) => arns.length > 0);
  if (some.length === 0) return undefined;
  const until = tokensOverAt(now, lifeMs);
  const named = Object.fromEntries(some);
  if (JSON.stringify(named).length <= mostRecordedChars) return { until, held: named };
  let left = mostNamesChars;
  const fitting = some.filter(([name]) => {
    left -= JSON.stringify({ [name]: [anyRole] }).length;
    return left >= 0;
  });
  return { until, held: Object.fromEntries(fitting.map(([name]) => [name, [anyRole]])) };
}

/**
 * The tokens to record: those of the roles given now, and those that the account may still hold.
 * @param known the request on record, of the same user. @param given the roles whose tokens are about to be given.
 * @param choiceFor the organization by which the caller may have a role, if any.
 * @param now milliseconds since the epoch. @param lifeMs of a token.
 */
function heldTokens(
  known: RoleRequest | undefined,
  given: readonly TokenRole[],
  choiceFor: (target: string, proxy: string) => Choice | undefined,
  { now, lifeMs }: { now: number; lifeMs: number },
): HeldToken[] {
  const isSame = (one: { target: string; arn: string }, other: { target: string; arn: string }) =>
    one.target === other.target && one.arn === other.arn;
  const before = (known?.tokens ?? []).filter((held) => !given.some((one) => isSame(one, held)));
  const kept = before.flatMap((held): HeldToken[] => {
    const choice = choiceFor(held.target, held.arn);
    const { until, ...role } = held;
    if (choice) return [{ ...role, ...choice }];
    const over = until ?? tokensOverAt(now, lifeMs);
    return Date.parse(over) > now ? [{ ...role, until: over }] : [];
  });
  const all = [...kept, ...given.map(({ target, arn, org, org_id }) => ({ target, arn, org, org_id }))];
  return all.sort((a, b) => (a.target + a.arn < b.target + b.arn ? -1 : 1));
}

/** The content of a request with the tokens of `heldTokens`; another user's tokens on the account are left out. */
export function withHeldTokens(
  content: RoleRequestContent,
  known: RoleRequest | undefined,
  given: readonly TokenRole[],
  choiceFor: (target: string, proxy: string) => Choice | undefined,
  { clock, roleTokenSeconds }: { clock: Pick<Clock, 'now'>; roleTokenSeconds: number },
): RoleRequestContent {
  const own = known?.user.id === content.user.id ? known : undefined;
  const tokens = heldTokens(own, given, choiceFor, { now: clock.now(), lifeMs: roleTokenSeconds * 1000 });
  return tokens.length === 0 ? content : { ...content, tokens };
}
