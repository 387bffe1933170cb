/** Owns the role request: the annotation on a service account with the roles that its run wants. Pure. */
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { parseJson } from '../lib/json.ts';

/** How long the watch of pods may take to show a run that asked. */
const newMs = 60_000;
/** How many runs that it does not show are kept: the list of an account with constant requests would grow without end. */
const mostUnseen = 50;

const roleSchema = z.object({
  target: z.string(),
  /** The candidate proxy roles, in the order of the mapping, each with the organization whose mapping names it. */
  proxies: z.array(
    z.object({
      arn: z.string(),
      org: z.string(),
      /** Domino's id of that organization. Requests of older releases have none. */
      org_id: z.string().optional(),
    }),
  ),
});

const heldTokenSchema = z.object({
  target: z.string(),
  /** The proxy role, whose name is the audience. */
  arn: z.string(),
  org: z.string(),
  org_id: z.string().optional(),
  /** Set where the run may not have the role any more: when the last token that it got expires, ISO 8601. */
  until: z.string().optional(),
});

const roleRequestSchema = z.object({
  /** Identifies this request: the leader's answer carries it, so that an answer to an older request is not taken for it. */
  id: z.string().min(1),
  /** The run that asked last, 24 hex digits. */
  run: z.string(),
  /** Other runs of the same user that asked before and use the account too: live at the last request, or too new to be seen. */
  also: z.array(z.string()).optional(),
  user: z.object({ id: z.string().min(1), name: z.string() }),
  /** When the request was made, ISO 8601. */
  at: z.string(),
  workload_type: z.string().optional(),
  roles: z.array(roleSchema),
  /** The roles whose tokens the account's pods may hold. */
  tokens: z.array(heldTokenSchema).optional(),
});

export type HeldToken = z.infer<typeof heldTokenSchema>;
export type RoleRequest = z.infer<typeof roleRequestSchema>;
export type RequestedRole = z.infer<typeof roleSchema>;

/**
 * The annotations of an object hold at most 262,144 bytes in all. The rest is for other tools' annotations and for `also`.
 * https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/ (TotalAnnotationSizeLimitB)
 */
export const maxRoleRequestBytes = 262_144 - 16_384;

/** A request without the fields that differ each time it is made. */
export type RoleRequestContent = Omit<RoleRequest, 'id' | 'at' | 'also'>;

/** @param also other live runs that asked for the account. @param now milliseconds since the epoch. */
export function newRoleRequest(content: RoleRequestContent, now: number, also: readonly string[] = []): RoleRequest {
  const others = also.length > 0 ? { also: [...also].sort() } : {};
  return { id: randomUUID(), at: new Date(now).toISOString(), ...content, ...others };
}

/** How many bytes these mappings of an organization take in a member's request; nearly the same for each member. */
export function roleRequestBytes(
  org: string,
  mappings: readonly { iam_role_arn: string; proxy_iam_role_arn: string }[],
): number {
  const id = 'f'.repeat(24);
  const byTarget = Map.groupBy(mappings, ({ iam_role_arn: target }) => target);
  const roles = [...byTarget].map(([target, list]): RequestedRole => {
    return { target, proxies: list.map(({ proxy_iam_role_arn: arn }) => ({ arn, org, org_id: id })) };
  });
  return Buffer.byteLength(JSON.stringify(newRoleRequest({ run: id, user: { id, name: id }, roles }, 0)));
}

/** @returns undefined where there is no annotation, or one without a request: cleared, or not written by this service. */
export function parseRoleRequest(annotation: string | undefined): RoleRequest | undefined {
  return annotation === undefined ? undefined : parseJson(roleRequestSchema, annotation);
}

/** Whether a new request wants the same as the one on record, which can then stay. */
export function sameContent(request: RoleRequest, content: RoleRequestContent): boolean {
  return canonical(request) === canonical(content);
}

/**
 * Whether a request is on record already: the record wants the same for the same user, and the run is one that asked.
 * @param alive the runs with live pods on the account; a record of a run that has ended is replaced.
 */
export function isOnRecord(
  known: RoleRequest,
  content: RoleRequestContent,
  alive: ReadonlySet<string | undefined>,
): boolean {
  const isAsker = known.run === content.run || (askersOf(known).has(content.run) && alive.has(known.run));
  return isAsker && sameContent({ ...known, run: content.run }, content);
}

/** Whether a request includes all of the content: for the same user, each role through the same proxies. */
export function covers(request: RoleRequest, content: RoleRequestContent): boolean {
  const roles = new Set(request.roles.map((role) => JSON.stringify([role.target, role.proxies])));
  return (
    request.user.id === content.user.id &&
    content.roles.every((role) => roles.has(JSON.stringify([role.target, role.proxies])))
  );
}

/** The runs that made the request. */
export function askersOf(request: Pick<RoleRequest, 'run' | 'also'>): ReadonlySet<string> {
  return new Set([request.run, ...(request.also ?? [])]);
}

/**
 * The other runs of this user that asked for the account before, and still use it, or have just begun to.
 * @param alive the runs with live pods on it. @param now milliseconds since the epoch.
 */
export function otherAskers(
  known: RoleRequest | undefined,
  content: RoleRequestContent,
  alive: ReadonlySet<string | undefined>,
  now: number,
): string[] {
  if (known?.user.id !== content.user.id) return [];
  const others = [...askersOf(known)].filter((run) => run !== content.run);
  // The watch may not show their pods yet. Keeping an ended run does no harm. A run's id begins with its time: the newest stay.
  const isNew = now - Date.parse(known.at) < newMs;
  const unseen = isNew ? others.filter((run) => !alive.has(run)).sort() : [];
  return [...others.filter((run) => alive.has(run)), ...unseen.slice(-mostUnseen)];
}

function canonical(content: RoleRequestContent): string {
  // The workload type differs between the pods of one run and changes nothing: it is kept as first recorded.
  const { run, user, roles, tokens = [] } = content;
  const held = tokens.map(({ target, arn, org, org_id, until }) => [target, arn, org, org_id, until]);
  const list = roles.map(({ target, proxies }) => [target, proxies.map(({ arn, org, org_id }) => [arn, org, org_id])]);
  return JSON.stringify([run, user.id, user.name, list, held]);
}
