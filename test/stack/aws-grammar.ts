/** Owns the checks of a trust policy that IAM makes on a write: its grammar and its length, not its meaning. */
import { isRecord } from './aws-conditions.ts';
import { AwsError } from './aws-xml.ts';

const STATEMENT_KEYS = new Set(['Sid', 'Effect', 'Principal', 'Action', 'Condition']);
const OPERATOR = new RegExp(
  `^(?:(?:ForAnyValue|ForAllValues):)?(?:${[
    'String(?:Not)?(?:Equals(?:IgnoreCase)?|Like)',
    'Arn(?:Not)?(?:Equals|Like)',
    '(?:Numeric|Date)(?:(?:Not)?Equals|(?:Less|Greater)Than(?:Equals)?)',
    'Bool|BinaryEquals|(?:Not)?IpAddress',
  ].join('|')})(?:IfExists)?$|^Null$`,
);
const PRINCIPALS: Record<string, RegExp> = {
  AWS: /^(?:\*|\d{12}|arn:[\w-]+:(?:iam::\d{12}:(?:root|(?:role|user)\/[\w+=,.@/-]+)|sts::\d{12}:(?:assumed-role|federated-user)\/[\w+=,.@/-]+))$/,
  Federated: /^(?:arn:[\w-]+:iam::\d{12}:(?:oidc|saml)-provider\/\S+|[\w-]+(?:\.[\w-]+)+)$/,
  Service: /^[\w-]+(?:\.[\w-]+)+$/,
};

/** The length that IAM counts: every character that is not white space. */
export function policyLength(text: string): number {
  return text.replace(/\s/g, '').length;
}

/** Throws LimitExceeded in IAM's words. */
export function checkLength(text: string, quota: number): void {
  if (policyLength(text) > quota)
    throw new AwsError('LimitExceeded', `Cannot exceed quota for ACLSizePerRole: ${quota}`);
}

/** Throws MalformedPolicyDocument. A document without Version passes: IAM reads it as 2008-10-17. */
export function checkTrustGrammar(text: string): void {
  const document = parse(text);
  const { Version: version = '2008-10-17', Statement: statement } = document;
  if (Object.keys(document).some((key) => !['Version', 'Id', 'Statement'].includes(key))) malformed();
  if (version !== '2012-10-17' && version !== '2008-10-17') malformed();
  const statements = Array.isArray(statement) ? statement : [statement];
  if (statements.length === 0) malformed('Missing required field Statement');
  const sids = new Set<unknown>();
  for (const each of statements) {
    if (!isRecord(each)) malformed();
    checkStatement(each);
    if (each.Sid !== undefined && sids.has(each.Sid)) {
      malformed('Statement IDs (SID) in a single policy must be unique.');
    }
    sids.add(each.Sid);
  }
}

function parse(text: string): Record<string, unknown> {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    malformed('This policy contains invalid Json');
  }
  return isRecord(document) ? document : malformed();
}

function checkStatement(statement: Record<string, unknown>): void {
  for (const key of ['Resource', 'NotResource']) {
    if (key in statement) malformed(`Has prohibited field ${key}`);
  }
  if (Object.keys(statement).some((key) => !STATEMENT_KEYS.has(key))) malformed();
  const { Sid: sid, Effect: effect, Principal: principal, Action: action, Condition: condition } = statement;
  if (sid !== undefined && (typeof sid !== 'string' || !/^[0-9A-Za-z]*$/.test(sid))) {
    malformed('Statement IDs (SID) must be alpha-numeric.');
  }
  if (effect !== 'Allow' && effect !== 'Deny') malformed();
  if (principal === undefined) malformed('Missing required field Principal');
  checkPrincipal(principal);
  if (action === undefined) malformed('Missing required field Action');
  const actions = stringList(action);
  if (actions.length === 0) malformed('Missing required field Action');
  if (!actions.every((name) => /^sts:/i.test(name))) {
    malformed('AssumeRole policy may only specify STS AssumeRole actions.');
  }
  if (condition !== undefined) checkCondition(condition);
}

function checkPrincipal(principal: unknown): void {
  if (principal === '*') return;
  if (!isRecord(principal) || Object.keys(principal).length === 0) malformed('Invalid principal in policy');
  for (const [kind, names] of Object.entries(principal)) {
    const shape = PRINCIPALS[kind];
    const list = stringList(names);
    if (!shape || list.length === 0) malformed('Invalid principal in policy');
    // Ids such as AROA… stand for deleted principals: IAM returns them, but refuses them in a write.
    const wrong = list.find((name) => !shape.test(name));
    if (wrong !== undefined) malformed(`Invalid principal in policy: "${kind}":"${wrong}"`);
  }
}

function checkCondition(condition: unknown): void {
  if (!isRecord(condition)) malformed();
  for (const [operator, block] of Object.entries(condition)) {
    if (!OPERATOR.test(operator)) malformed(`Invalid Condition type : ${operator}.`);
    if (!isRecord(block)) malformed();
    for (const value of Object.values(block)) {
      const values: unknown[] = Array.isArray(value) ? value : [value];
      if (!values.every((each) => ['string', 'boolean', 'number'].includes(typeof each))) malformed();
    }
  }
}

function stringList(value: unknown): string[] {
  const list: unknown[] = Array.isArray(value) ? value : [value];
  return list.map((each) => (typeof each === 'string' ? each : malformed()));
}

function malformed(message?: string): never {
  throw new AwsError('MalformedPolicyDocument', message);
}
