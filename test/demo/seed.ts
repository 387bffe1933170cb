/** Owns the seed data of `npm run dev`: thirty runs, a full pool, a role in error, role tokens, an external change, a revoked run. */
import { eventually } from './screen.ts';
import type { System } from './system.ts';

export interface Seeded {
  /** A run whose role has no capacity left, and the user who started it. */
  readonly waiting: { readonly run: string; readonly user: string };
  readonly revoked: string;
  /** The proxy role with an external change, and the one that IAM does not have. */
  readonly changed: string;
  readonly missing: string;
  readonly pool: readonly string[];
  /** A run that has a role token, and the user who started it; the role's other runs have not requested one. */
  readonly byToken: { readonly run: string; readonly user: string };
}

const account = 'arn:aws:iam::111111111111:role/';
const missing = `${account}acme-archive-bucket-role`;
const archive = 'arn:aws:iam::222222222222:role/acme-archive-bucket-role';

/** Domino users beside the story's, each with runs. */
const members = [
  { name: 'dana', orgs: ['marketing'] },
  { name: 'erin', orgs: ['marketing', 'risk'] },
  { name: 'frank', orgs: ['risk'] },
];
const runsEach = 10;
/** An id in Domino's form. */
const runId = (number: number) => `646e00b817c28b5ea4b5${number.toString(16).padStart(4, '0')}`;

/** @param system the system with the story's people and roles. */
export async function seed(system: System): Promise<Seeded> {
  const { stack } = system;
  for (const member of members) await stack.order('add-user', member);
  const { target, proxies } = await stack.order('add-role-pair', {
    name: 'acme-train-model-role',
    proxies: ['acme-train-model-1-role', 'acme-train-model-2-role'],
  });
  const { target: report, proxies: reporting } = await stack.order('add-role-pair', { name: 'acme-report-role' });
  const [changed = ''] = reporting;
  const tokens = await stack.order('add-role-pair', { name: 'acme-notebook-role' });
  await stack.order('list-audiences', ['acme-notebook-role']);
  for (const proxy of proxies) await crowd(system, proxy);
  const entry = (iam: string, proxy: string) => ({ iam_role_arn: iam, proxy_iam_role_arn: proxy });
  await map(system, 'marketing', [...proxies.map((proxy) => entry(target, proxy)), entry(report, changed)]);
  const byToken = { ...entry(tokens.target, tokens.proxies[0] ?? ''), carrier: 'token' };
  await map(system, 'risk', [entry(report, changed), entry(archive, missing), byToken]);

  const runs = members.flatMap(({ name: user }, index) =>
    Array.from({ length: runsEach }, (_, number) => ({ user, run: runId(index * runsEach + number) })),
  );
  const pods = new Map<string, string>();
  for (const { user, run } of runs) {
    const [started] = await stack.order('start-runs', { user, runs: [run] });
    pods.set(run, started?.pod ?? '');
  }
  // One user after the other. A run that gets no capacity in one role has its other roles all the same.
  for (const { name: as } of members) {
    const own = runs.filter(({ user }) => user === as);
    await Promise.all(
      own.map(({ run }) => system.call('POST', '/map_iam_roles_to_pod_sa', { as, body: { run_id: run } })),
    );
  }
  const holder = runs.find(({ user }) => user === 'frank') ?? { user: '', run: '' };
  await giveToken(system, holder, pods.get(holder.run) ?? '');
  await editOutside(system, changed);
  const revoked = runs.at(-1)?.run ?? '';
  await admin(system, 'POST', '/revoke_run', { run_id: revoked, reason: 'the laptop with its token was lost' });
  return { waiting: await firstWaiting(system), revoked, changed, missing, pool: proxies, byToken: holder };
}

/** Requests a token as the run's sidecar does; the first answers may say that the leader has not written the trust policy yet. */
async function giveToken(system: System, { user: as, run }: Seeded['byToken'], pod: string): Promise<void> {
  await eventually('the run is given a token', async () => {
    const { text } = await system.call('POST', '/role_tokens', { as, body: { run_id: run, pod } });
    return (JSON.parse(text) as { tokens?: object[] }).tokens?.length ? true : undefined;
  });
}

interface Status {
  proxy_roles: { waiting: { run_id?: string; user?: string; code: string }[]; drift?: object }[];
}

async function firstWaiting(system: System): Promise<Seeded['waiting']> {
  return eventually('a run waits for room', async () => {
    const { proxy_roles: roles } = await admin<Status>(system, 'GET', '/trust_status');
    const one = roles.flatMap(({ waiting }) => waiting).find(({ code }) => code === 'trust_policy_full');
    return one?.run_id && one.user ? { run: one.run_id, user: one.user } : undefined;
  });
}

async function map(system: System, org: string, roles: readonly object[]): Promise<void> {
  await admin(system, 'POST', '/update_multirole_mapping', { domino_org: org, role_data: roles });
}

/** An unmanaged statement that leaves capacity for only a few runs, as in roles that serve several tools. */
async function crowd(system: System, proxy: string): Promise<void> {
  const teams = Array.from({ length: 75 }, (_, number) => `analytics-${String(number).padStart(3, '0')}`);
  await edit(system, proxy, (statements) => [
    ...statements,
    {
      Sid: 'OtherTool',
      Effect: 'Allow',
      Principal: { Service: 'sagemaker.amazonaws.com' },
      Action: 'sts:AssumeRole',
      Condition: { StringEquals: { 'aws:PrincipalTag/team': teams } },
    },
  ]);
}

/**
 * Removes members by hand; the leader compares at once and adds them again. It removes the oldest members: without the newest,
 * the document would equal an earlier one of the leader, and so would count as a stale read.
 */
async function editOutside(system: System, proxy: string): Promise<void> {
  const take = () =>
    edit(system, proxy, (statements) =>
      statements.map((statement) => {
        const condition = Object.entries(statement.Condition?.StringLike ?? {}).map(([key, value]) => {
          const subjects = [value].flat();
          return [key, key.endsWith(':sub') && subjects.length > 2 ? subjects.slice(2) : value];
        });
        return { ...statement, Condition: { StringLike: Object.fromEntries(condition) } };
      }),
    );
  // A concurrent write of the leader may overwrite the edit, which is then repeated.
  await eventually('the external change is seen', async () => {
    await take();
    const status = await admin<Status>(system, 'GET', `/trust_status?proxy_iam_role_arn=${proxy}`);
    return status.proxy_roles[0]?.drift ? true : undefined;
  });
}

interface Statement {
  readonly Condition?: { readonly StringLike?: Readonly<Record<string, string | string[]>> };
}

async function edit(system: System, proxy: string, change: (statements: Statement[]) => object[]): Promise<void> {
  const name = proxy.slice(account.length);
  const [role] = await system.stack.order('trust-history', { proxies: [name], newest: true });
  const document = role?.history[0]?.document as { Statement: Statement[] };
  const changed = { ...document, Statement: change(document.Statement) };
  await system.stack.order('set-trust', { account: '111111111111', name, document: changed });
}

async function admin<T>(system: System, method: string, path: string, body?: object): Promise<T> {
  const { status, text } = await system.call(method, path, { as: 'admin', ...(body ? { body } : {}) });
  if (status !== 200) throw new Error(`${method} ${path}: ${status} ${text}`);
  return JSON.parse(text) as T;
}
