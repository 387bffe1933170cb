/** Proves which service account a Domino user gets, and what becomes of stored Pod Identity mappings of any kind. */
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
  it('the account is the name in DNS-1123 with -sa after it', () => {
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

  it('whatever the name, the account is one that Kubernetes takes and nobody else has by itself', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 300 }), (user) => {
        const account = defaultServiceAccount(user);
        if (account === undefined) return;
        assert.ok(isServiceAccountName(account) && account.length <= 63 && account !== 'default');
      }),
    );
  });

  it('knows the accounts that are nobody’s own', () => {
    const run = '646d27b817c28b5ea4b5b0c1';
    for (const name of ['default', `run-${run}`, `ray-${run}-ray`, run]) assert.ok(isReservedAccount(name), name);
    for (const name of ['default-sa', 'run-1', 'svc-user-1-sa']) assert.ok(!isReservedAccount(name), name);
  });

  it('what is stored is what was sent, with the rest filled in', () => {
    const sent = mapping('alice', { target_role_arn: role.replace('111111111111', '222222222222') });
    const { byUser, byAccount, problems } = parsePodIdentities({ alice: storedPodIdentity(sent) });
    assert.deepEqual(byUser.get('alice'), sent);
    assert.deepEqual(byAccount.get('alice-sa'), sent);
    assert.equal(problems.size, 0);
    assert.deepEqual([sent.disable_session_tags, sent.update_iam_role_trust_policy], [false, true]);
  });

  it('two users who name one account get none, and others are not touched', () => {
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

  it('a text that cannot be read is a problem of its user alone', () => {
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

  it('one false keeps the role’s trust policy out of our hands', () => {
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

  it('says what the guide of the project says', () => {
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

  it('is the same with what an API server fills in, and not with anything else', () => {
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

  it('names each account that any rule gives to anybody', () => {
    assert.deepEqual([...accountsInRules(mutationRules(accounts))].sort(), ['svc-user-1-sa', 'svc-user-2-sa']);
    assert.deepEqual([...accountsInRules([{ cloudWorkloadIdentity: { default_sa: 'all' } }, null, 1])], ['all']);
    for (const odd of [undefined, null, 'x', {}, [{ cloudWorkloadIdentity: { user_mappings: 'x' } }]]) {
      assert.equal(accountsInRules(odd).size, 0);
    }
  });
});
