/** Owns the STS actions of the AWS stand-in: GetCallerIdentity, and role sessions for callers that trust policies admit. */
import type { IncomingHttpHeaders } from 'node:http';
import type { JSONWebKeySet, JWTPayload } from 'jose';
import { conditionContext } from './aws-conditions.ts';
import { required } from './aws-iam.ts';
import type { Role } from './aws-roles.ts';
import { assumeRole, isTrusted, openSession, type Session, type SessionWorld } from './aws-sessions.ts';
import { audiencesOf, issuerOf, verifyToken } from './aws-tokens.ts';
import { AwsError, type XmlValue, xmlTime } from './aws-xml.ts';

/** An IAM OIDC provider of one account. */
export interface OidcProvider {
  readonly account: string;
  /** Without `https://`. */
  readonly issuer: string;
  readonly jwks: JSONWebKeySet;
  /** The audiences (client ids) that the account accepts. */
  readonly clientIds: readonly string[];
}

export interface StsWorld extends SessionWorld {
  readonly providers: OidcProvider[];
}

export interface StsCall {
  readonly headers: IncomingHttpHeaders;
  readonly params: URLSearchParams;
}

type StsAction = (world: StsWorld, call: StsCall) => XmlValue | Promise<XmlValue>;

const CHAINED_SECONDS = 3600;

export const STS_ACTIONS: Readonly<Record<string, StsAction>> = {
  GetCallerIdentity: ({ keys }, { headers }) => {
    const { principal } = keys.authenticate(headers);
    return { UserId: principal.userId, Account: principal.account, Arn: principal.arn };
  },

  AssumeRole: (world, { headers, params }) => {
    const caller = world.keys.authenticate(headers).principal;
    const target = readTarget(params);
    const session = assumeRole(world, caller, {
      ...target,
      externalId: params.get('ExternalId') ?? undefined,
      ...readTags(params),
      seconds: (role) => sessionSeconds(params, role, caller.roleArn !== undefined),
    });
    return sessionXml(session);
  },

  AssumeRoleWithWebIdentity: async (world, { params }) => {
    const target = readTarget(params);
    const account = target.roleArn.split(':')[4] ?? '';
    const { claims, provider } = await readToken(world, account, required(params, 'WebIdentityToken'));
    const audiences = audiencesOf(claims);
    const role = world.roles.findArn(target.roleArn);
    const trusted = isTrusted(world, role, {
      action: 'sts:AssumeRoleWithWebIdentity',
      requester: {
        kind: 'federated',
        provider: `arn:${world.partition}:iam::${account}:oidc-provider/${provider.issuer}`,
      },
      context: conditionContext({
        [`${provider.issuer}:sub`]: claims.sub,
        [`${provider.issuer}:aud`]: audiences,
        'sts:RoleSessionName': target.sessionName,
      }),
    });
    // A missing role gets the same answer, so that callers cannot find roles by guessing.
    if (!role || !trusted) {
      throw new AwsError('AccessDenied', 'Not authorized to perform sts:AssumeRoleWithWebIdentity');
    }
    const session = openSession(world, role, target.sessionName, sessionSeconds(params, role, false));
    return {
      SubjectFromWebIdentityToken: claims.sub ?? '',
      Audience: audiences.find((audience) => provider.clientIds.includes(audience)) ?? '',
      Provider: `arn:${world.partition}:iam::${account}:oidc-provider/${provider.issuer}`,
      ...sessionXml(session),
    };
  },
};

function readTarget(params: URLSearchParams): { roleArn: string; sessionName: string } {
  const roleArn = required(params, 'RoleArn');
  const sessionName = required(params, 'RoleSessionName');
  if (!/^arn:[\w-]+:iam::\d{12}:role\/[\w+=,.@/-]+$/.test(roleArn)) {
    throw new AwsError('ValidationError', `${roleArn} is invalid`);
  }
  if (!/^[\w+=,.@-]{2,64}$/.test(sessionName)) {
    throw new AwsError(
      'ValidationError',
      `1 validation error detected: Value '${sessionName}' at 'roleSessionName' failed to satisfy constraint`,
    );
  }
  return { roleArn, sessionName };
}

function readTags(params: URLSearchParams): { tags: Record<string, string>; transitive: string[] } {
  const tags: Record<string, string> = {};
  for (let index = 1; params.has(`Tags.member.${index}.Key`); index += 1) {
    tags[params.get(`Tags.member.${index}.Key`) ?? ''] = params.get(`Tags.member.${index}.Value`) ?? '';
  }
  const transitive: string[] = [];
  for (let index = 1; params.has(`TransitiveTagKeys.member.${index}`); index += 1) {
    transitive.push(params.get(`TransitiveTagKeys.member.${index}`) ?? '');
  }
  return { tags, transitive };
}

function sessionSeconds(params: URLSearchParams, role: Role, chained: boolean): number {
  const asked = params.get('DurationSeconds');
  const seconds = asked === null ? Math.min(3600, role.maxSessionSeconds) : Number(asked);
  if (chained && seconds > CHAINED_SECONDS) {
    throw new AwsError(
      'ValidationError',
      'The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining',
    );
  }
  if (!(seconds >= 900)) throw new AwsError('ValidationError', 'DurationSeconds must be 900 or more');
  if (seconds > role.maxSessionSeconds) {
    throw new AwsError(
      'ValidationError',
      'The requested DurationSeconds exceeds the MaxSessionDuration set for this role.',
    );
  }
  return seconds;
}

function sessionXml({ principal, key }: Session): Record<string, XmlValue> {
  return {
    AssumedRoleUser: { AssumedRoleId: principal.userId, Arn: principal.arn },
    Credentials: {
      AccessKeyId: key.accessKeyId,
      SecretAccessKey: key.secretAccessKey,
      SessionToken: key.sessionToken ?? '',
      Expiration: xmlTime(key.expiresAt ?? 0),
    },
  };
}

async function readToken(
  world: StsWorld,
  account: string,
  token: string,
): Promise<{ claims: JWTPayload; provider: OidcProvider }> {
  const issuer = issuerOf(token);
  const provider = world.providers.find((each) => each.account === account && `https://${each.issuer}` === issuer);
  if (!provider) {
    throw new AwsError('InvalidIdentityToken', `No OpenIDConnect provider found in your account for ${issuer}`);
  }
  const claims = await verifyToken(token, provider.jwks, world.clock.now() + world.knobs.tokenClockMs);
  if (!audiencesOf(claims).some((audience) => provider.clientIds.includes(audience))) {
    throw new AwsError('InvalidIdentityToken', 'Incorrect token audience');
  }
  return { claims, provider };
}
