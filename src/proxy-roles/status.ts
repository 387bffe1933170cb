/** Owns the form of a proxy role's status, which the leader publishes in one ConfigMap per role. Pure. */
import { z } from 'zod';
import { driftFields, reasonSchema, statusForm } from '../reconcile/status-form.ts';
import type { Statuses } from '../reconcile/status-store.ts';
import { podTrustProblemCodes } from '../trust-policy/pod-identity-unmanaged.ts';

export const trustStatusLabel = 'irsa.dominodatalab.com/trust-status';
/** On a status ConfigMap: asks the leader to compare the role with IAM now. Its value is an id that the requester chooses. */
export const compareAnnotation = 'irsa.dominodatalab.com/compare';
/** On a status ConfigMap: `true` asks the leader to remove our subjects from a role that has become unmanaged. */
export const removeAnnotation = 'irsa.dominodatalab.com/remove-subjects';
const backgroundPrefix = 'background-';
/** The id of a comparison without priority over waiting requests. */
export const backgroundId = (id: string): string => backgroundPrefix + id;
export const isBackgroundId = (id: string): boolean => id.startsWith(backgroundPrefix);
/** On a status ConfigMap: an administrator allowed the removal of the members that the guard holds. Its value is the time. */
export const releaseAnnotation = 'irsa.dominodatalab.com/brake-released';

export const tokensProblemCodes = ['audience_missing', 'trust_policy_full'] as const;
export type TokensProblemCode = (typeof tokensProblemCodes)[number];

const statusSchema = z.object({
  role_arn: z.string(),
  /** An organization's mapping names it, or did: this service manages its subjects in the document. */
  proxy: z.literal(true).optional(),
  /** Service account -> the id of the request that IAM accepted it for, and since when it is a member. */
  members: z.record(z.string(), z.object({ want: z.string(), since: z.string() })),
  /** Other accounts that our subjects let in, or may: of an earlier release, held by the removal guard, or not removed yet. */
  others: z.array(z.string()).optional(),
  /** The document that IAM showed or accepted last, so that each replica can tell which service accounts it lets in. */
  document: z.string().optional(),
  /** The document may be older than the previous leader's last write. */
  unread: z.literal(true).optional(),
  /** A mapping says that the role is unmanaged: subjects of ours stay in its trust policy until its owner removes them. */
  kept_elsewhere: z.literal(true).optional(),
  /** Requests that cannot be met, with the reason. */
  refused: z.array(
    z.object({ account: z.string(), want: z.string(), target: z.string(), code: z.string(), detail: z.string() }),
  ),
  /** Service accounts that EKS Pod Identity may assume the role for; open: any, where session tags are off. */
  pods: z.object({ accounts: z.array(z.string()), open: z.boolean() }).optional(),
  /** The problem that unmanaged statements of the document cause for Pod Identity. */
  pods_problem: z.object({ code: z.enum(podTrustProblemCodes), detail: z.string() }).optional(),
  /** The part for role tokens; missing where no mapping gives the role by them, and none is left. */
  tokens: z
    .object({
      /** Whether IAM accepted, or showed, the statement that lets them in. */
      granted: z.boolean(),
      /** Service account -> when the last of its tokens that must not be used any more expires. */
      denied: z.record(z.string(), z.string()),
      /** Why a token would not work, or not all of these are denied. */
      problem: z.object({ code: z.enum(tokensProblemCodes), detail: z.string() }).optional(),
    })
    .optional(),
  characters_used: z.number(),
  characters_allowed: z.number(),
  written_at: z.string().optional(),
  compared_at: z.string().optional(),
  ...driftFields,
  /** Members that the removal guard holds, since removing so many at once looks like a mistake. */
  brake: z.object({ since: z.string(), held: z.array(z.string()) }).optional(),
  /** The comparison that was last requested through `compareAnnotation`, once it was made. */
  compare_id: z.string().optional(),
  error: reasonSchema.optional(),
});

export type TrustStatus = z.infer<typeof statusSchema>;
export type TrustStatuses = Statuses<TrustStatus>;
export type RefusedRequest = TrustStatus['refused'][number];

export const trustStatusForm = statusForm<TrustStatus>(
  {
    label: trustStatusLabel,
    schema: statusSchema,
    prefix: 'irsa-trust',
    keyOf: (status) => status.role_arn,
    // The time of the last comparison alone is not worth a write.
    content: ({ compared_at: _when, ...content }) => content,
  },
  (arn) => arn.slice(arn.lastIndexOf('/') + 1),
);

/** The name of a role's status ConfigMap. */
export const statusName = trustStatusForm.nameOf;
