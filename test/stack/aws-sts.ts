/** Owns the STS actions of the AWS stand-in: who am I, and role sessions for those whom trust policies let in. */
import type { IncomingHttpHeaders } from 'node:http';
import { createLocalJWKSet, decodeJwt, errors, type JSONWebKeySet, type JWTPayload, jwtVerify } from 'jose';
import type { Clock } from '../../src/clock.ts';
import { conditionContext } from './aws-conditions.ts';
import { required } from './aws-iam.ts';
import type { KeyRing, Principal } from './aws-keys.ts';
import type { AwsKnobs } from './aws-knobs.ts';
import type { Role, RoleStore } from './aws-roles.ts';
import { evaluatePermissions, evaluateTrust } from './aws-trust.ts';
import { AwsError, type XmlValue, xmlTime } from './aws-xml.ts';

/** An IAM OIDC provider of one account. */
export interface OidcProvider {
  readonly account: string;
  /** Without `https://`. */
  readonly issuer: string;
  readonly jwks: JSONWebKeySet;
  /** The audiences that the account accepts from it. */
  readonly clientIds: readonly string[];
}

export interface StsWorld {
  readonly clock: Clock;
  readonly knobs: AwsKnobs;
  readonly roles: RoleStore;
  readonly keys: KeyRing;
  readonly providers: OidcProvider[];
  readonly partition: string;
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
    const role = world.roles.findArn(target.roleArn);
    const context = conditionContext({
      'aws:PrincipalArn': caller.roleArn ?? caller.arn,
      'aws:PrincipalAccount': caller.account,
      'aws:userid': caller.userId,
      'sts:ExternalId': params.get('ExternalId') ?? undefined,
      'sts:RoleSessionName': target.sessionName,
    });
    const trusted = isTrusted(world, role, {
      action: 'sts:AssumeRole',
      requester: { kind: 'aws', ...caller },
      context,
    });
    if (!role || !trusted || !mayAssume(world, caller, target.roleArn)) {
      const message = `User: ${caller.arn} is not authorized to perform: sts:AssumeRole on resource: ${target.roleArn}`;
      throw new AwsError('AccessDenied', message);
    }
    const seconds = sessionSeconds(params, role, caller.roleArn !== undefined);
    return openSession(world, role, target.sessionName, seconds);
  },

  AssumeRoleWithWebIdentity: async (world, { params }) => {
    const target = readTarget(params);
    const account = target.roleArn.split(':')[4] ?? '';
    const { claims, provider } = await readToken(world, account, required(params, 'WebIdentityToken'));
    const audiences = typeof claims.aud === 'string' ? [claims.aud] : (claims.aud ?? []);
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
    // A role that does not exist gets the same answer, so that nobody can list roles by guessing.
    if (!role || !trusted) {
      throw new AwsError('AccessDenied', 'Not authorized to perform sts:AssumeRoleWithWebIdentity');
    }
    const session = openSession(world, role, target.sessionName, sessionSeconds(params, role, false));
    return {
      SubjectFromWebIdentityToken: claims.sub ?? '',
      Audience: audiences.find((audience) => provider.clientIds.includes(audience)) ?? '',
      Provider: `arn:${world.partition}:iam::${account}:oidc-provider/${provider.issuer}`,
      ...session,
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

function isTrusted(world: StsWorld, role: Role | undefined, request: Parameters<typeof evaluateTrust>[1]): boolean {
  const seen = role && world.roles.seen(role, world.knobs.propagationMs);
  return seen !== undefined && evaluateTrust(seen.document, request) === 'allowed';
}

/** A role that nobody gave any permissions may assume what trusts it, so that most tests need not care. */
function mayAssume({ roles }: StsWorld, caller: Principal, targetArn: string): boolean {
  const own = caller.roleArn === undefined ? undefined : roles.findArn(caller.roleArn);
  if (!own || (own.allowAssume === undefined && own.inline.size === 0)) return true;
  const listed = { Statement: { Effect: 'Allow', Action: 'sts:AssumeRole', Resource: own.allowAssume ?? [] } };
  const inline = [...own.inline.values()].map((text): unknown => JSON.parse(text));
  return evaluatePermissions([listed, ...inline], 'sts:AssumeRole', targetArn) === 'allowed';
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

function openSession(world: StsWorld, role: Role, name: string, seconds: number): Record<string, XmlValue> {
  const principal: Principal = {
    account: role.account,
    arn: `arn:${world.partition}:sts::${role.account}:assumed-role/${role.name}/${name}`,
    userId: `${role.id}:${name}`,
    roleArn: role.arn,
  };
  const key = world.keys.addTemporary(principal, seconds);
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
  const claims = await verifyToken(token, provider, world.clock.now());
  const audiences = typeof claims.aud === 'string' ? [claims.aud] : (claims.aud ?? []);
  if (!audiences.some((audience) => provider.clientIds.includes(audience))) {
    throw new AwsError('InvalidIdentityToken', 'Incorrect token audience');
  }
  return { claims, provider };
}

function issuerOf(token: string): string {
  try {
    return decodeJwt(token).iss ?? '';
  } catch {
    throw new AwsError('InvalidIdentityToken', 'The ID Token provided is not a valid JWT.');
  }
}

async function verifyToken(token: string, provider: OidcProvider, now: number): Promise<JWTPayload> {
  try {
    const { payload } = await jwtVerify(token, createLocalJWKSet(provider.jwks), {
      currentDate: new Date(now),
      requiredClaims: ['exp', 'sub', 'aud'],
    });
    return payload;
  } catch (error) {
    if (error instanceof errors.JWTExpired) {
      throw new AwsError('ExpiredTokenException', `Token expired: current date/time ${Math.floor(now / 1000)}`);
    }
    throw new AwsError(
      'InvalidIdentityToken',
      error instanceof errors.JOSEError ? `Token refused: ${error.code}` : "Couldn't retrieve verification key",
    );
  }
}
