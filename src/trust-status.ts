/** Owns the form in which the writer publishes who is in a proxy role's trust policy: one ConfigMap per role. Pure. */
import { createHash } from 'node:crypto';
import { z } from 'zod';

export const trustStatusLabel = 'irsa.dominodatalab.com/trust-status';
/** On a status ConfigMap: asks the writer to compare the role with IAM now. Its value is an id of the asker's making. */
export const compareAnnotation = 'irsa.dominodatalab.com/compare';
/** On a status ConfigMap: an administrator's word that the brake's held members may go. Its value is the time. */
export const releaseAnnotation = 'irsa.dominodatalab.com/brake-released';
const dataKey = 'status.json';

const statusSchema = z.object({
  role_arn: z.string(),
  /** Service account -> the want that IAM accepted it for, and since when it is in. */
  members: z.record(z.string(), z.object({ want: z.string(), since: z.string() })),
  /** Wants that cannot be had, with the reason. */
  refused: z.array(
    z.object({ account: z.string(), want: z.string(), target: z.string(), code: z.string(), detail: z.string() }),
  ),
  characters_used: z.number(),
  characters_allowed: z.number(),
  written_at: z.string().optional(),
  compared_at: z.string().optional(),
  /** What somebody else changed in the document, last and how often in all: accounts taken out and put in. */
  drift: z
    .object({ at: z.string(), count: z.number(), missing: z.array(z.string()), extra: z.array(z.string()) })
    .optional(),
  /** Somebody keeps changing the document: its repair waits until then. */
  contested_until: z.string().optional(),
  /** Accounts that are not dropped, since dropping so many at once looks like a mistake. */
  brake: z.object({ since: z.string(), held: z.array(z.string()) }).optional(),
  /** The comparison that was last asked for through `compareAnnotation`, once it was made. */
  compare_id: z.string().optional(),
  error: z.object({ code: z.string(), detail: z.string(), said: z.string().optional(), at: z.string() }).optional(),
});

export type TrustStatus = z.infer<typeof statusSchema>;
export type RefusedWant = TrustStatus['refused'][number];

/** The name of a role's status ConfigMap: readable, and unique by a hash of the whole ARN. */
export function statusName(roleArn: string): string {
  const readable = roleArn
    .slice(roleArn.lastIndexOf('/') + 1)
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '')
    .slice(0, 40);
  const hash = createHash('sha256').update(roleArn).digest('hex').slice(0, 12);
  return ['irsa-trust', readable, hash].filter((part) => part !== '').join('-');
}

export function statusData(status: TrustStatus): Record<string, string> {
  return { [dataKey]: JSON.stringify(status) };
}

/** @returns undefined where the ConfigMap holds no status of this form. */
export function parseStatus(data: Record<string, string>): TrustStatus | undefined {
  try {
    return statusSchema.safeParse(JSON.parse(data[dataKey] ?? '')).data;
  } catch {
    return undefined;
  }
}
