/** Owns the storms: many runs that request their roles at the same moment, over several replicas. */
import { setTimeout as delay } from 'node:timers/promises';
import type { StormResult } from './answers.ts';
import { median, percentile, type Report } from './report.ts';
import { type System, withSystem } from './system.ts';

interface Storm {
  runs: number;
  replicas: number;
  targets: number;
  proxies: number;
  rounds: number;
}

interface Outcome extends StormResult {
  reads: number;
  writes: number;
}

const runsOfOneUser = 5;

async function storm(system: System, { runs, targets }: Storm): Promise<Outcome> {
  const users = await system.addUsers(runs / runsOfOneUser);
  const started = await Promise.all(
    users.map(async ({ name, token }) => {
      const ids = await system.startRuns(name, runsOfOneUser);
      return ids.map((run) => ({ token, run }));
    }),
  );
  const urls = system.replicas.map(({ url }) => url);
  const asked = started.flat().map((one, index) => ({ ...one, url: urls[index % urls.length] ?? '' }));
  // Until every replica's watch has the pods.
  await delay(1_000);
  await system.forgetCalls();
  const { controlUrl } = system.stack;
  const result = await system.storm({ asked, controlUrl, roles: targets });
  const calls = await system.awsCalls();
  return { ...result, reads: calls.GetRole ?? 0, writes: calls.UpdateAssumeRolePolicy ?? 0 };
}

async function rounds(plan: Storm): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (let round = 0; round < plan.rounds; round += 1) {
    const outcome = await withSystem(plan.replicas, async (system) => {
      await system.mapRoles(plan.targets, plan.proxies);
      return storm(system, plan);
    });
    outcomes.push(outcome);
  }
  return outcomes;
}

/** Every figure is that of the worst round. */
async function report(plan: Storm, targets: { p99Ms: number; writes?: number }): Promise<Report> {
  const outcomes = await rounds(plan);
  const worst = (value: (outcome: Outcome) => number) => Math.max(...outcomes.map(value));
  const name = (what: string) => `${plan.runs} runs, ${plan.replicas} replicas: ${what}`;
  const lost = outcomes.flatMap((outcome) => outcome.lost);
  const failed = outcomes.flatMap((outcome) => Object.entries(outcome.failed));
  return {
    figures: [
      { name: name('lost after a 200'), value: lost.length, unit: '', target: { atMost: 0 } },
      { name: name('p50'), value: worst(({ ms }) => median(ms)), unit: 'ms' },
      {
        name: name('p99'),
        value: worst(({ ms }) => percentile(ms, 0.99)),
        unit: 'ms',
        target: { atMost: targets.p99Ms },
      },
      {
        name: name('IAM writes'),
        value: worst(({ writes }) => writes),
        unit: '',
        ...(targets.writes === undefined ? {} : { target: { atMost: targets.writes } }),
      },
      { name: name('IAM reads'), value: worst(({ reads }) => reads), unit: '' },
    ],
    wrong: [
      ...lost.map((run) => `run ${run} had a 200 without being let in`),
      ...failed.map(([code, times]) => `${times} of ${plan.runs} requests were answered ${code}`),
    ],
  };
}

export async function storms(): Promise<Report> {
  // Two proxies a target: one trust policy of 8,192 characters holds 161 runs.
  const small = await report(
    { runs: 200, replicas: 3, targets: 3, proxies: 2, rounds: 3 },
    { p99Ms: 1_500, writes: 30 },
  );
  const large = await report({ runs: 1_000, replicas: 5, targets: 1, proxies: 8, rounds: 2 }, { p99Ms: 5_000 });
  return { figures: [...small.figures, ...large.figures], wrong: [...small.wrong, ...large.wrong] };
}
