/** Owns STS's decision whether a principal may assume a role, by the role's trust policy and the principal's own policies. */
import { asStrings, type ConditionContext, conditionHolds, isRecord, wildcardMatch } from './aws-conditions.ts';

/** The requester: a web identity's provider, a signed AWS principal, or an AWS service. */
export type Requester =
  | { readonly kind: 'federated'; readonly provider: string }
  | { readonly kind: 'aws'; readonly account: string; readonly arn: string; readonly roleArn?: string }
  | { readonly kind: 'service'; readonly name: string };

export interface TrustRequest {
  /** Such as `sts:AssumeRoleWithWebIdentity`. */
  readonly action: string;
  readonly requester: Requester;
  readonly context: ConditionContext;
  /** How an empty list of values is read, since AWS's texts contradict each other. By default every caller matches. */
  readonly emptyLists?: 'everybody' | 'nobody';
}

export type Verdict = 'allowed' | 'denied' | 'no-match';

/** A matching Deny wins; without a matching Allow the request is denied. */
export function evaluateTrust(document: unknown, request: TrustRequest): Verdict {
  let verdict: Verdict = 'no-match';
  for (const statement of statementsOf(document)) {
    if (!actionMatches(statement, request.action)) continue;
    if (!isAbout(statement, request.requester)) continue;
    const reading = { variables: hasVariables(document), emptyLists: request.emptyLists };
    if (!conditionHolds(statement.Condition, request.context, reading)) continue;
    if (statement.Effect === 'Deny') return 'denied';
    verdict = 'allowed';
  }
  return verdict;
}

/** Whether an Allow statement names the service for the action; its conditions are not evaluated. */
export function namesService(document: unknown, service: string, action: string): boolean {
  return statementsOf(document).some(
    (statement) =>
      statement.Effect === 'Allow' &&
      actionMatches(statement, action) &&
      isRecord(statement.Principal) &&
      asStrings(statement.Principal.Service).includes(service),
  );
}

/** The verdict of a role's own policies on an action on a resource. */
export function evaluatePermissions(policies: readonly unknown[], action: string, resource: string): Verdict {
  let verdict: Verdict = 'no-match';
  for (const statement of policies.flatMap(statementsOf)) {
    if (!actionMatches(statement, action)) continue;
    if (!asStrings(statement.Resource).some((pattern) => wildcardMatch(pattern, resource))) continue;
    if (statement.Effect === 'Deny') return 'denied';
    verdict = 'allowed';
  }
  return verdict;
}

export function statementsOf(document: unknown): Record<string, unknown>[] {
  if (!isRecord(document)) return [];
  const statement = document.Statement;
  return (Array.isArray(statement) ? statement : [statement]).filter(isRecord);
}

function hasVariables(document: unknown): boolean {
  return isRecord(document) && document.Version === '2012-10-17';
}

function actionMatches(statement: Record<string, unknown>, action: string): boolean {
  const names = (value: unknown) =>
    asStrings(value).some((pattern) => wildcardMatch(pattern.toLowerCase(), action.toLowerCase()));
  return statement.NotAction === undefined ? names(statement.Action) : !names(statement.NotAction);
}

function isAbout(statement: Record<string, unknown>, requester: Requester): boolean {
  const { Principal: principal, NotPrincipal: others } = statement;
  return others === undefined ? principalMatches(principal, requester) : !principalMatches(others, requester);
}

function principalMatches(principal: unknown, requester: Requester): boolean {
  // IAM reads "*" and {"AWS":"*"} alike: everyone, whatever they come with.
  if (principal === '*') return true;
  if (!isRecord(principal)) return false;
  const named = asStrings(principal.AWS);
  if (named.includes('*')) return true;
  switch (requester.kind) {
    case 'federated':
      return asStrings(principal.Federated).includes(requester.provider);
    case 'service':
      return asStrings(principal.Service).includes(requester.name);
    case 'aws':
      return named.some(
        (name) =>
          name === requester.account ||
          name === requester.arn ||
          name === requester.roleArn ||
          /^arn:[\w-]+:iam::(\d{12}):root$/.exec(name)?.[1] === requester.account,
      );
  }
}
