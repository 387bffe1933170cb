import assert from 'node:assert/strict';
import { wantedAnnotation } from '../../src/kubernetes/objects.ts';
import { trustStatusLabel } from '../../src/proxy-roles/status.ts';
import { until } from '../support/clock.ts';
import { clusterAccount, type Replica, runId, startWorld, type World } from '../support/world.ts';

interface Meta {
  metadata: { name: string; labels?: Record<string, string>; annotations?: Record<string, string> };
  data?: Record<string, string>;
}

describe('the leader', () => {
  let world: World;
  let replicas: Replica[];
  let next = 1000;

  before(async () => {
    world = await startWorld({ IAM_READS_PER_SECOND: '100', IAM_WRITES_PER_SECOND: '100' });
    replicas = await Promise.all([1, 2, 3].map(() => world.startReplica()));
  });
  after(() => world.stop());

  const any = () => replicas[next % replicas.length] as Replica;
  /** A user with an organization mapped to a pair of roles of that name. */
  async function mapped(name: string, proxies?: string[]) {
    const pair = world.addRolePair(name, proxies);
    world.domino.addUser({ name: `user-${name}`, orgs: [`org-${name}`] });
    await world.map(any(), `org-${name}`, pair);
    return `user-${name}`;
  }
  async function grant(user: string, options: { account?: string } = {}) {
    const run = runId(next++);
    const { account } = world.startRun(run, user, options);
    const answer = await any().call('POST', '/map_iam_roles_to_pod_sa', { as: user, body: { run_id: run } });
    return { run, account, answer };
  }
  const subject = (account: string) => `*:domino-compute:${account}`;
  const history = (proxy: string) => world.aws.role(clusterAccount, proxy).history;

  it('invariant 1: grants 25 runs on three replicas with one lease holder and no overlapping writes', async () => {
    const user = await mapped('busy');
    world.aws.knobs.latencyMs = { UpdateAssumeRolePolicy: 20, GetRole: 10 };
    const runs = Array.from({ length: 25 }, () => runId(next++));
    for (const run of runs) world.startRun(run, user);
    const answers = await Promise.all(
      runs.map((run_id, index) =>
        (replicas[index % 3] as Replica).call('POST', '/map_iam_roles_to_pod_sa', { as: user, body: { run_id } }),
      ),
    );
    world.aws.knobs.latencyMs = {};
    for (const answer of answers) assert.equal(answer.status, 200);
    const subjects = new Set(world.subjects('busy'));
    for (const run of runs) assert.ok(subjects.has(subject(`run-${run}`)));
    assert.ok(world.aws.writes.every(({ overlaps }) => overlaps === 0));
    const writes = world.aws.writes.filter(({ role }) => role === 'busy').length;
    assert.ok(writes <= 10, `${writes} writes for 25 runs`);
    const holding = await Promise.all(
      replicas.map(({ metrics }) => metrics.registry.getSingleMetric('irsa_lease_held')?.get()),
    );
    assert.equal(holding.filter((metric) => metric?.values[0]?.value === 1).length, 1);
  });

  it('invariant 2: keeps unmanaged statements and subjects deep-equal', async () => {
    const user = await mapped('mixed');
    const { issuer } = world.issuer;
    const foreign = [
      {
        Sid: 'People',
        Effect: 'Allow',
        Principal: { AWS: `arn:aws:iam::${clusterAccount}:root` },
        Action: ['sts:AssumeRole', 'sts:TagSession'],
        Condition: { Bool: { 'aws:MultiFactorAuthPresent': 'true' } },
      },
      {
        Effect: 'Deny',
        Principal: '*',
        Action: 'sts:AssumeRole',
        Condition: { StringNotEquals: { 'aws:PrincipalOrgID': 'o-1' } },
      },
    ];
    const ours = {
      Sid: 'Terraform',
      Effect: 'Allow',
      Principal: { Federated: `arn:aws:iam::${clusterAccount}:oidc-provider/${issuer}` },
      Action: 'sts:AssumeRoleWithWebIdentity',
      Condition: {
        StringLike: {
          [`${issuer}:aud`]: 'sts.amazonaws.com',
          [`${issuer}:sub`]: ['system:serviceaccount:other:x', ''],
        },
      },
    };
    world.aws.setTrust(clusterAccount, 'mixed', { Version: '2012-10-17', Statement: [foreign[0], ours, foreign[1]] });
    const { run, account } = await grant(user);
    const after = world.aws.role(clusterAccount, 'mixed').document as { Statement: Record<string, unknown>[] };
    assert.deepEqual([after.Statement[0], after.Statement[2]], foreign);
    assert.deepEqual(world.subjects('mixed'), ['system:serviceaccount:other:x', subject(account)]);
    assert.deepEqual({ ...after.Statement[1], Condition: 0 }, { ...ours, Condition: 0 });
    world.endRun(run);
    await until(() => world.subjects('mixed').length === 1);
    assert.deepEqual(world.subjects('mixed'), ['system:serviceaccount:other:x']);
  });

  it('invariant 4: writes one subject that no token can have when there are no members', async () => {
    await mapped('lonely');
    await until(() => world.subjects('lonely').includes('irsa-svc:no-live-runs'));
    assert.deepEqual(world.subjects('lonely'), ['irsa-svc:no-live-runs']);
  });

  it('invariant 2: keeps members that an earlier release added only while their runs are live', async () => {
    world.domino.addUser({ name: 'user-legacy', orgs: ['org-legacy'] });
    const [alive, ended] = [runId(next++), runId(next++)];
    const olderForm = runId(next++);
    world.startRun(alive, 'user-legacy');
    world.startRun(olderForm, 'user-legacy');
    const pair = world.addRolePair('legacy');
    const { issuer } = world.issuer;
    const document = world.aws.role(clusterAccount, 'legacy').document as { Statement: { Condition: object }[] };
    const list = [subject(`run-${alive}`), subject(`run-${ended}`), `*${olderForm}`, ''];
    (document.Statement[0] as { Condition: object }).Condition = {
      StringLike: { [`${issuer}:aud`]: 'sts.amazonaws.com', [`${issuer}:sub`]: list },
    };
    world.aws.setTrust(clusterAccount, 'legacy', document);
    await world.map(any(), 'org-legacy', pair);
    await until(() => world.subjects('legacy').length === 2);
    assert.deepEqual(world.subjects('legacy').sort(), [subject(`run-${alive}`), `*${olderForm}`].sort());
  });

  it('ignores a forged request for a pair that no mapping names, or in the name of another user', async () => {
    const user = await mapped('strict');
    await mapped('coveted');
    const { account } = await grant(user);
    const wanted = (name: string) =>
      world.kubernetes.get<Meta>('serviceaccounts', 'domino-compute', name)?.metadata.annotations?.[wantedAnnotation] ??
      '';
    const want = JSON.parse(wanted(account));
    const forge = (name: string, content: object) =>
      world.kubernetes.put('serviceaccounts', {
        metadata: { name, namespace: 'domino-compute', annotations: { [wantedAnnotation]: JSON.stringify(content) } },
      });
    // A proxy role that only another organization's mapping names.
    const roles = [
      {
        target: want.roles[0].target,
        proxies: [{ arn: `arn:aws:iam::${clusterAccount}:role/coveted`, org: 'org-strict' }],
      },
    ];
    forge(account, { ...want, id: 'forged-1', roles });
    await until(() => !world.subjects('strict').includes(subject(account)));
    // Another user's pod, with a request in the name of the first user.
    const run = runId(next++);
    const other = world.startRun(run, 'user-coveted');
    forge(other.account, { ...want, id: 'forged-2', run });
    const { account: witness } = await grant(user);
    assert.ok(world.subjects('strict').includes(subject(witness)));
    assert.ok(!world.subjects('strict').includes(subject(other.account)));
    assert.ok(!world.subjects('coveted').includes(subject(account)));
  });

  it('invariant 8: adopts a quota lower than the configured one after one refusal for each role', async () => {
    const user = await mapped('small', ['small-1', 'small-2']);
    world.aws.knobs.quotaByAccount = { [clusterAccount]: 540 };
    try {
      const before = world.aws.writes.length;
      const grants = [await grant(user), await grant(user), await grant(user), await grant(user)];
      const proxyOf = (text: string) => /role\/(small-\d)/.exec(text)?.[1];
      const placed = grants.map(({ answer }) => proxyOf(answer.text));
      // Two runs fit 540 characters, and the third goes to the next proxy of the pool.
      assert.deepEqual(placed, ['small-1', 'small-1', 'small-2', 'small-2']);
      const refusals = world.aws.writes.slice(before).filter(({ outcome }) => outcome === 'LimitExceeded');
      assert.ok(refusals.length <= 2, `${refusals.length} refusals for two roles`);
    } finally {
      world.aws.knobs.quotaByAccount = {};
    }
  });

  it('grants runs despite throttling, failures, lost answers and stale reads', async () => {
    const user = await mapped('rough');
    const faults: [string, () => void][] = [
      ['throttled reads', () => Object.assign(world.aws.knobs, { throttleNext: { GetRole: 2 } })],
      ['throttled writes', () => Object.assign(world.aws.knobs, { throttleNext: { UpdateAssumeRolePolicy: 2 } })],
      [
        'a failing service',
        () =>
          Object.assign(world.aws.knobs, {
            failNext: { UpdateAssumeRolePolicy: { code: 'ServiceFailure', times: 2 } },
          }),
      ],
      [
        'concurrent modification',
        () =>
          Object.assign(world.aws.knobs, {
            failNext: { UpdateAssumeRolePolicy: { code: 'ConcurrentModification', times: 1 } },
          }),
      ],
      ['a lost answer', () => Object.assign(world.aws.knobs, { loseAnswerNext: { UpdateAssumeRolePolicy: 1 } })],
      ['old documents', () => Object.assign(world.aws.knobs, { staleReadMs: 1_000 })],
    ];
    const accounts: string[] = [];
    for (const [what, turn] of faults) {
      turn();
      const { answer, account } = await grant(user);
      assert.equal(answer.status, 200, what);
      accounts.push(account);
      for (const name of accounts) assert.ok(world.subjects('rough').includes(subject(name)), what);
    }
    world.aws.knobs.staleReadMs = 0;
  });

  it('publishes why a role cannot be written, and writes it once it can', async () => {
    const user = await mapped('broken');
    world.aws.knobs.failNext = { UpdateAssumeRolePolicy: { code: 'UnmodifiableEntity', times: 1 } };
    const first = await grant(user);
    assert.equal(first.answer.status, 200);
    assert.match(first.answer.text, /^# broken: refused, unmodifiable_role: /m);
    const statuses = world.kubernetes
      .list<Meta>('configmaps', 'domino-field')
      .filter(({ metadata }) => metadata.labels?.[trustStatusLabel]);
    const status = statuses
      .map(({ data }) => JSON.parse(data?.['status.json'] ?? '{}'))
      .find(({ role_arn }) => role_arn.endsWith('/broken'));
    assert.equal(status.error.code, 'unmodifiable_role');
    // A mapping that is set again makes the leader retry.
    await any().call('DELETE', '/delete_role_mapping', { as: 'admin', body: { domino_org: 'org-broken' } });
    const target = 'arn:aws:iam::222222222222:role/broken';
    await world.map(any(), 'org-broken', { target, proxies: [`arn:aws:iam::${clusterAccount}:role/broken`] });
    await until(async () => {
      const body = { run_id: first.run };
      const answer = await any().call('POST', '/map_iam_roles_to_pod_sa', { as: user, body });
      return answer.text.includes('[profile broken]');
    }, 20_000);
    assert.ok(world.subjects('broken').includes(subject(first.account)));
  });

  it('removes the members from a role that no mapping names any more, and forgets it', async () => {
    const user = await mapped('retired');
    const { account } = await grant(user);
    assert.ok(world.subjects('retired').includes(subject(account)));
    await any().call('DELETE', '/delete_role_mapping', { as: 'admin', body: { domino_org: 'org-retired' } });
    const status = () =>
      world.kubernetes
        .list<Meta>('configmaps', 'domino-field')
        .some(({ metadata }) => metadata.name.includes('retired'));
    await until(() => !world.subjects('retired').includes(subject(account)) && !status());
    assert.deepEqual(world.subjects('retired'), ['irsa-svc:no-live-runs']);
  });

  it('stops writing a role once a mapping makes it unmanaged', async () => {
    const user = await mapped('handed-over');
    const { run } = await grant(user);
    const entry = {
      iam_role_arn: 'arn:aws:iam::222222222222:role/handed-over',
      proxy_iam_role_arn: `arn:aws:iam::${clusterAccount}:role/handed-over`,
      update_iam_role_trust_policy: false,
    };
    await any().call('POST', '/update_multirole_mapping', {
      as: 'admin',
      body: { domino_org: 'org-handed-over', role_data: [entry] },
    });
    const writes = history('handed-over').length;
    world.endRun(run);
    const status = () =>
      world.kubernetes
        .list<Meta>('configmaps', 'domino-field')
        .find(({ metadata }) => metadata.name.includes('handed-over'))?.data?.['status.json'];
    await until(() => JSON.parse(status() ?? '{}').kept_elsewhere === true);
    assert.equal(history('handed-over').length, writes);
  });

  it('invariant 3: removes no member when the API server lists nothing for a moment', async () => {
    const user = await mapped('crowd');
    const grants = await Promise.all(Array.from({ length: 14 }, () => grant(user)));
    for (const { answer } of grants) assert.equal(answer.status, 200);
    const written = history('crowd').length;
    // The API server lists nothing for a moment, while all watches have to list again.
    world.kubernetes.knobs.emptyLists = true;
    world.kubernetes.expire();
    world.kubernetes.cutWatches();
    const doubted = () =>
      replicas.every(({ log }) => log.some(({ msg }) => String(msg).startsWith('a list lost more')));
    await until(doubted);
    world.kubernetes.knobs.emptyLists = false;
    const { account: witness } = await grant(user);
    const subjects = world.subjects('crowd');
    for (const account of [...grants.map((one) => one.account), witness])
      assert.ok(subjects.includes(subject(account)));
    assert.equal(history('crowd').length, written + 1);
  });
});
