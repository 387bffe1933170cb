/** Owns the record of the role tokens that a service account's pods may hold, on its role request. Pure. */

import { longestQuietMs } from '../kubernetes/watch.ts';
import type { Clock } from '../lib/clock.ts';
import type { RevokedTokens } from './revocations.ts';
import type { HeldToken, RequestedRole, RoleRequest, RoleRequestContent } from './role-request.ts';

/** A proxy role, with the organization by which the caller may have it. */
interface Choice {
  arn: string;
  org: string;
  org_id?: string | undefined;
}

/** A role that the caller may have by a token. */
export interface TokenRole extends Choice {
  target: string;
}

/**
 * Beyond a token's life: a replica whose watch of revocations went silent may give one until it notices that, and the clocks
 * of the API server and of AWS may differ.
 */
export const tokenLeewayMs = longestQuietMs + 60_000;

/** The roles that come by tokens which the service account's run may still use, in the form of those that come by entries. */
export function rolesByToken({ tokens = [] }: Pick<RoleRequest, 'tokens'>): RequestedRole[] {
  const held = tokens.filter(({ until }) => until === undefined);
  return held.map(({ target, until: _over, ...proxy }) => ({ target, proxies: [proxy] }));
}

/** When a token that is given now, or was given before, is surely over; ISO 8601. */
export function tokensOverAt(now: number, lifeMs: number): string {
  return new Date(now + lifeMs + tokenLeewayMs).toISOString();
}

/** In a record of revoked tokens: the service account may hold tokens of any role. */
export const anyRole = '*';

/** Beyond it a record of revoked tokens names no roles: it would take the place of other revocations. */
const mostRecordedChars = 16_384;
/** Of a record without roles, which has room for a thousand service accounts of one run. */
const mostNamesChars = 65_536;

/** What a revocation keeps on record of the tokens. @param held service account -> the tokens that its pods may hold. */
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
 * What to keep on record: the roles that tokens are given for now, and those that the account may still hold tokens of.
 * @param known the request on record, of the same user. @param given the roles whose tokens are about to be given.
 * @param choiceFor the organization by which the caller may have a role, if any.
 * @param now milliseconds since the epoch. @param lifeMs of a token.
 */
export function heldTokens(
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
  const all = [
    ...kept,
    ...given.map(({ target, arn, org, org_id }) => ({ target, arn, org, ...(org_id === undefined ? {} : { org_id }) })),
  ];
  return all.sort((a, b) => (a.target + a.arn < b.target + b.arn ? -1 : 1));
}

/** The content of a request with what `heldTokens` keeps on record; tokens that another user got on the account are not ours. */
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
