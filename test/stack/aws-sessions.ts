/** Owns role sessions: checks the role's trust policy and the session tags, and issues the session's keys. */
import type { Clock } from '../../src/lib/clock.ts';
import { type ConditionContext, conditionContext } from './aws-conditions.ts';
import type { Key, KeyRing, Principal } from './aws-keys.ts';
import type { AwsKnobs } from './aws-knobs.ts';
import type { Role, RoleStore } from './aws-roles.ts';
import { evaluatePermissions, evaluateTrust, type Requester } from './aws-trust.ts';
import { AwsError } from './aws-xml.ts';

export interface SessionWorld {
  readonly clock: Clock;
  readonly knobs: AwsKnobs;
  readonly roles: RoleStore;
  readonly keys: KeyRing;
  readonly partition: string;
}

export type SessionTags = Readonly<Record<string, string>>;

export interface Session {
  readonly principal: Principal;
  readonly key: Key;
}

export interface AssumeRequest {
  readonly roleArn: string;
  readonly sessionName: string;
  readonly externalId?: string | undefined;
  /** A session policy, as JSON text. */
  readonly policy?: string | undefined;
  /** Tags of the request; the calling session's transitive tags are added to them. */
  readonly tags?: SessionTags;
  readonly transitive?: readonly string[];
  /** The duration, read after the caller may assume the role; throws where it is too long. */
  seconds(role: Role): number;
}

/** The session for a signed AssumeRole. Throws AccessDenied, which names sts:TagSession when only that permission is missing. */
export function assumeRole(world: SessionWorld, caller: Principal, request: AssumeRequest): Session {
  const { roleArn, sessionName } = request;
  const role = world.roles.findArn(roleArn);
  // A session cannot drop a transitive tag: every further call carries it as if the request had it.
  const inherited = Object.entries(caller.tags ?? {}).filter(([key]) => caller.transitive?.includes(key));
  const tags: SessionTags = { ...request.tags, ...Object.fromEntries(inherited) };
  const requester: Requester = { kind: 'aws', ...caller };
  const context = {
    'aws:PrincipalArn': caller.roleArn ?? caller.arn,
    'aws:PrincipalAccount': caller.account,
    'aws:userid': caller.userId,
    'sts:ExternalId': request.externalId,
    'sts:RoleSessionName': sessionName,
    ...prefixed('aws:PrincipalTag/', caller.tags ?? {}),
  };
  const refused = refusedAction(world, role, requester, context, tags);
  const forbidden = neededActions(tags).find((action) => !mayDo(world, caller, action, roleArn));
  if (!role || refused || forbidden) {
    const action = refused ?? forbidden ?? 'sts:AssumeRole';
    throw new AwsError(
      'AccessDenied',
      `User: ${caller.arn} is not authorized to perform: ${action} on resource: ${roleArn}`,
    );
  }
  const transitive = [...new Set([...(request.transitive ?? []), ...inherited.map(([key]) => key)])];
  return openSession(world, role, sessionName, request.seconds(role), { tags, transitive, policy: request.policy });
}

/** The first action that the role's trust policy does not allow; a session with tags needs one action more. */
export function refusedAction(
  world: SessionWorld,
  role: Role | undefined,
  requester: Requester,
  values: Record<string, string | readonly string[] | undefined>,
  tags: SessionTags,
): string | undefined {
  const context = conditionContext({
    ...values,
    ...prefixed('aws:RequestTag/', tags),
    'aws:TagKeys': Object.keys(tags).length > 0 ? Object.keys(tags) : undefined,
  });
  return neededActions(tags).find((action) => !isTrusted(world, role, { action, requester, context }));
}

export function isTrusted(
  { roles, knobs }: SessionWorld,
  role: Role | undefined,
  request: { action: string; requester: Requester; context: ConditionContext },
): boolean {
  const seen = role && roles.seen(role, knobs.propagationMs);
  return seen !== undefined && evaluateTrust(seen.document, request) === 'allowed';
}

export function openSession(
  { keys, partition }: SessionWorld,
  role: Role,
  name: string,
  seconds: number,
  limits: { tags: SessionTags; transitive: readonly string[]; policy?: string | undefined } = {
    tags: {},
    transitive: [],
  },
): Session {
  const principal: Principal = {
    account: role.account,
    arn: `arn:${partition}:sts::${role.account}:assumed-role/${role.name}/${name}`,
    userId: `${role.id}:${name}`,
    roleArn: role.arn,
    ...limits,
  };
  return { principal, key: keys.addTemporary(principal, seconds) };
}

function neededActions(tags: SessionTags): string[] {
  return Object.keys(tags).length > 0 ? ['sts:AssumeRole', 'sts:TagSession'] : ['sts:AssumeRole'];
}

/** A role without any permissions may assume every role that trusts it, so that most tests need no permissions. */
function mayDo({ roles }: SessionWorld, caller: Principal, action: string, targetArn: string): boolean {
  const { policy } = caller;
  if (policy !== undefined && evaluatePermissions([JSON.parse(policy)], action, targetArn) !== 'allowed') return false;
  const own = caller.roleArn === undefined ? undefined : roles.findArn(caller.roleArn);
  if (!own || (own.allowAssume === undefined && own.inline.size === 0)) return true;
  const listed = {
    Statement: { Effect: 'Allow', Action: ['sts:AssumeRole', 'sts:TagSession'], Resource: own.allowAssume ?? [] },
  };
  const inline = [...own.inline.values()].map((text): unknown => JSON.parse(text));
  return evaluatePermissions([listed, ...inline], action, targetArn) === 'allowed';
}

function prefixed(prefix: string, tags: SessionTags): Record<string, string> {
  return Object.fromEntries(Object.entries(tags).map(([key, value]) => [`${prefix}${key}`, value]));
}
