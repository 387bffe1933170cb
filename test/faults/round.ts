/** Owns one round: a system, some load, some faults, then quiet, and what the model says about all of it. */
import { setTimeout as delay } from 'node:timers/promises';
import { faults, needsHttps } from './faults.ts';
import { type Load, startLoad } from './load.ts';
import { overlapProblems, pastProblems, settledProblems } from './model.ts';
import { createRandom, type Random } from './random.ts';
import { type FaultSystem, startFaultSystem } from './system.ts';
import { until } from './waiting.ts';

export interface RoundPlan {
  kinds: string[];
  /** The first two at the same time. */
  together: boolean;
  replicas: number;
  https: boolean;
}

export interface RoundResult {
  plan: RoundPlan;
  problems: string[];
  /** From the end of the last fault until all that was answered is so. */
  settleMs: number;
  counts: Load['counts'];
  /** What each replica said, for a round that failed. */
  logs: { name: string; lines: readonly string[] }[];
}

/** Waiting requests and all: a pass that failed again and again pauses for up to 30 s. */
const settleLimitMs = 45_000;
/** The whole of it, with time for what hangs to be told from what is slow. */
const roundLimitMs = 180_000;

/** Every kind comes first in one round of so many; the others are drawn. */
export function planRound(seed: number, round: number): { plan: RoundPlan; random: Random } {
  const random = createRandom(seed);
  const names = Object.keys(faults);
  const first = names[round % names.length] ?? '';
  const kinds = [
    first,
    ...random.some(
      names.filter((name) => name !== first),
      random.int(1, 2),
    ),
  ];
  const https = kinds.some((kind) => needsHttps.has(kind)) || random.chance(0.2);
  return { plan: { kinds, together: random.chance(0.5), replicas: random.int(2, 3), https }, random };
}

export async function runRound(plan: RoundPlan, random: Random): Promise<RoundResult> {
  const system = await startFaultSystem(plan.replicas, plan.https);
  try {
    const progress = { at: 'the start' };
    const late = delay(roundLimitMs).then(() => {
      throw new Error(`not done after ${roundLimitMs / 1000} s, at ${progress.at}`);
    });
    return await Promise.race([carryOut(system, plan, random, progress), late]);
  } finally {
    await system.stop();
  }
}

async function carryOut(
  system: FaultSystem,
  plan: RoundPlan,
  random: Random,
  progress: { at: string },
): Promise<RoundResult> {
  const problems: string[] = [];
  const load = await startLoad(system, random.fork());
  for (let started = random.int(12, 16); started > 0; started -= 1) await load.startRun();
  await delay(random.int(0, 1_500));
  progress.at = 'the faults';
  const ending = new AbortController();
  const coming = load.comeAndGo(ending.signal);

  const inject = (kind: string) =>
    faults[kind]?.({ system, load, random: random.fork(), wrong: (what) => problems.push(`${kind}: ${what}`) });
  const [first = '', second = '', ...more] = plan.kinds;
  if (plan.together) await Promise.all([inject(first), inject(second)]);
  else for (const kind of [first, second]) await inject(kind);
  for (const kind of more) await inject(kind);

  progress.at = 'clearing the faults';
  ending.abort();
  await system.clearFaults();
  const quietAt = performance.now();
  progress.at = 'the last mapping';
  await coming;
  progress.at = 'settling';
  problems.push(...(await load.untilAnswered(settleLimitMs)));
  const left = () => settleLimitMs - (performance.now() - quietAt);
  const settled = async () => settledProblems(await load.facts(true)).length === 0;
  await until(settled, Math.max(5_000, left()), 100);
  const settleMs = performance.now() - quietAt;
  // A comparison of every role later, it must still be so.
  const reads = async () =>
    ((await (await fetch(`${system.stack.awsUrl}/__stack/calls`)).json()) as Calls).GetRole ?? 0;
  const before = await reads();
  const named = new Set((await load.facts(true)).mappings.at(-1)?.map(({ proxy }) => proxy));
  const compared = await until(async () => (await reads()) >= before + 2 * named.size, 30_000, 100);
  if (!compared) problems.push('the roles are not compared any more');
  problems.push(...settledProblems(await load.facts(true)));
  problems.push(...pastProblems(await load.facts(false)));
  problems.push(...overlapProblems(await system.stack.order('writes', {})));
  const listsLied = plan.kinds.includes('lists empty');
  problems.push(...load.odd.filter((odd) => !(listsLied && odd.includes('run_not_found'))));
  const logs = system.all.map(({ name, replica }) => ({ name, lines: replica?.child.output ?? [] }));
  return { plan, problems: [...new Set(problems)], settleMs, counts: load.counts, logs };
}

interface Calls {
  GetRole?: number;
}
