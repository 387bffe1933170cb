/** Owns the third part of a Pod Identity: the association that gives the service account its role in EKS. */
import { randomUUID } from 'node:crypto';
import type { Association } from '../aws/eks.ts';
import { AwsError } from '../aws/error.ts';
import { withhold } from './mutation.ts';
import {
  audit,
  contested,
  drifted,
  type PodIdentityOutcome,
  type PodIdentityReconcileDeps,
  pauseOf,
  refuse,
  wait,
} from './outcome.ts';
import { type PodIdentityRecord, sameContent } from './record.ts';
import { sameSessionPolicy } from './session-policy.ts';
import { trustOnly } from './trust.ts';

/** The errors of EKS for an idempotency token that it has seen: a retry with the same token would get the same error. */
const spentBy: ReadonlySet<string> = new Set(['association_refused', 'association_exists']);

/** @returns a refusal where another tool or person made the account's association: it is never taken over. */
export function refuseUnmanaged(
  deps: PodIdentityReconcileDeps,
  record: PodIdentityRecord,
  found: Association | undefined,
): PodIdentityOutcome | undefined {
  if (!found || deps.associations.isOurs(found)) return undefined;
  const { account, association: before } = record;
  if (before && record.parts.association) {
    drifted(deps, record, [`association ${before.id}`], [`association ${found.id}`]);
  }
  record.parts.association = false;
  record.association = undefined;
  // The role of that association is not the mapping's choice, so no new pod gets the account.
  record.isReady = false;
  // The mapping's role keeps its trust, if any. The roles of former mappings have no reason to trust the account any more.
  const { roleArn } = record.content;
  const wanted = new Set(record.trustedBy.has(roleArn) && !deps.isUnmanaged(roleArn) ? [roleArn] : []);
  trustOnly(deps, record, wanted, (role) => deps.trust.isOpen(role, account));
  const detail = `another tool or person made a Pod Identity association for service account ${account} (${found.id}); it is left alone: delete it, or name another account`;
  return refuse({ code: 'association_conflict', detail });
}

/** @param found ours, or none. @returns undefined when the association is as wanted. */
export async function ensureAssociation(
  deps: PodIdentityReconcileDeps,
  record: PodIdentityRecord,
  found: Association | undefined,
): Promise<PodIdentityOutcome | undefined> {
  const { content, association: before } = record;
  let pause = pauseOf(deps, record);
  const isRight = found !== undefined && sameContent(found, content);
  if (before && record.parts.association && !isRight) {
    if (!found) pause = drifted(deps, record, [`association ${before.id}`], []);
    else if (found.id !== before.id || !sameContent(found, before)) {
      const policy = sameSessionPolicy(found.policy, before.policy) ? '' : ' and another session policy';
      pause = drifted(deps, record, [], [`association ${found.id} with ${found.roleArn}${policy}`]);
    }
  }
  record.association = found;
  record.parts.association = isRight;
  if (isRight) {
    record.creating = undefined;
    return undefined;
  }
  if (pause > 0) return contested(pause);
  if (found) return repair(deps, record, found);
  return create(deps, record);
}

/** @returns undefined always: EKS deletes an association at once. One that is not ours stays. */
export async function removeAssociation(deps: PodIdentityReconcileDeps, record: PodIdentityRecord): Promise<undefined> {
  const found = await deps.associations.find(record.account, record.association?.id);
  if (found && deps.associations.isOurs(found)) {
    record.association = found;
    // The next leader must not take its absence for an external change.
    record.parts.association = false;
    await deps.publish(record);
    await deps.associations.remove(found);
    audit(deps, record, 'association removed');
  }
  record.association = undefined;
  record.creating = undefined;
  record.parts.association = false;
}

async function create(
  deps: PodIdentityReconcileDeps,
  record: PodIdentityRecord,
): Promise<PodIdentityOutcome | undefined> {
  // After a lost answer, a retry with the same token gets the same association, also by the next leader.
  record.creating ??= randomUUID();
  await deps.publish(record);
  let made: Association;
  try {
    made = await deps.associations.create(record.account, record.user, record.content, record.creating);
  } catch (error) {
    // A token that EKS refuses, since it was used for other content or has expired, must not block the creation for good.
    if (error instanceof AwsError && spentBy.has(error.code)) record.creating = undefined;
    // The association exists after all: the next reconcile finds it, and who made it.
    if (error instanceof AwsError && error.code === 'association_exists') {
      throw new AwsError('unavailable', 'the association was made meanwhile', { cause: error });
    }
    throw error;
  }
  record.creating = undefined;
  record.association = made;
  record.parts.association = sameContent(made, record.content);
  audit(deps, record, 'association created');
  await deps.publish(record);
  return record.parts.association ? undefined : notTaken(made);
}

async function repair(
  deps: PodIdentityReconcileDeps,
  record: PodIdentityRecord,
  found: Association,
): Promise<PodIdentityOutcome | undefined> {
  const { associations } = deps;
  // EKS can set a target role or a policy, and documents no way to remove one.
  const { targetRoleArn, policy } = record.content;
  const hasTooMuch =
    (found.targetRoleArn !== undefined && targetRoleArn === undefined) ||
    (found.policy !== undefined && policy === undefined);
  if (hasTooMuch) {
    // The association is missing for a moment, or longer where EKS fails: as in a removal, no new pod gets the account.
    if (deps.mutation.gives(record.account)) {
      withhold(deps, record);
      return wait('waiting_for_mutation', 'the Mutation is being written, since the association is created again');
    }
    // The next leader must not take its absence for an external change.
    await deps.publish(record);
    await associations.remove(found);
    audit(deps, record, 'association removed, to be made anew without its target role or policy');
    record.association = undefined;
    return create(deps, record);
  }
  record.association = await associations.update(found, record.content);
  record.parts.association = sameContent(record.association, record.content);
  audit(deps, record, 'association updated');
  return record.parts.association ? undefined : notTaken(found);
}

function notTaken({ id }: Association): PodIdentityOutcome {
  return refuse({ code: 'association_refused', detail: `EKS did not take the change of association ${id}` });
}
