/** Proves that a mapping's session policy reaches EKS, is restored there after external changes, and is reported. */
import assert from 'node:assert/strict';
import { sameSessionPolicy, sessionPolicyProblem } from '../../src/pod-identity/session-policy.ts';
import { until } from '../support/clock.ts';
import { type PodIdentityWorld, startPodIdentityWorld } from '../support/pod-identity.ts';
import {
  associationOf,
  field,
  mappedUser,
  mappingName,
  newUser,
  type Stored,
  statusOf,
  untilAllThere,
} from '../support/pod-identity-users.ts';
import type { Replica } from '../support/world.ts';

const policyFor = (resource: string) =>
  JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: 's3:Get*', Resource: resource }] });

describe('Pod Identity: session policies', () => {
  let world: PodIdentityWorld;
  let replica: Replica;
  const policy = policyFor('arn:aws:s3:::acme/alice/*');
  const limited = { disable_session_tags: true, policy };

  before(async () => {
    world = await startPodIdentityWorld({ RESYNC_SECONDS: '1' });
    replica = await world.startReplica();
  });
  after(() => world.stop());

  const drifts = (account: string) =>
    replica.log.filter(
      (line) => line.msg === 'what Pod Identity needs was changed externally' && line.service_account === account,
    );

  it('a mapping’s policy is stored, set in EKS, and shown in reports and to the user', async () => {
    const one = await mappedUser(world, replica, limited);
    const association = associationOf(world, one.account);
    assert.deepEqual([association?.policy, association?.disableSessionTags], [policy, true]);
    const listed = await replica.call('GET', '/pod_identity_mappings', { as: 'admin' });
    const mappings = (listed.body as { pod_identity_mappings: { domino_user: string; policy?: string }[] })
      .pod_identity_mappings;
    assert.equal(mappings.find((mapping) => mapping.domino_user === one.user)?.policy, policy);
    assert.equal((await world.report(replica, one.user))?.policy, policy);
    const own = await replica.call('GET', '/my_pod_identity', { as: one.user });
    assert.equal((own.body as { pod_identity: { policy?: string } }).pod_identity.policy, policy);
  });

  it('a dry run shows the policy before and after', async () => {
    const one = await mappedUser(world, replica, limited);
    const body = { domino_user: one.user, iam_role_arn: one.arn };
    const answer = await replica.call('POST', '/update_pod_identity_mapping?dry_run=true', { as: 'admin', body });
    const { before, after } = answer.body as Record<string, { policy?: string }>;
    assert.deepEqual([before?.policy, after?.policy], [policy, undefined]);
  });

  it('another policy updates the association, removing it makes a new association, and neither is drift', async () => {
    const one = await mappedUser(world, replica, limited);
    const id = associationOf(world, one.account)?.associationId;
    const next = policyFor('arn:aws:s3:::acme/bob/*');
    await world.mapUser(replica, one.user, one.arn, { ...limited, policy: next });
    await until(() => associationOf(world, one.account)?.policy === next);
    await untilAllThere(world, one);
    assert.equal(associationOf(world, one.account)?.associationId, id);
    await world.mapUser(replica, one.user, one.arn);
    await until(() => associationOf(world, one.account)?.policy === undefined);
    await untilAllThere(world, one);
    const association = associationOf(world, one.account);
    assert.equal(association?.disableSessionTags, false);
    assert.notEqual(association?.associationId, id);
    assert.deepEqual(drifts(one.account), []);
  });

  const changes: [string, object, (account: string) => void][] = [
    ['widens', limited, (account) => change(account, { policy: policyFor('*') })],
    ['adds', {}, (account) => change(account, { policy, disableSessionTags: true })],
  ];
  const change = (account: string, settings: object) =>
    world.aws.changeAssociation(associationOf(world, account)?.associationId ?? '', settings);
  for (const [does, mapping, act] of changes) {
    it(`a policy that an external change ${does} is reported as drift and repaired`, async () => {
      const one = await mappedUser(world, replica, mapping);
      const wanted = associationOf(world, one.account)?.policy;
      act(one.account);
      await until(() => statusOf(world, one.account)?.drift !== undefined);
      await until(() => associationOf(world, one.account)?.policy === wanted);
      await untilAllThere(world, one);
      assert.equal(drifts(one.account).length, 1);
      assert.match(JSON.stringify(statusOf(world, one.account)?.drift?.extra), /another session policy/);
    });
  }

  it('a policy with other white space and order of keys is not drift, even after a failover', async () => {
    const one = await mappedUser(world, replica, limited);
    const { Version, Statement } = JSON.parse(policy) as { Version: string; Statement: object };
    const theSame = JSON.stringify({ Statement, Version }, null, 2);
    change(one.account, { policy: theSame });
    await replica.stop();
    replica = await world.startReplica();
    const other = await mappedUser(world, replica);
    await untilAllThere(world, other);
    await until(() => world.aws.eksWrites.some(({ serviceAccount }) => serviceAccount === other.account));
    assert.equal(associationOf(world, one.account)?.policy, theSame);
    assert.equal(statusOf(world, one.account)?.state, 'in_place');
    assert.deepEqual(drifts(one.account), []);
  });

  it('the API refuses policies that EKS would refuse, names the field, and stores nothing', async () => {
    const one = newUser(world);
    const body = { domino_user: one.user, iam_role_arn: one.arn };
    const refused = [{ policy }, { policy, disable_session_tags: false }, { ...limited, policy: '{"Statement":[]}' }];
    for (const more of [...refused, { ...limited, policy: policy.padEnd(2_049) }]) {
      const answer = await replica.call('POST', '/update_pod_identity_mapping', {
        as: 'admin',
        body: { ...body, ...more },
      });
      assert.equal(answer.status, 400, answer.text);
      const { errors } = answer.body as { errors: { path: string }[] };
      assert.deepEqual([...new Set(errors.map(({ path }) => path))], ['/body/policy']);
      assert.equal(world.kubernetes.get<Stored>('configmaps', field, mappingName)?.data?.[one.user], undefined);
    }
    const fits = { as: 'admin', body: { ...body, ...limited, policy: policy.padEnd(2_048) } } as const;
    assert.equal((await replica.call('POST', '/update_pod_identity_mapping?dry_run=true', fits)).status, 200);
  });

  it('only documents that can be session policies are valid', () => {
    const allow = { Effect: 'Allow', Action: 's3:*', Resource: '*' };
    const good: object[] = [
      { Statement: allow },
      {
        Version: '2012-10-17',
        Id: 'x',
        Statement: [{ ...allow, Condition: { Bool: { 'aws:SecureTransport': 'true' } } }],
      },
      { Statement: [{ Effect: 'Deny', NotAction: ['s3:*'], NotResource: ['x'] }] },
    ];
    for (const document of good) assert.equal(sessionPolicyProblem(JSON.stringify(document), false), undefined);
    const bad: unknown[] = [
      null,
      [],
      'x',
      {},
      { Statement: [] },
      { Statement: { ...allow, Principal: '*' } },
      { Statement: { ...allow, Effect: 'allow' } },
      { Statement: { Effect: 'Allow', Resource: '*' } },
      { Statement: { Effect: 'Allow', Action: '*' } },
      { Statement: { ...allow, NotAction: '*' } },
      { Statement: { ...allow, Resource: 'acme-ŵ' } },
      { statement: allow },
    ];
    for (const document of bad) {
      assert.match(sessionPolicyProblem(JSON.stringify(document), false) ?? '', /^policy /, JSON.stringify(document));
    }
    assert.match(sessionPolicyProblem('{"Statement": ', false) ?? '', /not an IAM policy document/);
    assert.match(sessionPolicyProblem(JSON.stringify(good[0]), true) ?? '', /disable_session_tags/);
    assert.ok(sameSessionPolicy('{"a":1,"b":2}', '{ "b": 2, "a": 1 }'));
    for (const other of [undefined, '{"a":2,"b":2}', '{']) assert.ok(!sameSessionPolicy('{"a":1,"b":2}', other));
  });
});
