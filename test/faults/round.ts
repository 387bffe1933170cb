/** Owns one round: a system under load, some faults, then quiet, and the check of all of it by the models. */
import { setTimeout as delay } from 'node:timers/promises';
import { connectionFaults } from './connection-faults.ts';
import type { Fault } from './fault.ts';
import { needsHttps, faults as systemFaults } from './faults.ts';
import { createHands } from './hands.ts';
import { type Load, startLoad } from './load.ts';
import { overlapProblems, pastProblems, settledProblems } from './model.ts';
import { podFaults } from './pod-faults.ts';
import { type PodLoad, startPodLoad } from './pod-load.ts';
import { createRandom, type Random } from './random.ts';
import { type FaultSystem, leaseSeconds, startFaultSystem } from './system.ts';
import { tokenFaults } from './token-faults.ts';
import { allowedWithinMs, revokedWithinMs, startTokenLoad, type TokenLoad } from './token-load.ts';
import { grossly, until } from './waiting.ts';

const platformFaults = { ...systemFaults, ...connectionFaults };
export const faults = { ...platformFaults, ...podFaults, ...tokenFaults };

export interface RoundPlan {
  kinds: string[];
  /** Whether the first two faults come at the same time. */
  together: boolean;
  replicas: number;
  https: boolean;
}

export type Counts = Load['counts'] & TokenLoad['counts'] & { identities: number; workloads: number };

export interface RoundResult {
  plan: RoundPlan;
  problems: string[];
  /** From the end of the last fault until the system is as the clients were answered. */
  settleMs: number;
  /** For revoked runs whose tokens still worked when the last fault ended: the time until STS refused them. */
  revokedMs: number[];
  /** From the revocation of a run in a quiet system until STS refused its tokens. */
  outMs: number;
  /** From the moment that this run was allowed again until STS accepted its tokens again. */
  allowedMs: number;
  counts: Counts;
  /** The output of each replica, for a round that failed. */
  logs: { name: string; lines: readonly string[] }[];
}

/** Includes waiting requests: a reconcile that failed again and again pauses for up to 30 s. */
const settleLimitMs = 45_000;
/** STS must refuse a revoked run so soon after the last fault: the lease may have to move first, as in `bounds.ts`. */
const afterFaultMs = (leaseSeconds + 2) * 1000 + revokedWithinMs;
/** The whole round, long enough to distinguish a hang from a slow round. */
const roundLimitMs = 180_000;

