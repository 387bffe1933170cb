/** Owns the IAM actions of the AWS stand-in: they read and write roles, with IAM's own refusals. */
import { checkLength, checkTrustGrammar } from './aws-grammar.ts';
import type { AwsKnobs } from './aws-knobs.ts';
import type { Role, RoleStore } from './aws-roles.ts';
import type { OidcProvider } from './aws-sts.ts';
import { AwsError, encodeDocument, type XmlValue, xmlTime } from './aws-xml.ts';

export interface IamWorld {
  readonly roles: RoleStore;
  readonly knobs: AwsKnobs;
  readonly providers: OidcProvider[];
}

export interface IamCall {
  /** The account that the caller's access key belongs to: IAM acts on no other. */
  readonly account: string;
  readonly params: URLSearchParams;
  /** The caller's name, for the history. */
  readonly by: string;
}

type IamAction = (world: IamWorld, call: IamCall) => XmlValue | undefined;

export const IAM_ACTIONS: Readonly<Record<string, IamAction>> = {
  GetRole: (world, call) => ({ Role: describe(world, roleOf(world, call)) }),

  ListRoles: (world, { account, params }) => ({
    IsTruncated: false,
    Roles: world.roles
      .inAccount(account)
      .filter((role) => role.path.startsWith(params.get('PathPrefix') ?? '/'))
      .filter((role) => world.roles.seen(role, world.knobs.staleReadMs))
      .map((role) => describe(world, role)),
  }),

  CreateRole: (world, { account, params, by }) => {
    const name = roleName(params);
    if (world.roles.find(account, name)) {
      throw new AwsError('EntityAlreadyExists', `Role with name ${name} already exists.`);
    }
    const trust = required(params, 'AssumeRolePolicyDocument');
    checkTrustGrammar(trust);
    checkLength(trust, quotaOf(world, account));
    const maxSessionSeconds = Number(params.get('MaxSessionDuration') ?? 3600);
    const role = world.roles.add({ account, name, path: params.get('Path') ?? '/', trust, maxSessionSeconds }, by);
    return { Role: { ...summary(role), AssumeRolePolicyDocument: encodeDocument(trust) } };
  },

  DeleteRole: (world, call) => {
    world.roles.remove(modifiable(roleOf(world, call)));
    return undefined;
  },

  UpdateAssumeRolePolicy: (world, call) => {
    const role = modifiable(roleOf(world, call));
    const text = required(call.params, 'PolicyDocument');
    checkTrustGrammar(text);
    checkLength(text, quotaOf(world, call.account, role));
    world.roles.write(role, text, call.by);
    return undefined;
  },

  GetOpenIDConnectProvider: (world, call) => {
    const { issuer, clientIds } = providerOf(world, call);
    return { Url: issuer, ClientIDList: [...clientIds], ThumbprintList: [], CreateDate: xmlTime(0) };
  },

  AddClientIDToOpenIDConnectProvider: (world, call) => {
    const provider = providerOf(world, call);
    const clientId = required(call.params, 'ClientID');
    if (provider.clientIds.includes(clientId)) return undefined;
    if (provider.clientIds.length >= mostClientIds) {
      throw new AwsError(
        'LimitExceeded',
        `Cannot exceed quota for ClientIdsPerOpenIdConnectProvider: ${mostClientIds}`,
      );
    }
    const changed = { ...provider, clientIds: [...provider.clientIds, clientId] };
    world.providers.splice(world.providers.indexOf(provider), 1, changed);
    return undefined;
  },

  PutRolePolicy: (world, call) => {
    const role = modifiable(roleOf(world, call));
    const text = required(call.params, 'PolicyDocument');
    try {
      JSON.parse(text);
    } catch {
      throw new AwsError('MalformedPolicyDocument');
    }
    role.inline.set(required(call.params, 'PolicyName'), text);
    return undefined;
  },

  GetRolePolicy: (world, call) => {
    const role = roleOf(world, call);
    const name = required(call.params, 'PolicyName');
    const text = role.inline.get(name);
    if (text === undefined) {
      throw new AwsError('NoSuchEntity', `The role policy with name ${name} cannot be found.`);
    }
    return { RoleName: role.name, PolicyName: name, PolicyDocument: encodeDocument(text) };
  },
};

const mostClientIds = 100;

function providerOf({ providers }: IamWorld, { account, params }: IamCall): OidcProvider {
  const arn = required(params, 'OpenIDConnectProviderArn');
  const found = providers.find((each) => each.account === account && arn.endsWith(`:oidc-provider/${each.issuer}`));
  if (found) return found;
  throw new AwsError('NoSuchEntity', `OpenIDConnect Provider not found for arn ${arn}`);
}

export function required(params: URLSearchParams, name: string): string {
  const value = params.get(name);
  if (value) return value;
  const member = `${name.charAt(0).toLowerCase()}${name.slice(1)}`;
  throw new AwsError('ValidationError', `1 validation error detected: Value at '${member}' must not be null or empty`);
}

function roleName(params: URLSearchParams): string {
  const name = required(params, 'RoleName');
  if (/^[\w+=,.@-]{1,64}$/.test(name)) return name;
  throw new AwsError('ValidationError', 'The specified value for roleName is invalid.');
}

function roleOf(world: IamWorld, { account, params }: IamCall): Role {
  const name = roleName(params);
  const role = world.roles.find(account, name);
  if (!role) throw new AwsError('NoSuchEntity', `The role with name ${name} cannot be found.`);
  return role;
}

function modifiable(role: Role): Role {
  if (!role.unmodifiable) return role;
  throw new AwsError(
    'UnmodifiableEntity',
    `Cannot perform the operation on the protected role '${role.name}' - this role is only modifiable by AWS`,
  );
}

function quotaOf({ knobs }: IamWorld, account: string, role?: Role): number {
  return role?.quota ?? knobs.quotaByAccount[account] ?? knobs.quota;
}

function describe(world: IamWorld, role: Role): Record<string, XmlValue> {
  const seen = world.roles.seen(role, world.knobs.staleReadMs);
  // A reader that lags behind does not see a newer role.
  if (!seen) throw new AwsError('NoSuchEntity', `The role with name ${role.name} cannot be found.`);
  return { ...summary(role), AssumeRolePolicyDocument: encodeDocument(seen.text) };
}

function summary(role: Role): Record<string, XmlValue> {
  return {
    Path: role.path,
    RoleName: role.name,
    RoleId: role.id,
    Arn: role.arn,
    CreateDate: xmlTime(role.createdAt),
    MaxSessionDuration: role.maxSessionSeconds,
  };
}
