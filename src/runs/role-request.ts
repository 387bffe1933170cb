/** Owns the record of what a run wants: the annotation on its service account. Pure. */
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { parseJson } from '../lib/json.ts';

/** How long the watch of pods may take to show a run that asked. */
const newMs = 60_000;
/** So many that it does not show are kept: an account on which somebody always asks would never let go of the ended. */
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
  /** The run may not have it any more: until when the last token that it got may live, ISO 8601. */
  until: z.string().optional(),
});

const roleRequestSchema = z.object({
  /** Names this want: the writer's answer carries it, so that an answer to an older want is not taken for it. */
  id: z.string().min(1),
  /** The run that asked last, 24 hex digits. */
  run: z.string(),
  /** Other runs of the same user that asked before, use the account too, and lived when the last one asked, or were too new to be seen. */
  also: z.array(z.string()).optional(),
  user: z.object({ id: z.string().min(1), name: z.string() }),
  /** When it was asked for, ISO 8601. */
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
 * The annotations of an object hold at most 262,144 bytes in all; other tools' are counted too, and the list of askers.
 * https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/ (TotalAnnotationSizeLimitB)
 */
export const maxRoleRequestBytes = 262_144 - 16_384;

/** A request without what changes from one asking to the next. */
export type RoleRequestContent = Omit<RoleRequest, 'id' | 'at' | 'also'>;

/** @param also other runs that asked for the account, and live. @param now milliseconds since the epoch. */
export function newRoleRequest(content: RoleRequestContent, now: number, also: readonly string[] = []): RoleRequest {
  const others = also.length > 0 ? { also: [...also].sort() } : {};
  return { id: randomUUID(), at: new Date(now).toISOString(), ...content, ...others };
}

/** How many bytes these mappings of an organization take in a request of its member, much the same for each member. */
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

/** @returns undefined where there is no annotation, or one that is no request: cleared, or not written by this service. */
export function parseRoleRequest(annotation: string | undefined): RoleRequest | undefined {
  return annotation === undefined ? undefined : parseJson(roleRequestSchema, annotation);
}

/** Whether a new request wants nothing else than what is on record, so that the record can stay. */
export function sameContent(request: RoleRequest, content: RoleRequestContent): boolean {
  return canonical(request) === canonical(content);
}

/**
 * Whether the record has a request already: it wants the same for the same user, and the run is one of those that asked.
 * @param alive the runs whose pods are seen to use the account; a record of a run that has ended is made anew.
 */
export function isOnRecord(
  known: RoleRequest,
  content: RoleRequestContent,
  alive: ReadonlySet<string | undefined>,
): boolean {
  const isAsker = known.run === content.run || (askersOf(known).has(content.run) && alive.has(known.run));
  return isAsker && sameContent({ ...known, run: content.run }, content);
}

/** Whether who gets what is wanted here gets all of that content too: the same user's, each role through the same proxies. */
export function covers(request: RoleRequest, content: RoleRequestContent): boolean {
  const roles = new Set(request.roles.map((role) => JSON.stringify([role.target, role.proxies])));
  return (
    request.user.id === content.user.id &&
    content.roles.every((role) => roles.has(JSON.stringify([role.target, role.proxies])))
  );
}

/** The runs that asked for what is wanted. */
export function askersOf(request: Pick<RoleRequest, 'run' | 'also'>): ReadonlySet<string> {
  return new Set([request.run, ...(request.also ?? [])]);
}

/**
 * The other runs of this user that asked for the account before, and still use it, or have just begun to.
 * @param alive the runs whose pods are seen to use it. @param now milliseconds since the epoch.
 */
export function otherAskers(
  known: RoleRequest | undefined,
  content: RoleRequestContent,
  alive: ReadonlySet<string | undefined>,
  now: number,
): string[] {
  if (known?.user.id !== content.user.id) return [];
  const others = [...askersOf(known)].filter((run) => run !== content.run);
  // Their pods may be too new to be seen. Runs that ended count for nothing; a run's id begins with its time.
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
