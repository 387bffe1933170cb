/** Owns the bench of role tokens: first grants at a steady rate over several replicas, and the same load on entries beside it. */
import { setTimeout as delay } from 'node:timers/promises';
import { type Figure, median, percentile, type Report } from './report.ts';
import { withSystem } from './system.ts';

interface Plan {
  name: string;
  runs: number;
  byToken: boolean;
  /** Of the pool: a trust policy of 8,192 characters has capacity for 161 entries, and for any number of runs by tokens. */
  proxies: number;
}

const [replicas, perSecond, runsOfOneUser] = [3, 200, 50];
/** Runs before the measured ones: a new process compiles code at its first use, and all processes share few cores. */
const firstRuns = 600;
/** A call of the load that has no answer after this time has failed. */
const callMs = 30_000;
/** The number of runs whose tokens are checked with STS. */
const sample = 50;

async function load({ name: carrier, runs, byToken, proxies }: Plan) {
  return withSystem(replicas, async (system) => {
    await system.mapRoles(1, proxies, byToken ? 'token' : undefined);
    const users = await system.addUsers((firstRuns + runs) / runsOfOneUser);
    const urls = system.replicas.map(({ url }) => url);
    const asked: { url: string; token: string; run: string; pod: string }[] = [];
    for (const { name, token } of users) {
      for (const { run, pod } of await system.startPods(name, runsOfOneUser)) {
        asked.push({ url: urls[asked.length % urls.length] ?? '', token, run, pod });
      }
    }
    console.error(`${asked.length} runs by ${carrier} are started`);
    // Until every replica's watch has the pods.
    await delay(2_000);
    await system.forgetCalls();
    const how = { perSecond, byToken, callMs, sample };
    const first = await system.paced({ ...how, asked: asked.slice(0, firstRuns) });
    const result = await system.paced({ ...how, asked: asked.slice(firstRuns) });
    const { UpdateAssumeRolePolicy: writes = 0 } = await system.awsCalls();
    return { first, result, writes };
  });
}

async function report(plan: Plan): Promise<Report> {
  const { first, result, writes } = await load(plan);
  const { ms } = result;
  const lost = [...first.lost, ...result.lost];
  const name = (what: string) =>
    `${plan.runs} runs by ${plan.name}, ${perSecond} a second, ${replicas} replicas: ${what}`;
  const bar = (atMost: number): Pick<Figure, 'target'> => (plan.byToken ? { target: { atMost } } : {});
  return {
    figures: [
      { name: name('lost'), value: lost.length, unit: '', target: { atMost: 0 } },
      { name: name('p50'), value: median(ms), unit: 'ms' },
      { name: name('p99.9'), value: percentile(ms, 0.999), unit: 'ms', ...bar(1_000) },
      { name: `the first ${firstRuns} runs of new replicas: p99.9`, value: percentile(first.ms, 0.999), unit: 'ms' },
      { name: name('IAM writes'), value: writes, unit: '', ...bar(0) },
    ],
    wrong: [
      ...lost.map((run) => `run ${run} had a 200 and no role`),
      ...[first, result].flatMap(({ failed }) =>
        Object.entries(failed).map(([code, times]) => `${times} runs were answered ${code}`),
      ),
    ],
  };
}

/** @param runs by tokens, and a fifth of them by entries. */
export async function tokens(runs: number): Promise<Report> {
  const byToken = await report({ name: 'tokens', runs, byToken: true, proxies: 1 });
  const byEntry = await report({ name: 'entries', runs: runs / 5, byToken: false, proxies: 12 });
  return { figures: [...byToken.figures, ...byEntry.figures], wrong: [...byToken.wrong, ...byEntry.wrong] };
}
