/** Owns the system under measurement: the stack with the bench's latencies, replicas, users, runs, and the load. */
import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { type Child, startChild } from '../stack/process.ts';
import {
  buildService,
  type ReplicaOptions,
  type ReplicaProcess,
  type StackProcess,
  startReplica,
  startStack,
} from '../stack/processes.ts';
import type { StormResult } from './answers.ts';
import { post } from './clients.ts';
import type { Job, RateResult } from './load.ts';
import { type PacedJob, pacedLimitMs } from './paced.ts';
import { latency } from './report.ts';

/** The most that AWS grants on request: 161 runs in one trust policy. */
export const maxChars = 8192;

export interface System {
  stack: StackProcess;
  replicas: ReplicaProcess[];
  addReplica(options?: ReplicaOptions): Promise<ReplicaProcess>;
  /** Creates target roles, each with a pool of this many proxy roles, and maps them to all bench users. */
  mapRoles(targets: number, proxies: number, carrier?: 'token'): Promise<void>;
  /** Creates users of the mapped organization, with a token each. */
  addUsers(count: number): Promise<{ name: string; token: string }[]>;
  /** Starts this many new runs of a user. @returns their ids. */
  startRuns(user: string, count: number): Promise<string[]>;
  /** As `startRuns`. @returns the ids with the name of each run's pod. */
  startPods(user: string, count: number): Promise<{ run: string; pod: string }[]>;
  /** The number of calls to the AWS stand-in by action, since `forgetCalls`. */
  awsCalls(): Promise<Record<string, number>>;
  forgetCalls(): Promise<void>;
  storm(job: Omit<Extract<Job, { kind: 'storm' }>, 'kind'>): Promise<StormResult>;
  paced(job: Omit<PacedJob, 'kind' | 'stsUrl' | 'controlUrl'>): Promise<StormResult>;
  serial(job: Omit<Extract<Job, { kind: 'serial' }>, 'kind'>): Promise<{ ms: number[] }>;
  rate(job: Omit<Extract<Job, { kind: 'rate' }>, 'kind'>): Promise<RateResult>;
}

let built: Promise<void> | undefined;

/** Starts a system, passes it to the callback, and ends all of its processes in any case. */
export async function withSystem<T>(replicas: number, use: (system: System) => Promise<T>): Promise<T> {
  built ??= buildService();
  await built;
  const children: Child[] = [];
  try {
    return await use(await startSystem(replicas, children));
  } finally {
    await Promise.all(children.map((child) => child.stop(2_000)));
  }
}

async function startSystem(count: number, children: Child[]): Promise<System> {
  const stack = await startStack();
  children.push(stack.child);
  await stack.knobs('aws', {
    latencyMs: pick('GetRole', 'UpdateAssumeRolePolicy', 'AssumeRoleWithWebIdentity', 'AssumeRole'),
    quota: maxChars,
  });
  await stack.knobs('domino', { latencyMs: latency.domino });
  const load = startChild(process.execPath, ['--import', 'tsx', new URL('load.ts', import.meta.url).pathname]);
  children.push(load);
  const replicas: ReplicaProcess[] = [];
  let runs = 0;

  async function send<T>(job: Job): Promise<T> {
    const answered = load.line<{ result?: T; failure?: string }>((line) => {
      if ('progress' in line) console.error(line.progress);
      return 'result' in line || 'failure' in line;
    }, limitMs(job));
    load.write(`${JSON.stringify(job)}\n`);
    const { result, failure } = await answered;
    if (result === undefined) throw new Error(`the load failed: ${failure}`);
    return result;
  }

  const system: System = {
    stack,
    replicas,
    addReplica: async (options = {}) => {
      // The product's defaults where the stand-ins' world has others, except that a load of one user is not cut short.
      const settings = {
        TRUST_POLICY_MAX_CHARS: String(maxChars),
        LEASE_SECONDS: '15',
        RATE_LIMIT_PER_MINUTE: '1000000',
      };
      const replica = await startReplica(stack, { ...options, settings: { ...settings, ...options.settings } });
      children.push(replica.child);
      await replica.ready;
      replicas.push(replica);
      return replica;
    },
    mapRoles: async (targets, proxies, carrier) => {
      const roleData: object[] = [];
      for (let target = 1; target <= targets; target += 1) {
        const pool = Array.from({ length: proxies }, (_, index) => `bench-${target}-proxy-${index + 1}`);
        const pair = await stack.order('add-role-pair', { name: `bench-${target}`, proxies: pool });
        const more = carrier ? { carrier } : {};
        for (const proxy of pair.proxies) {
          roleData.push({ iam_role_arn: pair.target, proxy_iam_role_arn: proxy, ...more });
        }
        if (carrier) await stack.order('list-audiences', pool);
      }
      await stack.order('add-user', { name: 'admin', admin: true });
      const authorization = `Bearer ${await stack.token('admin')}`;
      const body = { domino_org: 'bench', role_data: roleData };
      const { status, text } = await post(`${replicas[0]?.url}/update_multirole_mapping`, body, { authorization });
      if (status !== 200) throw new Error(`the mapping was refused: ${status} ${text}`);
      // The leader compares each role once, and the budget fills up again: a storm starts in quiet times.
      await delay(2_500);
    },
    addUsers: (number) =>
      Promise.all(
        Array.from({ length: number }, async (_, index) => {
          const name = `user-${index + 1}`;
          await stack.order('add-user', { name, orgs: ['bench'] });
          return { name, token: await stack.token(name) };
        }),
      ),
    startRuns: async (user, number) => (await system.startPods(user, number)).map(({ run }) => run),
    startPods: async (user, number) => {
      const ids = Array.from({ length: number }, () => {
        runs += 1;
        return createHash('sha256').update(`run ${runs}`).digest('hex').slice(0, 24);
      });
      const started = await stack.order('start-runs', { user, runs: ids });
      return started.map(({ pod }, index) => ({ run: ids[index] ?? '', pod }));
    },
    awsCalls: async () => (await fetch(`${stack.awsUrl}/__stack/calls`)).json() as Promise<Record<string, number>>,
    forgetCalls: async () => void (await post(`${stack.awsUrl}/__stack/reset-calls`, {})),
    storm: (job) => send({ kind: 'storm', ...job }),
    paced: (job) => send({ kind: 'paced', ...job, stsUrl: stack.awsUrl, controlUrl: stack.controlUrl }),
    serial: (job) => send({ kind: 'serial', ...job }),
    rate: (job) => send({ kind: 'rate', ...job }),
  };
  await Promise.all(Array.from({ length: count }, () => system.addReplica()));
  return system;
}

/** The time limit of a job; a load ends sooner unless it hangs. */
function limitMs(job: Job): number {
  if (job.kind === 'paced') return pacedLimitMs(job);
  return 120_000 + (job.kind === 'rate' ? job.seconds * 1000 : 0);
}

function pick(...actions: Exclude<keyof typeof latency, 'domino'>[]): Record<string, number> {
  return Object.fromEntries(actions.map((action) => [action, latency[action]]));
}

/** One of a replica's metrics, its series added up. */
export async function metric({ metricsUrl }: ReplicaProcess, name: string): Promise<number> {
  const text = await (await fetch(metricsUrl)).text();
  const series = [...text.matchAll(new RegExp(`^${name}(?:{[^}]*})? (\\S+)$`, 'gm'))];
  return series.reduce((sum, [, value]) => sum + Number(value), 0);
}
