/** Owns the session policy of an association: what EKS accepts as one, and whether two are the same. Pure. */
import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';

/** https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html#API_AssumeRole_RequestParameters */
const maxCharacters = 2_048;
const characters = /^[\t\n\r\u0020-\u00ff]*$/;

const names = z.union([z.string(), z.array(z.string()).min(1)]);
/** Session policies have no principals: they limit the session that they are passed for. */
const statement = z
  .strictObject({
    Sid: z.string().optional(),
    Effect: z.enum(['Allow', 'Deny']),
    Action: names.optional(),
    NotAction: names.optional(),
    Resource: names.optional(),
    NotResource: names.optional(),
    Condition: z.record(z.string(), z.record(z.string(), z.unknown())).optional(),
  })
  .refine(({ Action, NotAction }) => (Action === undefined) !== (NotAction === undefined), 'needs Action or NotAction')
  .refine(
    ({ Resource, NotResource }) => (Resource === undefined) !== (NotResource === undefined),
    'needs Resource or NotResource',
  );
const document = z.strictObject({
  Version: z.enum(['2012-10-17', '2008-10-17']).optional(),
  Id: z.string().optional(),
  Statement: z.union([statement, z.array(statement).min(1)]),
});

/** @returns why EKS would refuse the text as a session policy, or undefined. */
export function sessionPolicyProblem(text: string, sessionTags: boolean): string | undefined {
  if (sessionTags)
    return 'policy needs disable_session_tags true: EKS sends session tags or a session policy, not both';
  if (text.length > maxCharacters) return `policy has ${text.length} characters; EKS accepts ${maxCharacters}`;
  if (!characters.test(text))
    return 'policy has characters that IAM does not accept: write them as \\u escapes of JSON';
  const { error } = document.safeParse(parsed(text));
  const issue = error?.issues[0];
  return issue && `policy is not an IAM policy document in JSON: ${[...issue.path, issue.message].join(' ')}`;
}

/** AWS may return a policy with other white space or another order of its keys. */
export function sameSessionPolicy(a: string | undefined, b: string | undefined): boolean {
  return a === b || (a !== undefined && b !== undefined && isDeepStrictEqual(parsed(a), parsed(b)));
}

/** @returns the text itself where it is not JSON, so that it equals only itself. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
