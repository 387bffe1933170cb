/** Owns the last part of a Pod Identity: the Mutation's entry, by which new workloads get the service account. */
import { podIdentityMutation } from './mutation-rules.ts';
import { audit, type PodIdentityOutcome, type PodIdentityReconcileDeps, refuse, wait } from './outcome.ts';
import type { PodIdentityRecord } from './record.ts';

/** @returns undefined when new workloads of the user get the account. */
export function ensureMutation(
  deps: PodIdentityReconcileDeps,
  record: PodIdentityRecord,
): PodIdentityOutcome | undefined {
  record.isReady = true;
  if (!deps.mutation.gives(record.account)) deps.mutation.sync();
  const isGiven = deps.mutation.gives(record.account);
  if (isGiven && !record.parts.mutation) audit(deps, record, 'given to new workloads');
  record.parts.mutation = isGiven;
  return isGiven ? undefined : waitForMutation(deps);
}

/** @returns undefined when no new workload gets the account, also under the next leader. */
export function removeMutation(
  deps: PodIdentityReconcileDeps,
  record: PodIdentityRecord,
): PodIdentityOutcome | undefined {
  record.isReady = false;
  if (deps.mutation.gives(record.account)) {
    deps.mutation.sync();
    return wait('waiting_for_mutation', 'the Mutation is being written');
  }
  withhold(deps, record);
  return undefined;
}

/** Stops giving the account to new workloads, and does not wait for the write. */
export function withhold(deps: PodIdentityReconcileDeps, record: PodIdentityRecord): void {
  if (record.parts.mutation) audit(deps, record, 'not given to new workloads any more');
  record.isReady = false;
  record.parts.mutation = false;
  if (deps.mutation.gives(record.account)) deps.mutation.sync();
}

/** There is one Mutation, by name: only one of the installations that share the platform namespace can keep it. */
function waitForMutation({ mutation }: PodIdentityReconcileDeps): PodIdentityOutcome {
  const keeper = mutation.keptBy();
  if (keeper !== undefined) {
    const detail = `the installation of irsa-svc in namespace ${keeper} keeps the Mutation ${podIdentityMutation}`;
    return refuse({ code: 'mutation_conflict', detail });
  }
  const said = mutation.refusal();
  if (said === undefined) return wait('waiting_for_mutation', 'the Mutation is being written');
  return refuse({ code: 'kubernetes_refused', detail: `Kubernetes refuses the Mutation ${podIdentityMutation}`, said });
}
