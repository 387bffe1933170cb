/** Proves what unmanaged statements in a trust policy mean for Pod Identity. The stand-in's STS decides. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import fc from 'fast-check';
import { editTrustPolicy, readTrustPolicy } from '../../src/trust-policy/document.ts';
import type { PodTrust } from '../../src/trust-policy/pod-identity.ts';
import type { PodTrustProblem } from '../../src/trust-policy/pod-identity-unmanaged.ts';
import { conditionContext } from '../stack/aws-conditions.ts';
import { evaluateTrust } from '../stack/aws-trust.ts';
import { accountTag, clusterTag, namespaceTag, service, statement, trusts } from '../support/pod-trust-policies.ts';
import { accounts, scope } from '../support/trust-policies.ts';

interface Case {
  title: string;
  before: object;
  pods: { accounts: string[]; open: boolean };
  problem: PodTrustProblem['code'] | null;
  /** What the reason has to name. */
  names: string[];
  allowed: string[];
}

const folder = join(import.meta.dirname, '..', 'cases', 'pod-trust-others');
const own = scope.cluster ?? '';
const other = 'arn:aws:eks:us-west-2:111111111111:cluster/green';

interface PodRequest {
  account: string;
  namespace: string;
  cluster: string;
  tagged: boolean;
}

/** Whether STS would admit such a pod. */
function isIn(document: unknown, { account, namespace, cluster, tagged }: PodRequest): boolean {
  const tags = {
    [clusterTag]: cluster,
    'aws:RequestTag/eks-cluster-name': cluster.split('/')[1],
    [namespaceTag]: namespace,
    [accountTag]: account,
    'aws:RequestTag/kubernetes-pod-name': 'web-1',
    'aws:RequestTag/kubernetes-pod-uid': 'a1',
  };
  const source = { 'aws:SourceArn': cluster, 'aws:SourceAccount': cluster.split(':')[4] };
  const context = conditionContext({ ...(tagged ? tags : {}), ...source });
  return (
    evaluateTrust(document, { action: 'sts:AssumeRole', requester: { kind: 'service', name: service }, context }) ===
    'allowed'
  );
}

const requests: PodRequest[] = [...accounts, 'svc-user-1-sa', 'svc-user-2-sa', 'stranger'].flatMap((account) =>
  [scope.namespace, 'team-b'].flatMap((namespace) =>
    [own, other].flatMap((cluster) => [true, false].map((tagged) => ({ account, namespace, cluster, tagged }))),
  ),
);

/** The document after a reconcile of the role. */
function passed(text: string, pods: PodTrust) {
  const view = readTrustPolicy(scope, text, { members: false, pods });
  assert.ok(view.kind === 'read' && view.beside);
  const edit = editTrustPolicy(scope, text, undefined, () => false, 100_000, view.beside.allowed);
  assert.ok(edit.kind !== 'refused');
  return { beside: view.beside, document: JSON.parse(edit.document) as unknown };
}

/** Pods in a cluster and a namespace, and with a name, that no statement names. */
const strangers: PodRequest[] = [true, false].map((tagged) => ({
  account: 'stranger',
  namespace: 'nowhere',
  cluster: 'arn:aws:eks:us-west-2:111111111111:cluster/unheard-of',
  tagged,
}));

describe('trust policy: unmanaged statements for Pod Identity', () => {
  const files = readdirSync(folder).filter((name) => name.endsWith('.json'));
  assert.ok(files.length > 20);
  for (const file of files) {
    const { title, before, pods, problem, names, allowed } = JSON.parse(
      readFileSync(join(folder, file), 'utf8'),
    ) as Case;
    it(`${title} (${basename(file, '.json')})`, () => {
      const wanted = { ...pods, accounts: new Set(pods.accounts) };
      const { beside, document } = passed(JSON.stringify(before), wanted);
      assert.equal(beside.problem?.code ?? null, problem);
      for (const name of names) assert.ok(beside.problem?.detail.includes(name), beside.problem?.detail);
      assert.deepEqual([...beside.allowed.accounts].sort(), [...allowed].sort());
      // STS decides: after the edit, an open role admits a stranger, and no other role does.
      assert.equal(
        strangers.some((one) => isIn(document, one)),
        problem === 'trust_policy_open',
      );
      if (problem !== 'trust_policy_stricter') return;
      for (const one of requests) assert.ok(!isIn(document, one) || isIn(before, one), JSON.stringify(one));
    });
  }

  const keys = fc.constantFrom(
    clusterTag,
    'aws:RequestTag/eks-cluster-name',
    namespaceTag,
    accountTag,
    'aws:RequestTag/kubernetes-pod-name',
    'aws:SourceArn',
    'aws:sourceaccount',
    'aws:SourceVpc',
  );
  const operators = fc.constantFrom(
    ...['StringEquals', 'StringLike', 'StringNotEquals', 'StringEqualsIfExists', 'ArnLike', 'StringNotLike'],
    'ForAnyValue:StringEquals',
  );
  const values = fc.constantFrom(
    own,
    other,
    scope.namespace,
    'team-b',
    'acme',
    '111111111111',
    '*',
    'run-*',
    ...accounts,
  );
  const conditions = fc.dictionary(
    operators,
    fc.dictionary(keys, fc.array(values, { minLength: 1, maxLength: 2 }), { minKeys: 1, maxKeys: 2 }),
    { maxKeys: 2 },
  );
  const others = fc.array(
    fc.record({ condition: conditions, effect: fc.constantFrom('Allow', 'Allow', 'Allow', 'Deny') }),
    { minLength: 1, maxLength: 3 },
  );

  it('adds no account beside a stricter statement, only desired ones elsewhere, and reports an open role', () => {
    fc.assert(
      fc.property(others, trusts, (all, pods) => {
        const Statement = all.map(({ condition, effect }, index) =>
          statement({ Sid: `Other${index}`, Effect: effect, Condition: condition }),
        );
        const before = { Version: '2012-10-17', Statement };
        const { beside, document } = passed(JSON.stringify(before), pods);
        for (const one of requests) {
          if (!isIn(document, one) || isIn(before, one)) continue;
          assert.notEqual(
            beside.problem?.code,
            'trust_policy_stricter',
            'an account was added beside a stricter statement',
          );
          assert.equal(one.cluster, own);
          assert.ok(pods.open || (one.namespace === scope.namespace && pods.accounts.has(one.account)));
        }
        const isOpen = strangers.some((one) => isIn(before, one));
        if (pods.accounts.size > 0 && beside.problem === undefined) assert.ok(!isOpen, 'an open role is not reported');
      }),
      { numRuns: 500 },
    );
  });
});
