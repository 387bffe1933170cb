/** Proves what holds for Pod Identity's part of any trust policy, with edits that fast-check generates. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { editTrustPolicy, readTrustPolicy, trustPolicySize } from '../../src/trust-policy/document.ts';
import type { PodTrust } from '../../src/trust-policy/pod-identity.ts';
import { conditionContext } from '../stack/aws-conditions.ts';
import { evaluateTrust } from '../stack/aws-trust.ts';
import {
  accountTag,
  both,
  clusterTag,
  namespaceTag,
  podScene,
  service,
  statement,
  trusts,
} from '../support/pod-trust-policies.ts';
import { accounts, anything, type Document, type Statement, scope, someAccounts } from '../support/trust-policies.ts';

const plenty = 100_000;
const keepNone = () => false;

const edit = (text: string, pods: PodTrust, maxChars = plenty) =>
  editTrustPolicy(scope, text, undefined, keepNone, maxChars, pods);
const statementsOf = (text: string) => (JSON.parse(text) as Document).Statement;

function requestOf(
  account: string,
  tags: boolean,
  action: string,
  { namespace = scope.namespace, cluster = scope.cluster ?? '' } = {},
) {
  const sent = tags ? { [namespaceTag]: namespace, [accountTag]: account, [clusterTag]: cluster } : {};
  const source = { 'aws:SourceAccount': cluster.split(':')[4], 'aws:SourceArn': cluster };
  const requester = { kind: 'service', name: service } as const;
  return { action, requester, context: conditionContext({ ...sent, ...source }) };
}
const otherClusters = [
  'arn:aws:eks:us-west-2:111111111111:cluster/acme-2',
  'arn:aws:eks:us-west-2:222222222222:cluster/acme',
  'arn:aws:eks:eu-west-1:111111111111:cluster/acme',
];

describe('trust policy: Pod Identity’s part of any document', () => {
  it('invariant 2: unmanaged statements stay deep-equal and in order through any number of edits', () => {
    fc.assert(
      fc.property(podScene, fc.array(trusts, { minLength: 1, maxLength: 4 }), (from, steps) => {
        let { text } = from;
        for (const trust of steps) {
          const done = edit(text, trust);
          assert.ok(done.kind !== 'refused');
          if (done.kind === 'changed') text = done.document;
          const { Statement: all, ...rest } = JSON.parse(text) as Document;
          const { Statement: _before, ...restBefore } = JSON.parse(from.text) as Document;
          assert.deepEqual(rest, restBefore);
          const ours = all.length - from.foreigners.length;
          assert.ok(ours === 0 || ours === 1);
          const index =
            ours === 0
              ? all.length
              : all.findIndex((one, at) => JSON.stringify(one) !== JSON.stringify(from.foreigners[at]));
          assert.deepEqual(ours === 0 ? all : all.toSpliced(index, 1), from.foreigners);
          if (trust.accounts.size > 0) assert.equal(ours, 1);
          assert.equal(edit(text, trust).kind, 'unchanged');
        }
      }),
      { numRuns: 300 },
    );
  });

  it('the service’s statement admits exactly the desired accounts, with both actions', () => {
    fc.assert(
      fc.property(podScene, trusts, (from, trust) => {
        const done = edit(from.text, trust);
        assert.ok(done.kind !== 'refused');
        const all = statementsOf(done.document);
        const alone = { Version: '2012-10-17', Statement: [...all] as Statement[] };
        for (const one of from.foreigners) {
          const at = alone.Statement.findIndex((each) => JSON.stringify(each) === JSON.stringify(one));
          alone.Statement.splice(at, 1);
        }
        const verdict = (account: string, tags: boolean, action: string, where: Parameters<typeof requestOf>[3] = {}) =>
          evaluateTrust(alone, requestOf(account, tags, action, where)) === 'allowed';
        // Without accounts the statement admits no pod, even without session tags.
        const isOpen = trust.open && trust.accounts.size > 0;
        for (const account of [...accounts, 'stranger-sa', '*', 'irsa-svc:no-live-runs-not']) {
          const isIn = isOpen || trust.accounts.has(account);
          for (const action of both) {
            assert.equal(verdict(account, true, action), isIn, `${account} ${action}`);
            assert.equal(verdict(account, true, action, { namespace: 'other' }), isOpen, `${account} elsewhere`);
            assert.equal(verdict(account, false, action), isOpen, `${account} without tags`);
            for (const cluster of otherClusters)
              for (const tags of [true, false])
                assert.equal(verdict(account, tags, action, { cluster }), false, cluster);
          }
          assert.equal(verdict(account, true, 'sts:AssumeRoleWithWebIdentity'), false);
        }
        const web = { kind: 'federated', provider: scope.providerArn } as const;
        const stranger = { kind: 'service', name: 'ec2.amazonaws.com' } as const;
        for (const requester of [web, stranger]) {
          const request = { ...requestOf('alice', true, 'sts:AssumeRole'), requester };
          assert.notEqual(evaluateTrust(alone, request), 'allowed');
        }
      }),
      { numRuns: 300 },
    );
  });

  it('the result depends on neither the order of the accounts nor the earlier statement', () => {
    fc.assert(
      fc.property(podScene, trusts, trusts, (from, trust, other) => {
        const reversed = { ...trust, accounts: new Set([...trust.accounts].reverse()) };
        assert.deepEqual(edit(from.text, trust), edit(from.text, reversed));
        fc.pre(trust.accounts.size > 0 && other.accounts.size > 0);
        const [direct, first] = [edit(from.text, trust), edit(from.text, other)];
        assert.ok(direct.kind !== 'refused' && first.kind !== 'refused');
        const back = edit(first.document, trust);
        assert.ok(back.kind !== 'refused');
        const entries = (text: string) => readTrustPolicy(scope, text, { members: false, pods: trust });
        const [one, two] = [entries(direct.document), entries(back.document)];
        assert.ok(one.kind === 'read' && two.kind === 'read');
        assert.deepEqual(one.subjects, two.subjects);
      }),
    );
  });

  it('removing all accounts leaves only the unmanaged statements, or a closed one where there are none', () => {
    fc.assert(
      fc.property(podScene, trusts, (from, trust) => {
        const there = edit(from.text, trust);
        assert.ok(there.kind !== 'refused');
        const gone = edit(there.document, { accounts: new Set(), open: false });
        assert.ok(gone.kind !== 'refused');
        const left = statementsOf(gone.document);
        if (from.foreigners.length > 0) return assert.deepEqual(left, from.foreigners);
        // IAM accepts no policy without a statement: the service's stays, and admits no pod.
        assert.equal(left.length, 1);
        for (const account of accounts) {
          assert.equal(
            evaluateTrust(JSON.parse(gone.document), requestOf(account, true, 'sts:AssumeRole')),
            'no-match',
          );
        }
        return undefined;
      }),
      { numRuns: 300 },
    );
  });

  it('invariant 8: an edit is refused from the first character over the limit, unless it shortens the document', () => {
    fc.assert(
      fc.property(podScene, trusts, (from, trust) => {
        const free = edit(from.text, trust);
        if (free.kind !== 'changed') return assert.equal(edit(from.text, trust, 0).kind, 'unchanged');
        assert.equal(free.size, trustPolicySize(free.document));
        assert.deepEqual(edit(from.text, trust, free.size), free);
        const tight = edit(from.text, trust, free.size - 1);
        if (free.size < trustPolicySize(from.text)) return assert.deepEqual(tight, free);
        return assert.equal(tight.kind === 'refused' && tight.code, 'trust_policy_full');
      }),
      { numRuns: 300 },
    );
  });

  it('the parts for web identity and Pod Identity are independent, and the capacity counts both', () => {
    fc.assert(
      fc.property(podScene, someAccounts, trusts, (from, members, trust) => {
        const together = editTrustPolicy(scope, from.text, members, keepNone, plenty, trust);
        const pods = edit(from.text, trust);
        assert.ok(pods.kind !== 'refused' && together.kind !== 'refused');
        const apart = editTrustPolicy(scope, pods.document, members, keepNone, plenty);
        assert.ok(apart.kind !== 'refused');
        assert.deepEqual(JSON.parse(together.document), JSON.parse(apart.document));
        const view = (text: string, own?: PodTrust) =>
          readTrustPolicy(scope, text, { members: true, ...(own ? { pods: own } : {}) });
        const [before, after] = [view(from.text, trust), view(pods.document)];
        assert.ok(before.kind === 'read' && after.kind === 'read');
        assert.equal(before.room(plenty, keepNone), after.room(plenty, keepNone));
      }),
      { numRuns: 200 },
    );
  });

  it('never throws, whatever the statement', () => {
    const keys = fc.constantFrom('Sid', 'Effect', 'Principal', 'Action', 'Condition', '__proto__', 'constructor');
    const values = fc.oneof(anything, fc.constantFrom<unknown>([], {}, '', { StringEquals: {} }, { Service: service }));
    const odd = fc.dictionary(keys, values).map((more) => ({ Statement: [{ ...statement(), ...more }] }));
    fc.assert(
      fc.property(odd, trusts, (document, trust) => {
        const text = JSON.stringify(document);
        const done = edit(text, trust);
        const view = readTrustPolicy(scope, text, { members: false, pods: trust });
        assert.equal(done.kind === 'refused', view.kind === 'refused');
        if (done.kind === 'changed') assert.doesNotMatch(JSON.stringify(statementsOf(done.document).at(-1)), /\[\]/);
      }),
      { numRuns: 500 },
    );
  });
});
