/** Owns the form in which the writer publishes who is in a proxy role's trust policy: one ConfigMap per role. Pure. */
import { z } from 'zod';
import { configMapName, jsonStatus } from './status-form.ts';
import type { Statuses, StatusForm } from './statuses.ts';

export const trustStatusLabel = 'irsa.dominodatalab.com/trust-status';
/** On a status ConfigMap: asks the writer to compare the role with IAM now. Its value is an id of the asker's making. */
export const compareAnnotation = 'irsa.dominodatalab.com/compare';
/** On a status ConfigMap: an administrator's word that the brake's held members may go. Its value is the time. */
export const releaseAnnotation = 'irsa.dominodatalab.com/brake-released';

const statusSchema = z.object({
  role_arn: z.string(),
  /** An organization's mapping names it, or did: subjects of ours in it are ours to keep. */
  proxy: z.literal(true).optional(),
  /** Service account -> the want that IAM accepted it for, and since when it is in. */
  members: z.record(z.string(), z.object({ want: z.string(), since: z.string() })),
  /** Wants that cannot be had, with the reason. */
  refused: z.array(
    z.object({ account: z.string(), want: z.string(), target: z.string(), code: z.string(), detail: z.string() }),
  ),
  /** Service accounts that EKS Pod Identity may assume the role for; open: any, where session tags are off. */
  pods: z.object({ accounts: z.array(z.string()), open: z.boolean() }).optional(),
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
export type TrustStatuses = Statuses<TrustStatus>;
export type RefusedWant = TrustStatus['refused'][number];

/** The name of a role's status ConfigMap. */
export function statusName(roleArn: string): string {
  return configMapName('irsa-trust', roleArn.slice(roleArn.lastIndexOf('/') + 1), roleArn);
}

export const trustStatusForm: StatusForm<TrustStatus> = {
  label: trustStatusLabel,
  keyOf: (status) => status.role_arn,
  nameOf: statusName,
  ...jsonStatus(statusSchema),
  // The time of the last comparison alone is not worth a write.
  content: ({ compared_at: _when, ...content }) => content,
};
