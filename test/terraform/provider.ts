/** Owns a stand-in for Terraform's AWS provider, to which Terraform connects: it creates roles in the stack's AWS. */
import { isDeepStrictEqual } from 'node:util';
import type { AwsStandIn } from '../stack/aws.ts';
import { startGrpc } from './grpc.ts';
import { type Account, accountOf, type Resource, resources } from './resources.ts';
import { resourceSchemas, schemaMessage } from './schemas.ts';
import { type Attributes, field, fieldsOf, flag, pack, unknown, unpack, type Value } from './wire.ts';

export interface ProviderStandIn {
  /** Leads Terraform to it, in place of the provider hashicorp/aws. */
  readonly environment: Readonly<Record<string, string>>;
  close(): Promise<void>;
}

interface Call {
  readonly type: string;
  /** A field of the request that holds a value, by its number. */
  value(field: number): Value;
  raw(field: number): Buffer;
  /** Whose credentials the provider has: Terraform opens a connection for each provider block. */
  readonly account: Account;
  configure(settings: Attributes): void;
}

/** Speaks version 6 of the protocol; the field numbers are those of tfplugin6.proto in Terraform's source. */
export async function startProvider(aws: AwsStandIn): Promise<ProviderStandIn> {
  const accounts = new WeakMap<object, Account>();
  const server = await startGrpc('tfplugin6.Provider', async (method, message, connection) => {
    const run = methods[method];
    if (!run) return undefined;
    const fields = fieldsOf(message);
    const raw = (number: number) => fields.get(number) ?? Buffer.alloc(0);
    try {
      return await run({
        type: raw(1).toString(),
        raw,
        value: (number) => unpack(fieldsOf(raw(number)).get(1) ?? pack(null)),
        account: accounts.get(connection) ?? accountOf(aws, aws.account),
        configure: ({ allowed_account_ids: ids }) => {
          const [id = aws.account] = (ids as string[] | null) ?? [];
          accounts.set(connection, accountOf(aws, id));
        },
      });
    } catch (error) {
      const diagnostics = ['PlanResourceChange', 'ApplyResourceChange', 'ReadResource', 'ReadDataSource'];
      const places = [4, 3, 2, 2];
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      return field(places[diagnostics.indexOf(method)] ?? 1, Buffer.concat([flag(1, 1), field(2, text)]));
    }
  });
  const addr = { Network: 'tcp', String: `127.0.0.1:${server.port}` };
  const reattach = { Protocol: 'grpc', ProtocolVersion: 6, Pid: process.pid, Test: true, Addr: addr };
  return {
    environment: { TF_REATTACH_PROVIDERS: JSON.stringify({ 'hashicorp/aws': reattach }) },
    close: () => server.close(),
  };
}

const nothing = () => Buffer.alloc(0);

const methods: Readonly<Record<string, (call: Call) => Buffer | Promise<Buffer>>> = {
  GetProviderSchema: schemaMessage,
  ValidateProviderConfig: nothing,
  ValidateResourceConfig: nothing,
  ValidateDataResourceConfig: nothing,
  StopProvider: nothing,
  ConfigureProvider: ({ value, configure }) => {
    configure(value(2) as Attributes);
    return nothing();
  },
  // Terraform hands over the stored JSON, and takes JSON for an answer.
  UpgradeResourceState: ({ raw }) => field(1, field(2, fieldsOf(raw(3)).get(1) ?? 'null')),
  PlanResourceChange: ({ type, value }) => plan(type, value(2) as Attributes | null, value(3) as Attributes | null),
  ApplyResourceChange: async ({ type, value, account }) =>
    dynamic(1, await apply(resourceOf(type), account, value(2) as Attributes | null, value(3) as Attributes | null)),
  ReadResource: async ({ type, value, account }) =>
    dynamic(1, await resourceOf(type).read(account, value(2) as Attributes)),
  ReadDataSource: ({ type, account: { id, partition } }) => {
    const arn = `arn:${partition}:iam::${id}:user/terraform`;
    return dynamic(
      1,
      type === 'aws_partition'
        ? { id: partition, partition, dns_suffix: 'amazonaws.com' }
        : { id, account_id: id, arn, user_id: 'AIDA00000000000000000' },
    );
  },
};

const dynamic = (number: number, value: Value) => field(number, field(1, pack(value)));

function resourceOf(type: string): Resource {
  const resource = resources[type];
  if (!resource) throw new Error(`this stand-in makes no ${type}`);
  return resource;
}

/** The attributes that AWS gives a new resource are unknown; a change of its name replaces it. */
function plan(type: string, prior: Attributes | null, proposed: Attributes | null): Buffer {
  const schema = Object.entries(resourceSchemas[type] ?? {});
  if (!proposed) return dynamic(1, null);
  const isNew = prior === null;
  const planned: Attributes = Object.fromEntries(
    schema.map(([name, { is }]): [string, Value] => [
      name,
      isNew && is === 'computed' ? unknown : (proposed[name] ?? null),
    ]),
  );
  const replaced = schema.filter(
    ([name, { replaces }]) => !isNew && replaces && !isDeepStrictEqual(prior[name], proposed[name]),
  );
  return Buffer.concat([dynamic(1, planned), ...replaced.map(([name]) => field(2, field(1, field(1, name))))]);
}

async function apply(
  resource: Resource,
  account: Account,
  prior: Attributes | null,
  planned: Attributes | null,
): Promise<Value> {
  if (planned) return prior ? resource.update(account, prior, planned) : resource.create(account, planned);
  if (prior) await resource.remove(account, prior);
  return null;
}
