/** Owns the record of what a run wants: the annotation on its service account. Pure. */
import { randomUUID } from 'node:crypto';
import { z } from 'zod';

export const wantedAnnotation = 'irsa.dominodatalab.com/wanted';

const roleSchema = z.object({
  target: z.string(),
  /** The candidate proxy roles, in the order of the mapping, each with the organization whose mapping names it. */
  proxies: z.array(z.object({ arn: z.string(), org: z.string() })),
});

const wantSchema = z.object({
  /** Names this want: the writer's answer carries it, so that an answer to an older want is not taken for it. */
  id: z.string().min(1),
  /** The run that asked, 24 hex digits. */
  run: z.string(),
  user: z.object({ id: z.string().min(1), name: z.string() }),
  /** When it was asked for, ISO 8601. */
  at: z.string(),
  workload_type: z.string().optional(),
  roles: z.array(roleSchema),
});

export type Want = z.infer<typeof wantSchema>;
export type WantedRole = z.infer<typeof roleSchema>;

/** A want without what changes from one asking to the next. */
export type WantContent = Omit<Want, 'id' | 'at'>;

export function newWant(content: WantContent, now: number): Want {
  return { id: randomUUID(), at: new Date(now).toISOString(), ...content };
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
  const { id: _id, at: _at, ...recorded } = want;
  return canonical(recorded) === canonical(content);
}

function canonical(content: WantContent): string {
  // The workload type differs between the pods of one run and changes nothing: it is kept as first recorded.
  const { run, user, roles } = content;
  const list = roles.map(({ target, proxies }) => [target, proxies.map(({ arn, org }) => [arn, org])]);
  return JSON.stringify([run, user.id, user.name, list]);
}
