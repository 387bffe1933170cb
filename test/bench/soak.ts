/** Owns the long benchmark: runs start and end on a busy cluster, and calls, times and memory are reported. */
import { setTimeout as delay } from 'node:timers/promises';
import { post } from './clients.ts';
import { median, percentile, type Report } from './report.ts';
import { metric, type System, withSystem } from './system.ts';

const alive = 500;
const comingEveryMs = 500;
/** How often a sidecar repeats its request. */
const refreshEveryMs = 60_000;
/** Capacity for 805 members, 161 in each role: some is always left, although runs start before others are removed. */
const proxies = 5;
const replicas = 2;
const sampleEveryMs = 2_000;
const mebibyte = 2 ** 20;

interface Run {
  id: string;
  token: string;
  askedAt: number;
}

interface Sample {
  /** In MiB, one value for each replica. */
  memory: number[];
  watches: number;
}

interface Soaked {
  settleMs: number[];
  failed: Map<string, number>;
  ended: { id: string; at: number }[];
  samples: Sample[];
  writes: number;
  came: number;
}

/** @param seconds how long runs start and end; about 20 s of set-up come before. */
export async function soak(seconds: number): Promise<Report> {
  return withSystem(replicas, async (system) => {
    await system.mapRoles(1, proxies);
    const users = await system.addUsers(20);
    const runs: Run[] = [];
    for (const { name, token } of users) {
      const ids = await system.startRuns(name, alive / users.length);
      runs.push(...ids.map((id) => ({ id, token, askedAt: 0 })));
    }
    await delay(1_000);
    await Promise.all(runs.map((run) => ask(system, run)));
    // The long benchmark does not count what the storm before it caused.
    await delay(5_000);
    const soaked = await comeAndGo(system, users, runs, seconds);
    // The leader collects the last removals for a while before it writes them.
    await delay(6_000);
    return report(seconds, soaked, await revokeMs(system, soaked.ended));
  });
}

async function comeAndGo(
  system: System,
  users: { name: string; token: string }[],
  runs: Run[],
  seconds: number,
): Promise<Soaked> {
  const soaked: Soaked = { settleMs: [], failed: new Map(), ended: [], samples: [], writes: 0, came: 0 };
  await system.forgetCalls();
  const asking = new Set<Promise<void>>();
  const start = performance.now();
  const elapsed = () => performance.now() - start;

  const timed = (run: Run, isNew: boolean) => {
    const one = ask(system, run).then(({ status, text, ms }) => {
      if (status === 200 && isNew) soaked.settleMs.push(ms);
      if (status === 200) return;
      const code = `${status} ${/"code":"(\w+)"/.exec(text)?.[1] ?? text.slice(0, 80)}`;
      soaked.failed.set(code, (soaked.failed.get(code) ?? 0) + 1);
    });
    asking.add(one);
    void one.finally(() => asking.delete(one));
  };

  let sampled = 0;
  for (let turn = 0; elapsed() < seconds * 1000; turn += 1) {
    const user = users[turn % users.length] as { name: string; token: string };
    const [id = ''] = await system.startRuns(user.name, 1);
    const run = { id, token: user.token, askedAt: 0 };
    runs.push(run);
    timed(run, true);
    soaked.came += 1;
    const [old] = runs.splice((turn * 7919) % (runs.length - 1), 1);
    if (old) {
      soaked.ended.push({ id: old.id, at: Date.now() });
      await system.stack.order('end-runs', [old.id]);
    }
    const due = performance.now() - refreshEveryMs;
    for (const each of runs.filter(({ askedAt }) => askedAt < due).slice(0, 10)) timed(each, false);
    if (elapsed() >= sampled * sampleEveryMs) {
      sampled += 1;
      soaked.samples.push(await sample(system));
    }
    await delay(Math.max(0, (turn + 1) * comingEveryMs - elapsed()));
  }
  await Promise.all(asking);
  soaked.writes = (await system.awsCalls()).UpdateAssumeRolePolicy ?? 0;
  return soaked;
}

async function ask(system: System, run: Run): Promise<{ status: number; text: string; ms: number }> {
  const started = performance.now();
  run.askedAt = started;
  const { url } = system.replicas[Number.parseInt(run.id.slice(-2), 16) % system.replicas.length] ?? { url: '' };
  const authorization = `Bearer ${run.token}`;
  const answer = await post(`${url}/map_iam_roles_to_pod_sa`, { run_id: run.id }, { authorization });
  return { ...answer, ms: performance.now() - started };
}

async function sample(system: System): Promise<Sample> {
  const { open } = (await (await fetch(`${system.stack.kubernetesUrl}/__stack/watches`)).json()) as { open: number };
  const memory = system.replicas.map((each) => metric(each, 'process_resident_memory_bytes'));
  return { watches: open, memory: (await Promise.all(memory)).map((bytes) => bytes / mebibyte) };
}

/** The time from each run's end until no trust policy has it; NaN for a run that is still a member. */
async function revokeMs(system: System, ended: Soaked['ended']): Promise<number[]> {
  const names = Array.from({ length: proxies }, (_, index) => `bench-1-proxy-${index + 1}`);
  const lastSeen = new Map<string, number>();
  for (const name of names) {
    const [role] = await system.stack.order('trust-history', { proxies: [name] });
    const history = role?.history ?? [];
    for (const [index, { document }] of history.entries()) {
      // A member until the next version replaced this one.
      const until = history[index + 1]?.at ?? Number.NaN;
      for (const [, id = ''] of JSON.stringify(document).matchAll(/:run-([0-9a-f]{24})"/g)) lastSeen.set(id, until);
    }
  }
  return ended.map(({ id, at }) => Math.max(0, (lastSeen.get(id) ?? at) - at));
}

function report(seconds: number, soaked: Soaked, revoked: number[]): Report {
  const { samples, settleMs, writes, came } = soaked;
  const fifth = Math.max(1, Math.floor(samples.length / 5));
  // The largest of the replicas, in the median sample of the first and of the last fifth.
  const memory = (some: Sample[]) => median(some.map((one) => Math.max(...one.memory)));
  const [first, last] = [memory(samples.slice(0, fifth)), memory(samples.slice(-fifth))];
  const watches = samples.map((one) => one.watches);
  const stuck = revoked.filter(Number.isNaN).length;
  const gone = revoked.filter((ms) => !Number.isNaN(ms));
  return {
    figures: [
      { name: `runs that came, and as many that went, in ${seconds} s, ${alive} alive`, value: came, unit: '' },
      { name: 'settled: p50', value: median(settleMs), unit: 'ms' },
      { name: 'settled: p99', value: percentile(settleMs, 0.99), unit: 'ms' },
      { name: 'revoked after the end: p50', value: median(gone), unit: 'ms' },
      { name: 'revoked after the end: p99', value: percentile(gone, 0.99), unit: 'ms', target: { atMost: 5_000 } },
      { name: 'IAM writes per run that came and went', value: writes / came, unit: '' },
      { name: 'RSS of the larger replica, first fifth', value: first, unit: 'MiB' },
      { name: 'RSS of the larger replica, last fifth', value: last, unit: 'MiB', target: { atMost: first * 1.15 } },
      { name: 'open watches, fewest', value: Math.min(...watches), unit: '' },
      { name: 'open watches, most', value: Math.max(...watches), unit: '', target: { atMost: watches[0] ?? 0 } },
    ],
    wrong: [
      ...(stuck > 0 ? [`${stuck} ended runs are still in a trust policy`] : []),
      ...[...soaked.failed].map(([code, times]) => `${times} requests were answered ${code}`),
    ],
  };
}
