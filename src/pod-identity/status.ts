/** Owns the form in which the leader publishes how a Pod Identity fares: one ConfigMap per service account. Pure. */
import { z } from 'zod';
import { driftFields, reasonSchema, statusForm } from '../reconcile/status-form.ts';
import type { Statuses } from '../reconcile/status-store.ts';

export const podIdentityLabel = 'irsa.dominodatalab.com/pod-identity-status';

/**
 * `in_place`: all four parts stand. `pending`: work is left, or waited for. `refused`: a person must mend something.
 * `leaving`: no mapping names the account any more, and its parts are being taken away.
 */
export const podIdentityStates = ['in_place', 'pending', 'refused', 'leaving'] as const;

const statusSchema = z.object({
  service_account: z.string(),
  domino_user: z.string(),
  state: z.enum(podIdentityStates),
  /** What the mapping says; of one that leaves, what it said last. */
  iam_role_arn: z.string(),
  target_role_arn: z.string().optional(),
  session_tags: z.boolean(),
  policy: z.string().optional(),
  /** Which parts stand. `kept_elsewhere`: the owner of the role keeps the trust policy, which is not looked at here. */
  parts: z.object({
    service_account: z.boolean(),
    trust_policy: z.union([z.boolean(), z.literal('kept_elsewhere')]),
    association: z.boolean(),
    mutation: z.boolean(),
  }),
  association: z
    .object({
      id: z.string(),
      iam_role_arn: z.string(),
      created_at: z.string(),
      external_id: z.string().optional(),
    })
    .optional(),
  /** The idempotency token of a creation whose answer is not here yet. */
  creating: z.string().optional(),
  /** Roles whose trust policies name the account, or may. */
  trusted_by: z.array(z.string()),
  /** Whether EKS was seen to give new pods credentials; false: that could not be looked at, and why. */
  credentials: z.object({ seen: z.boolean(), detail: z.string().optional() }).optional(),
  /** What is waited for, or has to be mended. */
  reason: reasonSchema.optional(),
  ...driftFields,
});

export type PodIdentityStatus = z.infer<typeof statusSchema>;
export type PodIdentityStatuses = Statuses<PodIdentityStatus>;

export const podIdentityStatusForm = statusForm<PodIdentityStatus>({
  label: podIdentityLabel,
  schema: statusSchema,
  prefix: 'irsa-pod-identity',
  keyOf: (status) => status.service_account,
  content: (status) => status,
});
