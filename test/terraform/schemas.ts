/** Owns what our modules may use of the AWS provider: arguments and attributes, as its documentation has them. */
import { field, flag } from './wire.ts';

type Type = 'string' | 'bool' | 'number' | readonly ['map' | 'set' | 'list', 'string'];

export interface Attribute {
  readonly type: Type;
  /** `computed` ones are known after the apply, unless they are given where they may be. */
  readonly is: 'required' | 'optional' | 'computed';
  /** Another value needs another resource. */
  readonly replaces?: true;
}

export type Schema = Readonly<Record<string, Attribute>>;

const required = { type: 'string', is: 'required' } as const;
const optional = { type: 'string', is: 'optional' } as const;
const computed = { type: 'string', is: 'computed' } as const;
const tags = { type: ['map', 'string'], is: 'optional' } as const;
const replaces = { replaces: true } as const;

export const providerSchema: Schema = {
  region: optional,
  profile: optional,
  allowed_account_ids: { type: ['set', 'string'], is: 'optional' },
};

/** The provider's one block that the example uses. */
export const assumeRoleSchema: Schema = { role_arn: optional, session_name: optional, external_id: optional };

export const resourceSchemas: Readonly<Record<string, Schema>> = {
  aws_iam_role: {
    name: { ...optional, ...replaces },
    path: { ...optional, ...replaces },
    description: optional,
    assume_role_policy: required,
    max_session_duration: { type: 'number', is: 'optional' },
    permissions_boundary: optional,
    tags,
    arn: computed,
    id: computed,
    unique_id: computed,
    create_date: computed,
  },
  aws_iam_role_policy: {
    name: { ...optional, ...replaces },
    role: { ...required, ...replaces },
    policy: required,
    id: computed,
  },
  aws_iam_role_policy_attachment: {
    role: { ...required, ...replaces },
    policy_arn: { ...required, ...replaces },
    id: computed,
  },
  aws_eks_pod_identity_association: {
    cluster_name: { ...required, ...replaces },
    namespace: { ...required, ...replaces },
    service_account: { ...required, ...replaces },
    role_arn: required,
    tags,
    association_arn: computed,
    association_id: computed,
    id: computed,
  },
};

export const dataSchemas: Readonly<Record<string, Schema>> = {
  aws_partition: { id: computed, partition: computed, dns_suffix: computed },
  aws_caller_identity: { id: computed, account_id: computed, arn: computed, user_id: computed },
};

/** The answer to GetProviderSchema. */
export function schemaMessage(): Buffer {
  const entries = (number: number, schemas: Readonly<Record<string, Schema>>) =>
    Object.entries(schemas).map(([name, schema]) =>
      field(number, Buffer.concat([field(1, name), field(2, field(2, block(schema)))])),
    );
  const list = 2;
  const assumeRole = Buffer.concat([field(1, 'assume_role'), field(2, block(assumeRoleSchema)), flag(3, list)]);
  return Buffer.concat([
    field(1, field(2, Buffer.concat([block(providerSchema), field(3, assumeRole)]))),
    ...entries(2, resourceSchemas),
    ...entries(3, dataSchemas),
  ]);
}

function block(schema: Schema): Buffer {
  const place = { required: 4, optional: 5, computed: 6 };
  return Buffer.concat(
    Object.entries(schema).map(([name, { type, is }]) =>
      field(2, Buffer.concat([field(1, name), field(2, JSON.stringify(type)), flag(place[is], true)])),
    ),
  );
}
