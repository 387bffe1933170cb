/** Owns random trust policies (fast-check) with statements for EKS Pod Identity: unmanaged ones, and the service's own. */
import fc from 'fast-check';
import type { PodTrust } from '../../src/trust-policy/pod-identity.ts';
import { accounts, anything, type Statement, scene, scope, someAccounts } from './trust-policies.ts';

export const sid = 'AllowEksAuthToAssumeRoleForPodIdentity';
export const service = 'pods.eks.amazonaws.com';
export const both = ['sts:AssumeRole', 'sts:TagSession'];
export const namespaceTag = 'aws:RequestTag/kubernetes-namespace';
export const accountTag = 'aws:RequestTag/kubernetes-service-account';
export const clusterTag = 'aws:RequestTag/eks-cluster-arn';

export const statement = (more: object = {}): Statement => ({
  Sid: sid,
  Effect: 'Allow',
  Principal: { Service: service },
  Action: both,
  ...more,
});
const tagged = (names: unknown, namespace: unknown = scope.namespace) => ({
  StringEquals: { [namespaceTag]: namespace, [accountTag]: names },
});

const sources = (cluster: string) => ({
  StringEquals: { 'aws:SourceAccount': '111111111111' },
  ArnEquals: { 'aws:SourceArn': cluster },
});

/** Unmanaged statements, each similar to one that the service manages. */
const foreign: fc.Arbitrary<Statement> = fc
  .tuple(someAccounts, anything)
  .chain(([names, value]) =>
    fc.constantFrom(
      statement({ Effect: 'Deny', Condition: tagged(names) }),
      statement({ Sid: 'Pods', Condition: tagged(names) }),
      statement({ Sid: sid.toLowerCase() }),
      statement({ Sid: `${sid}ForTeamX`, Condition: tagged(names) }),
      statement({ Condition: tagged(names, 'other') }),
      statement({ Condition: { StringEquals: { ...tagged(names).StringEquals, [clusterTag]: `${scope.cluster}2` } } }),
      statement({ Condition: sources(`${scope.cluster}2`) }),
      statement({ Condition: { ...sources(scope.cluster ?? ''), ArnLike: { 'aws:SourceArn': '*' } } }),
      statement({ Condition: tagged(names, [scope.namespace, 'other']) }),
      statement({ Condition: { StringLike: { [namespaceTag]: scope.namespace, [accountTag]: '*' } } }),
      statement({ Condition: { ...tagged(names), Bool: { 'aws:SecureTransport': 'true' } } }),
      statement({ Condition: { StringEquals: { ...tagged(names).StringEquals, 'aws:RequestedRegion': 'x' } } }),
      statement({ Principal: { Service: [service, 'ec2.amazonaws.com'] } }),
      statement({ Principal: { Service: service, AWS: '333333333333' } }),
      statement({ Principal: '*' }),
      statement({ Action: [...both, 'sts:SetSourceIdentity'] }),
      statement({ Action: '*' }),
      statement({ Note: value }),
      { ...statement(), NotAction: 'sts:*' },
      { Effect: 'Allow', Principal: { Service: 'ec2.amazonaws.com' }, Action: 'sts:AssumeRole', Note: value },
    ),
  );

/** A managed statement, in any of its possible forms. */
const own = fc
  .record({
    names: fc.uniqueArray(fc.constantFrom(...accounts, 'stranger-sa', 'irsa-svc:no-live-runs'), { maxLength: 5 }),
    action: fc.constantFrom<unknown>(both, [...both].reverse(), ['sts:assumerole', 'STS:TagSession'], 'sts:AssumeRole'),
    open: fc.constantFrom('none', 'source', false),
    bound: fc.boolean(),
    single: fc.boolean(),
    name: fc.constantFrom(sid, `${sid}OfDomino`, `${sid}OfDomino2`),
  })
  .map(({ names, action, open, bound, single, name }) => {
    const tags = tagged(single && names.length === 1 ? names[0] : names, [scope.namespace]).StringEquals;
    const Condition =
      open === 'source'
        ? sources(scope.cluster ?? '')
        : { StringEquals: bound ? { ...tags, [clusterTag]: scope.cluster } : tags };
    return statement({
      Sid: name,
      Action: action,
      Principal: { Service: single ? service : [service] },
      ...(open === 'none' ? {} : { Condition }),
    });
  });

/** A document of any author, with similar statements and possibly a managed one. */
export const podScene = fc
  .record({
    base: scene,
    before: fc.array(foreign, { maxLength: 3 }),
    mine: fc.option(own),
    after: fc.array(foreign, { maxLength: 2 }),
  })
  .map(({ base, before, mine, after }) => {
    const { Statement: statements, ...rest } = base.document;
    const others = [...before, ...(statements as Statement[])];
    const all = [...others, ...(mine ? [mine] : []), ...after];
    // A policy needs at least one statement.
    const whole = all.length > 0 ? all : [{ Effect: 'Deny', Principal: '*', Action: 'sts:None' }];
    const foreigners = mine ? [...others, ...after] : whole;
    const document = { ...rest, Statement: whole };
    return {
      document,
      text: JSON.stringify(document),
      foreigners,
      mine: mine ?? undefined,
      index: mine ? others.length : whole.length,
    };
  });

export const trusts: fc.Arbitrary<PodTrust> = fc
  .tuple(fc.shuffledSubarray(accounts), fc.boolean())
  .map(([names, open]) => ({ accounts: new Set(names), open }));
