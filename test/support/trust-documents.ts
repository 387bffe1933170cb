/** Owns random trust policies with hostile parts: every form of operator, principal and action that IAM accepts, combined freely. */
import fc from 'fast-check';
import { accounts, aud, type Statement, scope, sub } from './trust-policies.ts';

const action = 'sts:AssumeRoleWithWebIdentity';
export const github = 'arn:aws:iam::111111111111:oidc-provider/token.actions.githubusercontent.com';
const placeholder = 'irsa-svc:no-live-runs';
const variable = (name: string) => ['$', '{', name, '}'].join('');

const ourForm = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...accounts).map((account) => `*:domino-compute:${account}`) },
  { weight: 1, arbitrary: fc.constantFrom('', placeholder, `*${'1'.repeat(24)}`, `*${'9'.repeat(24)}`) },
);
const othersForm = fc.constantFrom(
  'system:serviceaccount:prod:api',
  'system:serviceaccount:domino-compute:alice',
  `system:serviceaccount:domino-compute:run-${'1'.repeat(24)}`,
  'system:serviceaccount:domino-compute:*',
  'system:serviceaccount:*:*',
  'system:serviceaccount:domino-*:*',
  '*:domino-compute:run-*',
  '*:domino-compute:*',
  '*:other:alice',
  '*:domino-compute:Alice',
  '*:serviceaccount:domino-compute:a?ice',
  'SYSTEM:SERVICEACCOUNT:DOMINO-COMPUTE:ALICE',
  '*',
  '*e',
  '?ystem:*',
  variable(sub),
  `system:serviceaccount:domino-compute:${variable('aws:PrincipalTag/name')}`,
  '研究‑a 🚀',
);
const subjects = fc.array(fc.oneof({ weight: 3, arbitrary: ourForm }, { weight: 1, arbitrary: othersForm }), {
  maxLength: 4,
});
const oneOrList = <T>(list: readonly T[], single: boolean) => (single && list.length === 1 ? list[0] : list);

const anyOperator = fc.constantFrom(
  ...['StringLike', 'StringEquals', 'StringEqualsIgnoreCase', 'StringLikeIfExists', 'ForAnyValue:StringLike'],
  ...['ForAllValues:StringLike', 'ForAllValues:StringEquals', 'ForAnyValue:StringEqualsIfExists', 'ArnLike'],
  ...['StringNotLike', 'StringNotEquals', 'StringNotEqualsIgnoreCase', 'ForAllValues:StringNotLike'],
  ...['ForAnyValue:StringNotLike', 'StringNotLikeIfExists'],
);
const operator = fc.oneof(
  { weight: 3, arbitrary: fc.constant('StringLike') },
  { weight: 1, arbitrary: fc.constant('StringEquals') },
  { weight: 2, arbitrary: anyOperator },
);
const cased = (key: string) =>
  fc.oneof({ weight: 6, arbitrary: fc.constant(key) }, fc.constantFrom(key.toLowerCase(), key.toUpperCase()));

type Entry = [operator: string, key: string, value: unknown];
const subEntry: fc.Arbitrary<Entry> = fc
  .tuple(operator, cased(sub), subjects, fc.boolean())
  .map(([name, key, list, single]) => [name, key, oneOrList(list, single)]);
const audiences = fc.constantFrom<unknown>(
  ...[scope.audience, scope.audience, [scope.audience], [scope.audience, 'https://vault.example'], []],
  ...['https://vault.example', '*', [scope.audience, '*'], 'sts.*', 'sts.amazonaws.co?', variable(aud)],
);
const audEntry: fc.Arbitrary<Entry> = fc
  .tuple(operator, cased(aud), audiences)
  .map(([name, key, value]) => [name, key, value]);
const otherEntry: fc.Arbitrary<Entry> = fc.constantFrom<Entry>(
  ['StringEquals', 'aws:SourceVpc', 'vpc-0123456789abcdef0'],
  ['StringNotEquals', 'aws:SourceVpc', 'vpc-0123456789abcdef0'],
  ['StringEquals', 'aws:sourcevpc', []],
  ['Bool', 'aws:SecureTransport', 'true'],
  ['Null', sub, 'true'],
  ['Null', sub, 'false'],
  ['StringLike', 'token.actions.githubusercontent.com:sub', 'repo:x/*'],
  ['StringLikeIfExists', 'token.actions.githubusercontent.com:sub', 'repo:x/*'],
  ['ForAnyValue:StringNotLike', 'token.actions.githubusercontent.com:sub', 'repo:x/*'],
  ['StringEquals', 'aws:PrincipalTag/team', '研究‑a 🚀'],
);
/** Possible forms of the service's own statement are frequent, so that a document often has one. */
const plainCondition = fc
  .tuple(subjects, audiences, fc.boolean(), fc.boolean())
  .map(([list, audience, literal, single]): Entry[] => [
    ['StringLike', sub, oneOrList(list, single)],
    [literal ? 'StringEquals' : 'StringLike', aud, audience],
  ]);
