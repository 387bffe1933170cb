/** Owns the record of what a run wants: the annotation on its service account. Pure. */
import { randomUUID } from 'node:crypto';
import { z } from 'zod';

export const wantedAnnotation = 'irsa.dominodatalab.com/wanted';

/** How long the watch of pods may take to show a run that asked. */
const newMs = 60_000;
/** So many that it does not show are kept: an account on which somebody always asks would never let go of the ended. */
const mostUnseen = 50;

const roleSchema = z.object({
  target: z.string(),
  /** The candidate proxy roles, in the order of the mapping, each with the organization whose mapping names it. */
  proxies: z.array(z.object({ arn: z.string(), org: z.string() })),
});

const wantSchema = z.object({
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
});

export type Want = z.infer<typeof wantSchema>;
export type WantedRole = z.infer<typeof roleSchema>;

/** A want without what changes from one asking to the next. */
export type WantContent = Omit<Want, 'id' | 'at' | 'also'>;

/** @param also other runs that asked for the account, and live. @param now milliseconds since the epoch. */
export function newWant(content: WantContent, now: number, also: readonly string[] = []): Want {
  const others = also.length > 0 ? { also: [...also].sort() } : {};
  return { id: randomUUID(), at: new Date(now).toISOString(), ...content, ...others };
}

/** @returns undefined where there is no annotation, or one that is no want: cleared, or somebody else's making. */
export function parseWant(annotation: string | undefined): Want | undefined {
  if (annotation === undefined) return undefined;
  try {
    return wantSchema.safeParse(JSON.parse(annotation)).data;
  } catch {
    return undefined;
  }
}

/** Whether a new request wants nothing else than what is on record, so that the record can stay. */
export function sameContent(want: Want, content: WantContent): boolean {
  return canonical(want) === canonical(content);
}

/** Whether who gets what is wanted here gets all of that content too: the same user's, each role through the same proxies. */
export function covers(want: Want, content: WantContent): boolean {
  const roles = new Set(want.roles.map((role) => JSON.stringify([role.target, role.proxies])));
  return (
    want.user.id === content.user.id &&
    content.roles.every((role) => roles.has(JSON.stringify([role.target, role.proxies])))
  );
}

/** The runs that asked for what is wanted. */
export function askersOf(want: Pick<Want, 'run' | 'also'>): ReadonlySet<string> {
  return new Set([want.run, ...(want.also ?? [])]);
}

/**
 * The other runs of this user that asked for the account before, and still use it, or have just begun to.
 * @param alive the runs whose pods are seen to use it. @param now milliseconds since the epoch.
 */
export function otherAskers(
  known: Want | undefined,
  content: WantContent,
  alive: ReadonlySet<string | undefined>,
  now: number,
): string[] {
  if (known?.user.id !== content.user.id) return [];
  const others = [...askersOf(known)].filter((run) => run !== content.run);
  // Their pods may be too new to be seen. Whoever has ended counts for nothing; a run's id begins with its time.
  const isNew = now - Date.parse(known.at) < newMs;
  const unseen = isNew ? others.filter((run) => !alive.has(run)).sort() : [];
  return [...others.filter((run) => alive.has(run)), ...unseen.slice(-mostUnseen)];
}

function canonical(content: WantContent): string {
  // The workload type differs between the pods of one run and changes nothing: it is kept as first recorded.
  const { run, user, roles } = content;
  const list = roles.map(({ target, proxies }) => [target, proxies.map(({ arn, org }) => [arn, org])]);
  return JSON.stringify([run, user.id, user.name, list]);
}
