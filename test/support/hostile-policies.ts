/** Owns a process that reads trust policies with the pattern of its argument in every place; it is ended where it does not end. */
import assert from 'node:assert/strict';
import { editTrustPolicy, readTrustPolicy } from '../../src/trust-policy/document.ts';
import { toPodTrust } from '../../src/trust-policy/pod-identity.ts';
import { denies, letsIn, openSubjects } from '../../src/trust-policy/reach.ts';
import { scope } from './trust-policies.ts';

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

for (const ending of ['', '~']) {
  for (const statement of statementsWith((process.argv[2] ?? '') + ending)) {
    const text = JSON.stringify({ Version: '2012-10-17', Statement: [statement] });
    const parts = {
      members: true,
      pods: toPodTrust({ accounts: ['svc-user-1-sa'], open: false }),
      tokens: { audience: 'irsa/p', granted: true, denied: new Set(['run-1']) },
    };
    assert.equal(readTrustPolicy(scope, text, parts).kind, 'read');
    editTrustPolicy(scope, text, ['run-1'], () => false, 100_000, parts.pods, parts.tokens);
    for (const judge of [letsIn, denies]) judge(scope, text, 'run-646d27b817c28b5ea4b5b0c1');
    openSubjects(scope, text);
  }
}
