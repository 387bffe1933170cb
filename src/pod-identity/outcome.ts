/** Owns the dependencies and the outcomes of a Pod Identity's reconcile, and the helpers that its parts share. */
import type { Kubernetes, ServiceAccount } from '../kubernetes/client.ts';
import type { Watched } from '../kubernetes/watch.ts';
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';
import type { RoleError } from '../proxy-roles/proxy-role.ts';
import { type Drift, reportDrift } from '../reconcile/drift.ts';
import type { PodIndex } from '../runs/runs.ts';
import type { Associations } from './association-client.ts';
import type { MutationKeeper } from './mutation-client.ts';
import type { PodIdentityReason, PodIdentityRecord } from './record.ts';
import type { PodTrustKeeper } from './trust-client.ts';

export interface PodIdentityReconcileDeps {
  associations: Associations;
  accounts: Pick<Watched<ServiceAccount>, 'get'>;
  pods: Pick<PodIndex, 'ofAccount'>;
  kubernetes: Pick<
    Kubernetes,
    'createServiceAccount' | 'getServiceAccount' | 'deleteServiceAccount' | 'listPodsOfAccount' | 'dryRunPod'
  >;
  trust: PodTrustKeeper;
  mutation: MutationKeeper;
  /** Whether the role is unmanaged: its owner keeps its trust policy. */
  isUnmanaged: (role: string) => boolean;
  /** Publishes what is about to be done, so that the next leader can finish or undo it. */
  publish: (record: PodIdentityRecord) => Promise<void>;
  mayWrite: () => boolean;
  onDrift: (record: PodIdentityRecord, drift: Drift, pauseMs: number) => void;
  clock: Clock;
  log: Log;
}

export type PodIdentityOutcome =
  | { kind: 'in_place' }
  /** All parts are removed. */
  | { kind: 'gone' }
  /** Something else has to happen first, and will start the next reconcile; or so much time has to pass. */
  | { kind: 'waiting'; reason: PodIdentityReason; afterMs?: number | undefined }
  | { kind: 'refused'; reason: PodIdentityReason };

export const wait = (code: PodIdentityReason['code'], detail: string, afterMs?: number): PodIdentityOutcome => ({
  kind: 'waiting',
  reason: { code, detail },
  afterMs,
});
export const refuse = (reason: PodIdentityReason): PodIdentityOutcome => ({ kind: 'refused', reason });
export const refuseForRole = ({ code, detail, said }: RoleError): PodIdentityOutcome =>
  refuse({ code: code as PodIdentityReason['code'], detail, said });

export function drifted(
  deps: PodIdentityReconcileDeps,
  record: PodIdentityRecord,
  missing: string[],
  extra: string[],
): number {
  const onDrift = (drift: Drift, pauseMs: number) => deps.onDrift(record, drift, pauseMs);
  const message = 'what Pod Identity needs was changed externally';
  const what = { service_account: record.account };
  return reportDrift(record, { missing, extra }, { ...deps, onDrift }, what, message);
}

export function pauseOf({ clock }: PodIdentityReconcileDeps, { contested: since }: PodIdentityRecord): number {
  return Math.max(0, (since?.until ?? 0) - clock.monotonic());
}

export function contested(pause: number): PodIdentityOutcome {
  return wait('contested', 'external changes go on, so the repair waits', pause);
}

export function audit({ log }: PodIdentityReconcileDeps, record: PodIdentityRecord, change: string): void {
  const { account, user, content, association } = record;
  const about = { audit: 'pod_identity', change, user, service_account: account, role: content.roleArn };
  const target = content.targetRoleArn === undefined ? {} : { target_role: content.targetRoleArn };
  log.info({ ...about, ...target, association: association?.id }, `Pod Identity: ${change}`);
}
