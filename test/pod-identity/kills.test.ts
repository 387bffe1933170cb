/** Proves that a leader may die after any of its writes: the next one finishes its work, and reports nothing untrue. */
import assert from 'node:assert/strict';
import { until } from '../support/clock.ts';
import { type PodIdentityWorld, startPodIdentityWorld } from '../support/pod-identity.ts';
import {
  associationOf,
  field,
  newUser,
  type PodUser,
  statusOf,
  storeMappings,
  trusted,
  untilAllThere,
  untilNothingLeft,
} from '../support/pod-identity-users.ts';
import { assetAccount, type Replica } from '../support/world.ts';

/** More writes than any of these tests makes. */
const mostWrites = 40;

describe('Pod Identity: a leader that dies', function () {
  this.timeout(120_000);
  let world: PodIdentityWorld;
  let replica: Replica;
  /** Called for every write to AWS and Kubernetes at the moment that it takes effect. */
  let onWrite: (what: string) => void = () => undefined;

  before(async () => {
    world = await startPodIdentityWorld();
    const { aws, kubernetes } = world;
    for (const writes of [aws.writes, aws.eksWrites]) {
      const push = writes.push.bind(writes) as (...items: unknown[]) => number;
      writes.push = (...items: object[]) => {
        onWrite('aws');
        return push(...items);
      };
    }
    for (const kind of ['configmaps', 'serviceaccounts', 'mutations']) {
      kubernetes.onChange(kind, () => onWrite(kind));
    }
    replica = await world.startReplica();
  });
  after(() => world.stop());

  /**
   * Lets the leader die right after its n-th write: nothing reaches it any more, not even the answer to that write, and
   * it sends nothing more. Then another replica starts, which need not wait for the lease to run out.
   * @returns whether there was an n-th write.
   */
  async function diesAfter(n: number, act: () => void, isDone: () => boolean): Promise<boolean> {
    const { aws, kubernetes } = world;
    act();
    let count = 0;
    let isCut = false;
    onWrite = (what) => {
      count += 1;
      if (count !== n) return;
      isCut = true;
      if (what === 'aws') aws.knobs.loseAnswerNext = { '*': 1 };
      aws.knobs.down = true;
      kubernetes.knobs.down = true;
    };
    await until(() => isCut || isDone());
    onWrite = () => undefined;
    if (!isCut) return false;
    await replica.stop();
    aws.knobs.loseAnswerNext = {};
    aws.knobs.down = false;
    kubernetes.knobs.down = false;
    kubernetes.remove('leases', field, 'irsa-writer');
    replica = await world.startReplica();
    return true;
  }

  /** Lets the leader die after each write in turn, with another user each time. */
  async function afterEachWrite(
    prepare: () => Promise<PodUser>,
    act: (one: PodUser) => void,
    isDone: (one: PodUser) => boolean,
    check: (one: PodUser) => Promise<void>,
  ): Promise<void> {
    let n = 1;
    for (; n < mostWrites; n += 1) {
      const one = await prepare();
      const died = await diesAfter(
        n,
        () => act(one),
        () => isDone(one),
      );
      try {
        await check(one);
      } catch (error) {
        throw new Error(`after write ${n}`, { cause: error });
      }
      for (const { log } of world.replicas) {
        const wrong = log.filter(({ msg, level }) => /changed externally/.test(String(msg)) || level === 'error');
        assert.deepEqual(wrong, [], `after write ${n}`);
      }
      storeMappings(world, { [one.user]: undefined });
      await untilNothingLeft(world, one);
      if (!died) break;
    }
    assert.ok(n > 4 && n < mostWrites, `${n} writes`);
  }

  const mappingOf = (one: PodUser, more = {}) => ({ service_account: one.account, iam_role_arn: one.arn, ...more });
  const target = `arn:aws:iam::${assetAccount}:role/acme-a`;
  const isInPlace = ({ account }: PodUser) => statusOf(world, account)?.state === 'in_place';
  const made = ({ account }: PodUser) =>
    new Set(
      world.aws.eksWrites
        .filter((write) => write.action === 'CreatePodIdentityAssociation' && write.serviceAccount === account)
        .flatMap(({ outcome, associationId }) => (/^(ok|answer-lost)$/.test(outcome ?? '') ? [associationId] : [])),
    ).size;
  async function mapped(): Promise<PodUser> {
    const one = newUser(world);
    storeMappings(world, { [one.user]: mappingOf(one) });
    await untilAllThere(world, one);
    return one;
  }

  it('while it puts all parts in place: the next leader completes them with one association', () =>
    afterEachWrite(
      async () => newUser(world),
      (one) => storeMappings(world, { [one.user]: mappingOf(one) }),
      isInPlace,
      async (one) => {
        await untilAllThere(world, one);
        assert.equal(made(one), 1);
        assert.deepEqual(trusted(world, one.role), [one.account]);
      },
    ));

  it('while it removes all parts: the next leader removes the rest', () =>
    afterEachWrite(
      mapped,
      (one) => storeMappings(world, { [one.user]: undefined }),
      ({ account }) => statusOf(world, account) === undefined,
      async (one) => {
        await untilNothingLeft(world, one);
        const documents = world.aws.writes.filter(({ role }) => role === one.role).map(({ document }) => document);
        const letIn = documents.map((document) => document.includes(one.account));
        assert.ok(!letIn.slice(letIn.indexOf(false)).includes(true), 'trusted again');
      },
    ));

  it('while it replaces an association to remove a target role: the next leader makes exactly one new one', () =>
    afterEachWrite(
      async () => {
        const one = newUser(world);
        storeMappings(world, { [one.user]: mappingOf(one, { target_role_arn: target }) });
        await untilAllThere(world, one);
        return one;
      },
      (one) => storeMappings(world, { [one.user]: mappingOf(one) }),
      (one) => isInPlace(one) && statusOf(world, one.account)?.target_role_arn === undefined,
      async (one) => {
        await until(() => associationOf(world, one.account)?.targetRoleArn === undefined);
        await untilAllThere(world, one);
        assert.equal(made(one), 2);
      },
    ));

  it('while it changes the role and removes a target role: no user gets an account without a role', async () => {
    let empty = 0;
    let watched: PodUser | undefined;
    world.kubernetes.onChange('mutations', () => {
      if (watched && world.userMappings()?.[watched.user] && !associationOf(world, watched.account)) empty += 1;
    });
    const others = new Map<string, PodUser>();
    await afterEachWrite(
      async () => {
        const one = newUser(world);
        storeMappings(world, { [one.user]: mappingOf(one, { target_role_arn: target }) });
        await untilAllThere(world, one);
        others.set(one.user, newUser(world));
        return one;
      },
      (one) => {
        watched = one;
        storeMappings(world, { [one.user]: mappingOf({ ...one, arn: others.get(one.user)?.arn ?? '' }) });
      },
      (one) => isInPlace(one) && statusOf(world, one.account)?.trusted_by.join() === others.get(one.user)?.arn,
      async (one) => {
        await untilAllThere(world, one, others.get(one.user)?.arn);
        assert.equal(associationOf(world, one.account)?.targetRoleArn, undefined);
        await until(() => trusted(world, one.role).length === 0);
        assert.equal(empty, 0);
        watched = undefined;
      },
    );
  });

  it('before a leader whose watches are behind: a removed association is not created again', async () => {
    const one = await mapped();
    const next = await world.startReplica({ RESYNC_SECONDS: '1', LEASE_SECONDS: '3' });
    await world.map(next, 'acme', world.addRolePair('acme-list-bucket'));
    world.kubernetes.knobs.freezeWatches = true;
    storeMappings(world, { [one.user]: undefined });
    world.aws.removeAssociation(associationOf(world, one.account)?.associationId ?? '');
    await replica.stop();
    replica = next;
    // The next leader compares roles of organizations meanwhile.
    const looks = () => world.aws.calls.GetRole ?? 0;
    const before = looks();
    await until(() => looks() >= before + 2);
    world.kubernetes.knobs.freezeWatches = false;
    await untilNothingLeft(world, one);
    assert.equal(made(one), 1);
  });
});
