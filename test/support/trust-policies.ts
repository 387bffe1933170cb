/** Owns random trust policies (fast-check): unmanaged statements and subjects, and possibly a statement to adopt. */
import fc from 'fast-check';
import type { TrustScope } from '../../src/trust-policy/document.ts';
import { managedAccount } from '../../src/trust-policy/subjects.ts';

const issuer = 'oidc.eks.us-west-2.amazonaws.com/id/EXAMPLE';
export const scope: TrustScope = {
  issuer,
  audience: 'sts.amazonaws.com',
  providerArn: `arn:aws:iam::111111111111:oidc-provider/${issuer}`,
  namespace: 'domino-compute',
  cluster: 'arn:aws:eks:us-west-2:111111111111:cluster/acme',
};
export const sub = `${issuer}:sub`;
export const aud = `${issuer}:aud`;
const action = 'sts:AssumeRoleWithWebIdentity';

export type Statement = Record<string, unknown>;
export type Document = { Statement: Statement[] } & Record<string, unknown>;

export const accounts = [
  ...[1, 2, 3, 4].map((index) => `run-${String(index).repeat(24)}`),
  'alice',
  'svc-user-1-sa',
  'a',
  'ray-646d27b817c28b5ea4b5b0c1-ray',
  'x.y.z',
];
export const someAccounts = fc.subarray(accounts);

/** Subjects that the service never writes; none of them admits an account of the list above. */
const foreignSubject = fc.constantFrom(
  'system:serviceaccount:other:x',
  '*:domino-compute:*-admin',
  '*:other:alice',
  'system:serviceaccount:domino-compute:bob',
  '*ABC',
  '*:domino-compute:run-?',
  '*:domino-compute:Alice',
);

const managedSubject = fc.oneof(
  fc.constantFrom(...accounts).map((account) => `*:domino-compute:${account}`),
  fc.constantFrom('', 'irsa-svc:no-live-runs', `*${'1'.repeat(24)}`, `*${'2'.repeat(24)}`, `*${'9'.repeat(24)}`),
);

/** Any names and values, `__proto__` among them, except numbers that JSON cannot represent. */
export const anything = fc.jsonValue({ maxDepth: 2 }).map((value) => JSON.parse(JSON.stringify(value)) as unknown);

export const ours = (condition: object, more: object = {}): Statement => ({
  Effect: 'Allow',
  Principal: { Federated: scope.providerArn },
  Action: action,
  Condition: condition,
  ...more,
});

export const like = (subjects: unknown, audience: unknown = scope.audience) => ({
  StringLike: { [aud]: audience, [sub]: subjects },
});

/** Statements that the service must not adopt, each similar to one that it would adopt. */
const foreignStatement: fc.Arbitrary<Statement> = fc
  .tuple(
    fc.array(fc.oneof(managedSubject, foreignSubject), { maxLength: 3 }),
    // In an Allow for the cluster's provider, subjects of the managed forms are managed, whatever else the statement has.
    fc.array(foreignSubject, { maxLength: 3 }),
    anything,
  )
  .chain(([any, subjects, value]) =>
    fc.constantFrom(
      ours(like(any), { Effect: 'Deny' }),
      ours(like(subjects), { Principal: { Federated: [scope.providerArn, 'other'] } }),
      ours(like(subjects), { Principal: { Federated: scope.providerArn, AWS: '333333333333' } }),
      ours(like(subjects), { Principal: '*' }),
      ours(like(subjects), { Action: [action, 'sts:TagSession'] }),
      ours(like(subjects), { Note: value }),
      ours(like(subjects, 'https://vault.example')),
      ours({ ...like(subjects), Bool: { 'aws:SecureTransport': 'true' } }),
      ours({ StringLike: { ...like(subjects).StringLike, 'aws:RequestedRegion': 'us-west-2' } }),
      ours({ StringEquals: { [aud]: scope.audience, [sub]: ['system:serviceaccount:other:x', ...subjects] } }),
      ours({ ...like(subjects), StringEquals: { [sub]: subjects } }),
      { Effect: 'Allow', Principal: { AWS: ['AROAEXAMPLE', '333333333333'] }, Action: 'sts:AssumeRole', Note: value },
      { Effect: 'Deny', Principal: '*', NotAction: 'sts:*', Condition: { Null: { 'aws:PrincipalArn': 'true' } } },
    ),
  );

/** A statement that the service must adopt, with its subjects. */
const adoptable = fc
  .record({
    subjects: fc.uniqueArray(fc.oneof(managedSubject, foreignSubject), { maxLength: 6 }),
    audience: fc.constantFrom<unknown>(scope.audience, [scope.audience], [scope.audience, 'x'], [], undefined),
    literalAud: fc.boolean(),
    literalSub: fc.boolean(),
    single: fc.boolean(),
    sid: fc.boolean(),
  })
  .map(({ subjects, audience: listed, literalAud, literalSub, single, sid }) => {
    const isOurs = subjects.every((subject) => managedAccount('domino-compute', subject) !== undefined);
    // Unmanaged literal subjects would keep the service from adopting the statement, and so would a missing audience.
    const literal = literalSub && isOurs;
    const audience = isOurs || [listed ?? []].flat().length > 0 ? listed : scope.audience;
    const value = single && subjects.length === 1 ? subjects[0] : subjects;
    const audKey = audience === undefined ? {} : { [aud]: audience };
    const equals = { ...(literalAud ? audKey : {}), ...(literal ? { [sub]: value } : {}) };
    const likes = { ...(literalAud ? {} : audKey), ...(literal ? {} : { [sub]: value }) };
    const statement = ours({ StringEquals: equals, StringLike: likes }, sid ? { Sid: 'Ours' } : {});
    return { subjects, statement };
  });

export const scene = fc
  .record({
    before: fc.array(foreignStatement, { maxLength: 3 }),
    own: fc.option(adoptable, { nil: undefined }),
    after: fc.array(foreignStatement, { maxLength: 3 }),
    extra: anything,
    indent: fc.constantFrom(undefined, 2),
  })
  .map(({ before, own, after, extra, indent }) => {
    const statements = own ? [...before, own.statement, ...after] : [...before, ...after];
    const document = { Version: '2012-10-17', Id: extra, Statement: statements };
    return {
      foreign: [...before, ...after],
      /** The index of the service's statement, before and after. */
      index: own ? before.length : statements.length,
      subjects: own?.subjects ?? [],
      document,
      text: JSON.stringify(document, null, indent),
    };
  });

export type Scene = typeof scene extends fc.Arbitrary<infer T> ? T : never;
