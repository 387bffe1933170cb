/** Proves which service account a Domino user gets, and how stored Pod Identity mappings of any kind are read. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  completePodIdentity,
  defaultServiceAccount,
  isReservedAccount,
  type PodIdentityMapping,
  parsePodIdentities,
  storedPodIdentity,
} from '../../src/pod-identity/mappings.ts';
import { accountsInRules, mutationRules, sameRules } from '../../src/pod-identity/mutation-rules.ts';
import { isServiceAccountName } from '../../src/trust-policy/subjects.ts';

const role = 'arn:aws:iam::111111111111:role/team/reader';
const mapping = (user: string, more: Partial<PodIdentityMapping> = {}) =>
  completePodIdentity({ domino_user: user, iam_role_arn: role, ...more });

describe('Pod Identity mappings', () => {
  it('name the service account after the user, in DNS-1123 form with -sa appended', () => {
    for (const [user, account] of [
      ['svc-user-1', 'svc-user-1-sa'],
      ['Alice.Smith', 'alice-smith-sa'],
      ['a__b', 'a-b-sa'],
      ['-x-', 'x-sa'],
      ['_._', undefined],
      ['é', undefined],
    ] as const)
      assert.equal(defaultServiceAccount(user), account);
  });

  it("name a service account that Kubernetes accepts, whatever the user's name", () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 300 }), (user) => {
        const account = defaultServiceAccount(user);
        if (account === undefined) return;
        assert.ok(isServiceAccountName(account) && account.length <= 63 && account !== 'default');
      }),
    );
  });

  it('recognize the service accounts that Domino gives to pods by itself', () => {
    const run = '646d27b817c28b5ea4b5b0c1';
    for (const name of ['default', `run-${run}`, `ray-${run}-ray`, run]) assert.ok(isReservedAccount(name), name);
    for (const name of ['default-sa', 'run-1', 'svc-user-1-sa']) assert.ok(!isReservedAccount(name), name);
  });

  it('are stored as sent, with defaults for the other fields', () => {
    const sent = mapping('alice', { target_role_arn: role.replace('111111111111', '222222222222') });
    const { byUser, byAccount, problems } = parsePodIdentities({ alice: storedPodIdentity(sent) });
    assert.deepEqual(byUser.get('alice'), sent);
    assert.deepEqual(byAccount.get('alice-sa'), sent);
    assert.equal(problems.size, 0);
    assert.deepEqual([sent.disable_session_tags, sent.update_iam_role_trust_policy], [false, true]);
  });

  it('of two users that name one service account are a problem of both, and of no other user', () => {
    const data = {
      alice: storedPodIdentity(mapping('alice', { service_account: 'shared-sa' })),
      bob: storedPodIdentity(mapping('bob', { service_account: 'shared-sa' })),
      carol: storedPodIdentity(mapping('carol')),
    };
    const { byAccount, problems, byUser } = parsePodIdentities(data);
    assert.deepEqual([...byAccount.keys()], ['carol-sa']);
    assert.deepEqual(
      [...problems].map(([user, { code }]) => [user, code]),
      [
        ['alice', 'name_taken'],
        ['bob', 'name_taken'],
      ],
    );
    assert.equal(byUser.size, 3);
  });

  it('that cannot be read are a problem of their user alone', () => {
    const broken = {
      a: 'x',
      b: '[]',
      c: '{}',
      d: JSON.stringify({ service_account: 'd', iam_role_arn: 'no role' }),
      e: JSON.stringify({ service_account: 'run-*', iam_role_arn: role }),
      f: JSON.stringify({ service_account: 'default', iam_role_arn: role }),
      g: JSON.stringify({ service_account: 'g', iam_role_arn: role, disable_session_tags: 'yes' }),
      h: JSON.stringify({ service_account: 'h', iam_role_arn: role, target_role_arn: 'x' }),
    };
    const { byUser, byAccount, problems } = parsePodIdentities({ ...broken, ok: storedPodIdentity(mapping('ok')) });
    assert.deepEqual([...byUser.keys()], ['ok']);
    assert.deepEqual([...byAccount.keys()], ['ok-sa']);
    assert.deepEqual([...problems.keys()], Object.keys(broken));
    for (const { code, detail } of problems.values()) assert.ok(code === 'invalid_mapping' && detail.length > 10);
  });

  it('make the role unmanaged when one of them has update_iam_role_trust_policy false', () => {
    const data = {
      alice: storedPodIdentity(mapping('alice')),
      bob: storedPodIdentity(mapping('bob', { update_iam_role_trust_policy: false })),
    };
    assert.deepEqual([...parsePodIdentities(data).unmanagedRoles], [role]);
  });
});

describe('the Mutation of Pod Identity', () => {
  const accounts = new Map([
    ['svc-user-2', 'svc-user-2-sa'],
    ['svc-user-1', 'svc-user-1-sa'],
  ]);

  it("has the rules of the project's guide", () => {
    assert.deepEqual(mutationRules(accounts), [
      {
        labelSelectors: ['dominodatalab.com/workload-type in (Workspace,Batch,Scheduled)'],
        cloudWorkloadIdentity: {
          cloud_type: 'aws',
          default_sa: '',
          assume_sa_mapping: false,
          user_mappings: { 'svc-user-1': 'svc-user-1-sa', 'svc-user-2': 'svc-user-2-sa' },
        },
      },
    ]);
  });

  it('equals itself with the defaults that an API server adds, and with no other change', () => {
    const [rule] = mutationRules(accounts) as { cloudWorkloadIdentity: object }[];
    assert.ok(rule);
    const identity = rule.cloudWorkloadIdentity;
    assert.ok(sameRules([rule], accounts));
    assert.ok(sameRules([{ ...rule, enabled: true, matchBuilds: false, modifyLabel: null, name: '' }], accounts));
    for (const other of [
      undefined,
      [],
      [rule, rule],
      [{ ...rule, enabled: false }],
      [{ ...rule, matchBuilds: true }],
      [{ ...rule, enabled: 'true' }],
      [{ ...rule, jobTitle: 'admin' }],
      [{ ...rule, labelSelectors: [] }],
      [{ ...rule, modifyLabel: { key: 'a', value: 'b' } }],
      [{ ...rule, cloudWorkloadIdentity: { ...identity, default_sa: 'admin-sa' } }],
      [{ ...rule, cloudWorkloadIdentity: { ...identity, assume_sa_mapping: true } }],
      [{ ...rule, cloudWorkloadIdentity: { ...identity, allUsers: 'admin-sa' } }],
      [{ ...rule, cloudWorkloadIdentity: { ...identity, user_mappings: { mallory: 'svc-user-1-sa' } } }],
      [{ labelSelectors: ['a'] }],
      ['x'],
      [null],
    ])
      assert.ok(!sameRules(other, accounts), JSON.stringify(other));
  });

  it('lists each service account that any rule gives to workloads', () => {
    assert.deepEqual([...accountsInRules(mutationRules(accounts))].sort(), ['svc-user-1-sa', 'svc-user-2-sa']);
    assert.deepEqual([...accountsInRules([{ cloudWorkloadIdentity: { default_sa: 'all' } }, null, 1])], ['all']);
    for (const odd of [undefined, null, 'x', {}, [{ cloudWorkloadIdentity: { user_mappings: 'x' } }]]) {
      assert.equal(accountsInRules(odd).size, 0);
    }
  });
});