const anyCondition = fc
  .tuple(
    fc.array(subEntry, { maxLength: 2 }),
    fc.array(audEntry, { maxLength: 2 }),
    fc.array(otherEntry, { maxLength: 2 }),
  )
  .map((entries) => entries.flat());
const condition = fc
  .oneof(
    plainCondition,
    anyCondition,
    fc.tuple(plainCondition, anyCondition).map((both) => both.flat()),
  )
  .map((entries) => {
    const result: Record<string, Record<string, unknown>> = {};
    for (const [name, key, value] of entries) result[name] = { ...result[name], [key]: value };
    return result;
  });

const principal = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom<object>(...[{}, {}, { Principal: { Federated: [scope.providerArn] } }]) },
  {
    weight: 3,
    arbitrary: fc
      .constantFrom<unknown>(
        { Federated: [scope.providerArn, github] },
        { Federated: scope.providerArn, AWS: '333333333333' },
        { Federated: github },
        { Federated: '*' },
        { AWS: '*' },
        { AWS: ['AROAEXAMPLE', 'arn:aws:iam::333333333333:root'] },
        { Service: 'pods.eks.amazonaws.com' },
        '*',
      )
      .map((value) => ({ Principal: value })),
  },
  {
    weight: 1,
    arbitrary: fc
      .constantFrom<unknown>({ AWS: '333333333333' }, { Federated: scope.providerArn })
      .map((value) => ({ Principal: undefined, NotPrincipal: value })),
  },
);
const actions = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom<object>({}, { Action: [action] }, { Action: action.toUpperCase() }) },
  fc.constantFrom<object>(
    { Action: [action, 'sts:TagSession'] },
    { Action: 'sts:*' },
    { Action: ['*'] },
    { Action: 'sts:AssumeRole' },
    { Action: undefined, NotAction: 'sts:AssumeRole' },
    { Action: undefined, NotAction: action },
  ),
);

const statement: fc.Arbitrary<Statement> = fc
  .record({
    effect: fc.constantFrom('Allow', 'Allow', 'Allow', 'Allow', 'Allow', 'Deny'),
    principal,
    actions,
    condition: fc.option(condition, { nil: undefined, freq: 12 }),
    sid: fc.constantFrom(undefined, undefined, 'Runs', '研究'),
    note: fc.constantFrom(undefined, undefined, undefined, undefined, undefined, { Note: 'Größe' }),
  })
  .map(({ effect, principal: who, actions: what, condition: when, sid, note }) => {
    const base = { Sid: sid, Effect: effect, Principal: { Federated: scope.providerArn }, Action: action };
    // JSON leaves undefined fields out.
    return JSON.parse(JSON.stringify({ ...base, ...who, ...what, Condition: when, ...note })) as Statement;
  });

/** A document's text, as any tool may have left it. */
export const hostileDocument: fc.Arbitrary<string> = fc
  .record({
    version: fc.constantFrom('2012-10-17', '2012-10-17', '2012-10-17', '2008-10-17', undefined),
    statements: fc.array(statement, { minLength: 1, maxLength: 4 }),
    single: fc.boolean(),
    indent: fc.constantFrom(undefined, 2),
  })
  .map(({ version, statements, single, indent }) =>
    JSON.stringify({ Version: version, Id: 'größer', Statement: oneOrList(statements, single) }, null, indent),
  );

/** Alterations that another tool makes to each new statement of the service. */
export const alterations: Record<string, (one: Statement) => Statement> = {
  'a longer action list': (one) => ({ ...one, Action: [action, 'sts:TagSession'] }),
  'any action': (one) => ({ ...one, Action: 'sts:*' }),
  'NotAction instead': ({ Action: _, ...one }) => ({ ...one, NotAction: 'sts:GetFederationToken' }),
  'a second provider': (one) => ({ ...one, Principal: { Federated: [scope.providerArn, github] } }),
  everybody: (one) => ({ ...one, Principal: '*' }),
  'an account beside it': (one) => ({ ...one, Principal: { Federated: scope.providerArn, AWS: '333333333333' } }),
  'another condition': (one) => ({
    ...one,
    Condition: { ...(one.Condition as object), StringEquals: { 'aws:SourceVpc': 'vpc-0123456789abcdef0' } },
  }),
  'another audience': (one) => ({ ...one, Condition: renamed(one, (name) => name, [scope.audience, '*']) }),
  'an operator for sets': (one) => ({ ...one, Condition: renamed(one, (name) => `ForAnyValue:${name}`) }),
  'an operator for absent keys': (one) => ({ ...one, Condition: renamed(one, (name) => `${name}IfExists`) }),
  'keys in lower case': (one) => ({
    ...one,
    Condition: JSON.parse(JSON.stringify(one.Condition).replaceAll(scope.issuer, scope.issuer.toLowerCase())),
  }),
  'a name': (one) => ({ ...one, Sid: 'DominoRuns' }),
};

function renamed(one: Statement, rename: (operator: string) => string, audience?: unknown): object {
  return Object.fromEntries(
    Object.entries(one.Condition as Record<string, object>).map(([name, keys]) => [
      rename(name),
      aud in keys && audience ? { ...keys, [aud]: audience } : keys,
    ]),
  );
}
