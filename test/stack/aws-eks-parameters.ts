/** Owns the parameters of EKS calls: reads them, and refuses invalid ones in EKS's words. */
import { isRecord } from './aws-conditions.ts';
import { AwsError } from './aws-xml.ts';

type Body = Readonly<Record<string, unknown>>;

export const ROLE_ARN = /^arn:[\w-]+:iam::\d{12}:role\/[\w+=,.@/-]+$/;

export function targetOf(body: Body): string | undefined {
  const { targetRoleArn } = body;
  if (targetRoleArn === undefined || targetRoleArn === '') return targetRoleArn;
  const arn = text(body, 'targetRoleArn');
  if (!ROLE_ARN.test(arn)) throw invalid(`The target role ARN ${arn} is invalid.`);
  return arn;
}

/** @param tagsOff whether the association will have session tags disabled after the call. */
export function sessionPolicyOf(body: Body, tagsOff: boolean): string | undefined {
  if (body.policy === undefined) return undefined;
  const policy = text(body, 'policy');
  if (policy.length > 2_048) throw invalid('The policy is longer than 2048 characters.');
  let document: unknown;
  try {
    document = JSON.parse(policy);
  } catch {
    throw invalid('The policy is not valid JSON.');
  }
  if (!isRecord(document) || document.Statement === undefined) throw invalid('The policy is malformed.');
  if (!tagsOff) throw invalid('disableSessionTags must be true when a policy is specified.');
  return policy;
}

export function tagsOf({ tags = {} }: Body): Record<string, string> {
  const entries = typeof tags === 'object' && tags !== null ? Object.entries(tags) : [];
  if (entries.length > 50) throw invalid('An association can have 50 tags at most.');
  for (const [key, value] of entries) {
    if (typeof value !== 'string' || key.length < 1 || key.length > 128 || value.length > 256 || /^aws:/i.test(key)) {
      throw invalid(`The tag ${key} is invalid.`);
    }
  }
  return Object.fromEntries(entries) as Record<string, string>;
}

export function text(body: Body, name: string): string {
  const value = body[name];
  if (typeof value === 'string' && value !== '') return value;
  throw invalid(`The parameter ${name} must be a text that is not empty.`);
}

export function flag(body: Body, name: string): boolean | undefined {
  const value = body[name];
  if (value === undefined || typeof value === 'boolean') return value;
  throw invalid(`The parameter ${name} must be true or false.`);
}

export function invalid(message: string): AwsError {
  return new AwsError('InvalidParameterException', message);
}

export function pageToken(associationId: string): string {
  return Buffer.from(`after ${associationId}`).toString('base64url');
}

export function readPageToken(token: string | null): string {
  if (token === null) return '';
  const after = /^after (a-[a-z0-9]{17})$/.exec(Buffer.from(token, 'base64url').toString())?.[1];
  if (after === undefined) throw invalid('The nextToken is invalid.');
  return after;
}
