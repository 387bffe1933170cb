/** Owns users with a role, a service account and names of their own, and checks the parts of their Pod Identity. */
import assert from 'node:assert/strict';
import type { PodIdentityStatus } from '../../src/pod-identity/status.ts';
import { podIdentityStatusForm } from '../../src/pod-identity/status.ts';
import type { AssociationView } from '../stack/aws.ts';
import { until } from './clock.ts';
import { mutationName, type PodIdentityWorld } from './pod-identity.ts';
import { clusterAccount, type Replica } from './world.ts';

export interface PodUser {
  user: string;
  role: string;
  arn: string;
  account: string;
}

export interface Stored {
  metadata: { name: string; resourceVersion: string; labels?: object; annotations?: Record<string, string> };
  data?: Record<string, string>;
  rules?: unknown;
  reason?: string;
  message?: string;
}

export const mappingName = 'domino-pod-identity-mapping';
export const compute = 'domino-compute';
export const field = 'domino-field';

let count = 0;

/** A user with a role that is not mapped yet. */
export function newUser(world: PodIdentityWorld, ...statements: object[]): PodUser {
  count += 1;
  const user = `svc-user-${count}`;
  world.domino.addUser({ name: user, orgs: [] });
  const role = `acme-pod-${count}`;
  return { user, role, arn: world.addPodRole(role, ...statements), account: `${user}-sa` };
}

export async function mappedUser(world: PodIdentityWorld, replica: Replica, more: object = {}): Promise<PodUser> {
  const one = newUser(world);
  await world.mapUser(replica, one.user, one.arn, more);
  await world.untilInPlace(replica, one.user);
  return one;
}

export function associationOf(world: PodIdentityWorld, account: string): AssociationView | undefined {
  const found = world.aws.associations().filter((one) => one.serviceAccount === account);
  assert.ok(found.length <= 1);
  return found[0];
}

/** The service accounts in the role's statement for Pod Identity; `*` where it has no condition. */
export function trusted(world: PodIdentityWorld, role: string): string[] {
  const found = world.podStatement(role);
  const { Condition: condition } = (found ?? {}) as {
    Condition?: { StringEquals: Record<string, string[]> };
  };
  if (!found) return [];
  return condition?.StringEquals['aws:RequestTag/kubernetes-service-account'] ?? ['*'];
}

export function statusOf(world: PodIdentityWorld, account: string): PodIdentityStatus | undefined {
  const map = world.kubernetes.get<Stored>('configmaps', field, podIdentityStatusForm.nameOf(account));
  return map?.data && podIdentityStatusForm.parse(map.data);
}

export function mutation(world: PodIdentityWorld): Stored | undefined {
  return world.kubernetes.get<Stored>('mutations', 'domino-platform', mutationName);
}

/** Replaces the stored mappings, as a person with kubectl can. */
export function storeMappings(world: PodIdentityWorld, changes: Record<string, string | object | undefined>): void {
  const before = world.kubernetes.get<Stored>('configmaps', field, mappingName);
  const data: Record<string, string> = { ...before?.data };
  for (const [user, mapping] of Object.entries(changes)) {
    if (mapping === undefined) delete data[user];
    else data[user] = typeof mapping === 'string' ? mapping : JSON.stringify(mapping);
  }
  const metadata = before?.metadata ?? { name: mappingName, namespace: field };
  world.kubernetes.put('configmaps', { apiVersion: 'v1', kind: 'ConfigMap', ...before, metadata, data });
}

/** Waits until no part of the user's Pod Identity is left. */
export async function untilNothingLeft(world: PodIdentityWorld, { user, role, account }: PodUser): Promise<void> {
  const left = () => ({
    mutation: world.userMappings()?.[user],
    association: associationOf(world, account)?.associationId,
    trust: world.aws.role(clusterAccount, role).text.includes(account) ? role : undefined,
    account: world.account(account)?.metadata,
    status: statusOf(world, account)?.state,
  });
  try {
    await until(() => Object.values(left()).every((part) => part === undefined), 10_000);
  } catch {
    assert.fail(`left of ${user}: ${JSON.stringify(left())}`);
  }
}

/** Waits until all four parts of the user match the mapping. */
export async function untilAllThere(world: PodIdentityWorld, one: PodUser, arn = one.arn): Promise<void> {
  const { user, account } = one;
  const role = arn.split('/').at(-1) ?? '';
  const there = () => ({
    mutation: world.userMappings()?.[user] === account,
    association: associationOf(world, account)?.roleArn === arn,
    trust: trusted(world, role).includes(account) || trusted(world, role).includes('*'),
    account: world.account(account) !== undefined,
    status: statusOf(world, account)?.state === 'in_place',
  });
  try {
    await until(() => !Object.values(there()).includes(false), 10_000);
  } catch {
    assert.fail(`not there for ${user}: ${JSON.stringify({ ...there(), said: statusOf(world, account) })}`);
  }
}
