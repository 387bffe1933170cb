/** Owns the form in which the writer publishes how a Pod Identity fares: one ConfigMap per service account. Pure. */
import { z } from 'zod';
import { configMapName, jsonStatus } from './status-form.ts';
import type { Statuses, StatusForm } from './statuses.ts';

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
  /** Which parts stand. `kept_elsewhere`: somebody else keeps the trust policy, and nobody here knows. */
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
  /** What is waited for, or has to be mended. */
  reason: z.object({ code: z.string(), detail: z.string(), said: z.string().optional(), at: z.string() }).optional(),
  /** What somebody else changed, last and how often in all. */
  drift: z
    .object({ at: z.string(), count: z.number(), missing: z.array(z.string()), extra: z.array(z.string()) })
    .optional(),
  /** Somebody keeps changing it: its repair waits until then. */
  contested_until: z.string().optional(),
});

export type PodIdentityStatus = z.infer<typeof statusSchema>;
export type PodIdentityStatuses = Statuses<PodIdentityStatus>;

export const podIdentityStatusForm: StatusForm<PodIdentityStatus> = {
  label: podIdentityLabel,
  keyOf: (status) => status.service_account,
  nameOf: (account) => configMapName('irsa-pod-identity', account, account),
  ...jsonStatus(statusSchema),
  content: (status) => status,
};
