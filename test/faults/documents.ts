/** Owns the suite's own view of a trust policy: its members, and its unmanaged part. Pure. */
import { isDeepStrictEqual } from 'node:util';

export type Document = Record<string, unknown>;

interface Statement {
  Action?: unknown;
  Condition?: Record<string, Record<string, string | string[]>>;
}

const placeholder = 'irsa-svc:no-live-runs';
const ours = /^\*:domino-compute:(.+)$/;

const listOf = (value: string | string[] | undefined) => (value === undefined ? [] : [value].flat());

function webIdentityStatements(document: Document): Statement[] {
  return (document.Statement as Statement[]).filter(({ Action }) => Action === 'sts:AssumeRoleWithWebIdentity');
}

/** The service accounts that a document admits. */
export function accountsIn(document: Document, issuer: string): Set<string> {
  const conditions = webIdentityStatements(document).flatMap(({ Condition = {} }) => Object.values(Condition));
  const subjects = conditions.flatMap((keys) => listOf(keys[`${issuer}:sub`]));
  return new Set(subjects.flatMap((subject) => ours.exec(subject)?.[1] ?? []));
}

/** The document without managed subjects; one subject and a list of one are the same. */
function foreignPart(document: Document, issuer: string): unknown {
  const copy = structuredClone(document);
  for (const { Condition = {} } of webIdentityStatements(copy)) {
    for (const keys of Object.values(Condition)) {
      const subjects = keys[`${issuer}:sub`];
      if (subjects === undefined) continue;
      const managed = (subject: string) => subject === '' || subject === placeholder || ours.test(subject);
      keys[`${issuer}:sub`] = listOf(subjects).filter((subject) => !managed(subject));
    }
  }
  return copy;
}

/** How a document that a replica wrote violates invariants 2 and 4. */
export function documentProblems(document: Document, original: Document, issuer: string): string[] {
  const problems: string[] = [];
  if (!isDeepStrictEqual(foreignPart(document, issuer), foreignPart(original, issuer))) {
    problems.push(`what is not ours was changed: ${JSON.stringify(document)}`);
  }
  for (const { Condition = {} } of webIdentityStatements(document)) {
    const keys = Object.values(Condition);
    const audience = keys.flatMap((each) => listOf(each[`${issuer}:aud`]));
    const subjects = keys.map((each) => each[`${issuer}:sub`]).filter((each) => each !== undefined);
    if (audience.length === 0) problems.push('a statement without :aud');
    if (subjects.length === 0) problems.push('a statement without :sub');
    if (subjects.some((list) => Array.isArray(list) && list.length === 0)) problems.push('an empty list of subjects');
  }
  return problems;
}

/** A proxy role's trust policy as administrators create it: the service's statement, among unmanaged ones. */
export function foreignDocument(issuer: string, account: string, variant: number): Document {
  const subjects = variant % 2 === 0 ? ['*:other-namespace:batch', ''] : '';
  const audience = { [`${issuer}:aud`]: 'sts.amazonaws.com' };
  const own = {
    Effect: 'Allow',
    Principal: { Federated: `arn:aws:iam::${account}:oidc-provider/${issuer}` },
    Action: 'sts:AssumeRoleWithWebIdentity',
    Condition:
      variant % 3 === 0
        ? { StringLike: { [`${issuer}:sub`]: subjects }, StringEquals: audience }
        : { StringLike: { ...audience, [`${issuer}:sub`]: subjects } },
  };
  const people = {
    Sid: 'BreakGlass',
    Effect: 'Allow',
    Principal: { AWS: `arn:aws:iam::${account}:root` },
    Action: 'sts:AssumeRole',
    Condition: { Bool: { 'aws:MultiFactorAuthPresent': 'true' } },
  };
  const pods = { Effect: 'Allow', Principal: { Service: 'ec2.amazonaws.com' }, Action: ['sts:AssumeRole'] };
  const statements = [
    [own, people],
    [people, own, pods],
    [pods, own],
  ][variant % 3] ?? [own];
  return { Version: '2012-10-17', Statement: statements };
}
