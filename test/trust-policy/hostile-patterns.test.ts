/** Proves that no pattern in a role's trust policy, which people of other teams may write, holds up those who read it. */
import assert from 'node:assert/strict';
import { editTrustPolicy, readTrustPolicy } from '../../src/trust-policy/document.ts';
import { toPodTrust } from '../../src/trust-policy/pod-identity.ts';
import { denies, letsIn, openSubjects } from '../../src/trust-policy/reach.ts';
import { scope } from '../support/trust-policies.ts';

/** As long as a trust policy may be; a search that tries each way to match them would not end. */
const patterns = ['*'.repeat(7_000), '*a'.repeat(3_500), '?*'.repeat(3_500), 'arn:aws:eks:*:*:cluster/*'.repeat(250)];
const web = { Federated: scope.providerArn };
const pods = { Service: 'pods.eks.amazonaws.com' };
const keys = [
  `${scope.issuer}:sub`,
  `${scope.issuer}:aud`,
  'aws:SourceArn',
  'aws:SourceAccount',
  'aws:RequestTag/kubernetes-namespace',
  'aws:RequestTag/kubernetes-service-account',
  'aws:RequestTag/eks-cluster-arn',
];
const operators = ['StringLike', 'StringNotLike', 'ArnLike', 'ArnEquals', 'ForAnyValue:StringLike', 'StringEquals'];

/** Each place of a statement where a pattern may stand. */
function* statementsWith(pattern: string): Generator<object> {
  for (const Principal of [web, pods, '*']) {
    for (const Effect of ['Allow', 'Deny']) {
      yield { Effect, Principal, Action: pattern };
      yield { Effect, Principal, NotAction: [pattern] };
      for (const operator of operators) {
        for (const key of keys)
          yield { Effect, Principal, Action: 'sts:*', Condition: { [operator]: { [key]: pattern } } };
      }
    }
  }
}

describe('hostile patterns in a trust policy', () => {
  for (const pattern of patterns) {
    it(`do not hold up a reader: ${pattern.slice(0, 10)}…`, () => {
      for (const ending of ['', '~']) {
        for (const statement of statementsWith(pattern + ending)) {
          const text = JSON.stringify({ Version: '2012-10-17', Statement: [statement] });
          const parts = {
            members: true,
            pods: toPodTrust({ accounts: ['svc-user-1-sa'], open: false }),
            tokens: { audience: 'irsa-role:p', granted: true, denied: new Set(['run-1']) },
          };
          assert.equal(readTrustPolicy(scope, text, parts).kind, 'read');
          editTrustPolicy(scope, text, ['run-1'], () => false, 100_000, parts.pods, parts.tokens);
          for (const judge of [letsIn, denies]) judge(scope, text, 'run-646d27b817c28b5ea4b5b0c1');
          openSubjects(scope, text);
        }
      }
    });
  }
});