/** Each kind of the platform, of Pod Identity and of role tokens has its turn; further kinds are chosen at random. */
export function planRound(seed: number, round: number): { plan: RoundPlan; random: Random } {
  const random = createRandom(seed);
  const turn = (kinds: object) => Object.keys(kinds)[round % Object.keys(kinds).length] ?? '';
  const first = [turn(platformFaults), turn(podFaults), turn(tokenFaults)];
  const others = Object.keys(faults).filter((name) => !first.includes(name));
  const all = [...first, ...random.some(others, random.int(0, 1))];
  const kinds = random.some(all, all.length);
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
  const isLie = (odd: string) => plan.kinds.includes('lists empty') && odd.includes('run_not_found');
  const load = await startLoad(system, random.fork());
  const pods = await startPodLoad(system, random.fork());
  const hands = createHands(system, random.fork());
  const tokens = await startTokenLoad(system, random.fork());
  for (let started = random.int(4, 6); started > 0; started -= 1) await tokens.startRun();
  for (let started = random.int(12, 16); started > 0; started -= 1) await load.startRun();
  await delay(random.int(0, 1_500));
  progress.at = 'the faults';
  const ending = new AbortController();
  const coming = Promise.all([
    load.comeAndGo(ending.signal),
    pods.comeAndGo(ending.signal),
    tokens.comeAndGo(ending.signal),
  ]);
  // Where the round breaks off, this promise is not awaited.
  coming.catch(() => undefined);

  const inject = (kind: string) =>
    (faults as Record<string, Fault>)[kind]?.({
      system,
      load,
      pods,
      tokens,
      hands,
      random: random.fork(),
      wrong: (what) => problems.push(`${kind}: ${what}`),
    });
  const [first = '', second = '', ...more] = plan.kinds;
  if (plan.together) await Promise.all([inject(first), inject(second)]);
  else for (const kind of [first, second]) await inject(kind);
  for (const kind of more) await inject(kind);

  progress.at = 'clearing the faults';
  ending.abort();
  await system.clearFaults();
  const quietAt = performance.now();
  const quietSince = Date.now();
  progress.at = 'the last mapping';
  await coming;
  await pods.calm();
  await tokens.calm();
  progress.at = 'settling';
  problems.push(...(await load.untilAnswered(settleLimitMs)));
  const left = () => settleLimitMs - (performance.now() - quietAt);
  const notSettled = async () => [
    ...settledProblems(await load.facts(true)),
    ...(await pods.settled()),
    ...(await hands.settled()),
    ...(await tokens.settled()),
  ];
  const settled = async () => {
    const [first] = await notSettled();
    if (first !== undefined) progress.at = `settling: ${first}`;
    return first === undefined;
  };
  await until(settled, Math.max(5_000, left()), 100);
  const settleMs = performance.now() - quietAt;
  progress.at = 'the end of a run’s tokens';
  const revokedMs = tokens.revokedMs(quietSince);
  const outMs = await tokens.revocation();
  if (outMs > grossly * revokedWithinMs) problems.push(`a run was revoked, and out after ${Math.round(outMs)} ms`);
  const allowedMs = await tokens.allowance();
  if (allowedMs > grossly * allowedWithinMs)
    problems.push(`a run was allowed again, and had its tokens back after ${Math.round(allowedMs)} ms`);
  const late = Math.max(0, ...revokedMs);
  if (late > grossly * afterFaultMs) problems.push(`a run was revoked amid faults, and out ${late} ms after the last`);
  progress.at = 'the comparisons';
  tokens.lookAgain();
  await comparedTwice(system, load, pods, problems);
  problems.push(...(await notSettled()));
  problems.push(...(await pods.past()), ...pods.odd);
  problems.push(...(await tokens.past(graceMs(plan))), ...tokens.odd.filter((odd) => !isLie(odd)));
  problems.push(...pastProblems(await load.facts(false)));
  problems.push(...overlapProblems(await system.stack.order('writes', {})));
  problems.push(...load.odd.filter((odd) => !isLie(odd)));
  const logs = system.all.map(({ name, replica }) => ({ name, lines: replica?.child.output ?? [] }));
  const { mapped: identities, workloads } = pods.counts;
  const counts = { ...load.counts, identities, workloads, ...tokens.counts };
  return { plan, problems: [...new Set(problems)], settleMs, revokedMs, outMs, allowedMs, counts, logs };
}

/** How long a replica may miss a change of the API server: its watches may be frozen, or on a silent connection. */
function graceMs({ kinds }: RoundPlan): number {
  const isHeldBack = kinds.some((kind) => ['watches frozen', 'lists empty'].includes(kind) || /silent/.test(kind));
  return isHeldBack ? 8_000 : 2_000;
}

/** Checks again after a comparison of every role and association. */
async function comparedTwice(system: FaultSystem, load: Load, pods: PodLoad, problems: string[]): Promise<void> {
  const reads = async () => {
    const calls = (await (await fetch(`${system.stack.awsUrl}/__stack/calls`)).json()) as Calls;
    return { roles: calls.GetRole ?? 0, associations: calls.DescribePodIdentityAssociation ?? 0 };
  };
  const before = await reads();
  const proxies = new Set((await load.facts(true)).mappings.at(-1)?.map(({ proxy }) => proxy));
  const mapped = pods.mapped().map(([, { role }]) => role);
  const compared = await until(
    async () => {
      const { roles, associations } = await reads();
      const isRead = roles >= before.roles + 2 * (proxies.size + new Set(mapped).size);
      return isRead && associations >= before.associations + 2 * mapped.length;
    },
    30_000,
    100,
  );
  if (!compared) problems.push('the roles and associations are not compared any more');
}

interface Calls {
  GetRole?: number;
  DescribePodIdentityAssociation?: number;
}
