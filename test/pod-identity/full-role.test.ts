/** Proves that a role whose trust policy is full drops unmapped users, then admits those that fit, and no others. */
import assert from 'node:assert/strict';
import { until } from '../support/clock.ts';
import { type PodIdentityWorld, startPodIdentityWorld } from '../support/pod-identity.ts';
import {
  newUser,
  type PodUser,
  statusOf,
  trusted,
  untilAllThere,
  untilNothingLeft,
} from '../support/pod-identity-users.ts';
import { clusterAccount, type Replica } from '../support/world.ts';

describe('Pod Identity: a role whose trust policy is full', () => {
  let world: PodIdentityWorld;
  let replica: Replica;
  let count = 10;

  before(async () => {
    world = await startPodIdentityWorld({ TRUST_POLICY_MAX_CHARS: '600', RESYNC_SECONDS: '1' });
    replica = await world.startReplica();
  });
  after(() => world.stop());

  const waits = ({ account }: PodUser) => statusOf(world, account)?.reason?.code === 'trust_policy_full';
  const isIn = ({ role, account }: PodUser) => trusted(world, role).includes(account);

  /** Maps users to one role until two wait. Their names are equally long: each removal frees capacity for one. */
  async function fullRole(): Promise<{ role: string; inside: PodUser[]; waiting: PodUser[] }> {
    const { role, arn } = newUser(world);
    const users: PodUser[] = [];
    while (users.filter(waits).length < 2) {
      count += 1;
      const one = { user: newUser(world).user, role, arn, account: `acme-full-${count}-sa` };
      await world.mapUser(replica, one.user, arn, { service_account: one.account });
      await until(() => waits(one) || statusOf(world, one.account)?.state === 'in_place');
      users.push(one);
    }
    const inside = users.filter(isIn);
    assert.ok(inside.length >= 2, `${inside.length} users fit`);
    assert.deepEqual(trusted(world, role), inside.map(({ account }) => account).sort());
    return { role, inside, waiting: users.filter(waits) };
  }

  it('drops an unmapped user, and admits as many waiting users as then fit', async () => {
    const { role, inside, waiting } = await fullRole();
    const [first, second, ...rest] = inside;
    assert.ok(first && second);
    await world.unmapUser(replica, first.user);
    await untilNothingLeft(world, first);
    await until(() => waiting.some(isIn));
    const [admitted] = waiting.filter(isIn);
    const [last] = waiting.filter((one) => one !== admitted);
    assert.ok(admitted && last);
    await untilAllThere(world, admitted);
    assert.deepEqual(trusted(world, role), [second, ...rest, admitted].map(({ account }) => account).sort());
    await world.untilReport(replica, last.user, (found) => found?.code === 'trust_policy_full');
    await world.unmapUser(replica, second.user);
    await untilNothingLeft(world, second);
    await untilAllThere(world, last);
    for (const one of [...rest, admitted, last]) await world.untilInPlace(replica, one.user);
  });

  it('is closed again after an external change opens it to every pod, and admits no waiting user', async () => {
    const { role, inside, waiting } = await fullRole();
    const before = trusted(world, role);
    const { document } = world.aws.role(clusterAccount, role);
    const opened = (document.Statement as { Sid?: string }[]).map((statement) =>
      statement.Sid?.startsWith('AllowEks') ? { ...statement, Condition: undefined } : statement,
    );
    world.aws.setTrust(clusterAccount, role, { ...document, Statement: opened });
    assert.deepEqual(trusted(world, role), ['*']);
    await until(() => trusted(world, role).join() === before.join());
    const told = replica.log.filter(
      ({ msg, role: arn }) => /changed externally/.test(String(msg)) && arn === inside[0]?.arn,
    );
    assert.equal(told.length, 1);
    for (const one of inside) await world.untilInPlace(replica, one.user);
    for (const one of waiting) assert.ok(waits(one), one.user);
  });
});
