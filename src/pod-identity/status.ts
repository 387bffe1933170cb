/** Owns the form of a Pod Identity's status, which the leader publishes in one ConfigMap per service account. Pure. */
import { z } from 'zod';
import { driftFields, reasonSchema, statusForm } from '../reconcile/status-form.ts';
import type { Statuses } from '../reconcile/status-store.ts';

export const podIdentityLabel = 'irsa.dominodatalab.com/pod-identity-status';

/**
 * `in_place`: all four parts are in place. `pending`: work is left, or waits. `refused`: a person has to fix something.
 * `leaving`: no mapping names the account any more, and its parts are being removed.
 */
export const podIdentityStates = ['in_place', 'pending', 'refused', 'leaving'] as const;

const statusSchema = z.object({
  service_account: z.string(),
  domino_user: z.string(),
  state: z.enum(podIdentityStates),
  /** What the mapping says, or said before it was deleted. */
  iam_role_arn: z.string(),
  target_role_arn: z.string().optional(),
  session_tags: z.boolean(),
  policy: z.string().optional(),
  /** Which parts are in place. `kept_elsewhere`: the role is unmanaged, so its trust policy is not read. */
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
  /** The idempotency token of a creation that has no answer yet. */
  creating: z.string().optional(),
  /** Roles whose trust policies name the account, or may. */
  trusted_by: z.array(z.string()),
  /** Whether a check saw EKS give new pods credentials; false: the check was not possible, and why. */
  credentials: z.object({ seen: z.boolean(), detail: z.string().optional() }).optional(),
  /** What the account waits for, or what a person has to fix. */
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
