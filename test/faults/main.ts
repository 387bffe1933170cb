/** Owns `npm run faults [-- --rounds 200 --seed 7 --round 3 --lanes 2 --logs <folder>]`: rounds, table, exit code. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { buildService } from '../stack/processes.ts';
import { commandLine, refuse, wholeNumber } from '../support/arguments.ts';
import { type Bound, boundProblems, boundsTable, measureBounds } from './bounds.ts';
import { roundSeed } from './random.ts';
import { type Counts, faults, planRound, type RoundResult, runRound } from './round.ts';

const { values } = commandLine({
  options: {
    rounds: { type: 'string', default: '40' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    /** Only this one. */
    round: { type: 'string' },
    /** Only rounds that have this fault. */
    fault: { type: 'string' },
    /** Rounds at a time. */
    lanes: { type: 'string', default: String(Math.min(4, cpus().length + 1)) },
    /** Where the replicas' logs of failed rounds go. */
    logs: { type: 'string' },
  },
});
const seed = wholeNumber('--seed', values.seed);
const lanes = wholeNumber('--lanes', values.lanes, 1);
if (values.fault !== undefined && !Object.hasOwn(faults, values.fault))
  refuse(`no fault "${values.fault}"; there are ${Object.keys(faults).join(', ')}`);
const rounds =
  values.round === undefined
    ? Array.from({ length: wholeNumber('--rounds', values.rounds, 1) }, (_, index) => index)
    : [wholeNumber('--round', values.round)];
const planned = rounds
  .map((round) => ({ round, ...planRound(roundSeed(seed, round), round) }))
  .filter(({ plan }) => values.fault === undefined || plan.kinds.includes(values.fault));
if (planned.length === 0) refuse(`none of ${rounds.length} rounds has this fault: ask for more, or for another seed`);

console.log(`faults: seed ${seed}, ${planned.length} rounds, ${lanes} at a time`);
await buildService();
const startedAt = performance.now();
const results: RoundResult[] = [];
let failed = 0;
const noCounts: Counts = {
  asked: 0,
  granted: 0,
  mapped: 0,
  ended: 0,
  identities: 0,
  workloads: 0,
  tokens: 0,
  revoked: 0,
  allowed: 0,
};
const queue = [...planned];
let bounds: Bound[] = [];
if (values.round === undefined && values.fault === undefined) bounds = await measureBounds(seed);
for (const problem of boundProblems(bounds)) {
  failed += 1;
  console.log(`FAILED: ${problem}`);
}
await Promise.all(Array.from({ length: lanes }, lane));
report();
process.exit(failed > 0 ? 1 : 0);

async function lane(): Promise<void> {
  for (let next = queue.shift(); next; next = queue.shift()) {
    const { round, plan, random } = next;
    const title = `round ${round}: ${plan.kinds.join(plan.together ? ' + ' : ', ')} (${plan.replicas} replicas)`;
    let result: RoundResult;
    try {
      result = await runRound(plan, random);
    } catch (error) {
      result = {
        plan,
        problems: [`the round broke off: ${String(error)}`],
        settleMs: 0,
        revokedMs: [],
        outMs: 0,
        allowedMs: 0,
        counts: noCounts,
        logs: [],
      };
    }
    results.push(result);
    if (result.problems.length === 0) {
      console.log(`${title}: held, settled in ${(result.settleMs / 1000).toFixed(1)} s`);
      continue;
    }
    failed += 1;
    console.log(`${title}: FAILED, again with: npm run faults -- --seed ${seed} --round ${round}`);
    for (const problem of result.problems.slice(0, 20)) console.log(`    ${problem.slice(0, 1_500)}`);
    keepLogs(round, result);
  }
}

function keepLogs(round: number, { logs }: RoundResult): void {
  if (values.logs === undefined) return;
  mkdirSync(values.logs, { recursive: true });
  for (const { name, lines } of logs)
    writeFileSync(join(values.logs, `round-${round}-${name}.log`), `${lines.join('\n')}\n`);
}

function inSeconds(ms: number): string {
  return (ms / 1000).toFixed(1);
}

function report(): void {
  const times = (kind: string) => results.filter(({ plan }) => plan.kinds.includes(kind)).length;
  const width = Math.max(...Object.keys(faults).map((kind) => kind.length));
  console.log(`\n${'fault'.padEnd(width)}  rounds`);
  for (const kind of Object.keys(faults)) console.log(`${kind.padEnd(width)}  ${String(times(kind)).padStart(6)}`);
  const sum = (pick: (counts: Counts) => number) => results.reduce((all, { counts }) => all + pick(counts), 0);
  const settle = results.map(({ settleMs }) => settleMs / 1000).sort((a, b) => a - b);
  const at = (share: number) => (settle[Math.ceil(settle.length * share) - 1] ?? 0).toFixed(1);
  console.log(
    `\n${sum(({ asked }) => asked)} requests, ${sum(({ granted }) => granted)} grants, ${sum(({ ended }) => ended)} runs ended, ${sum(({ mapped }) => mapped)} mappings set`,
  );
  console.log(
    `${sum(({ identities }) => identities)} Pod Identity mappings set, ${sum(({ workloads }) => workloads)} workloads of their users`,
  );
  console.log(
    `${sum(({ tokens }) => tokens)} role tokens given, ${sum(({ revoked }) => revoked)} runs of theirs revoked, ${sum(({ allowed }) => allowed)} allowed again`,
  );
  const late = Math.max(0, ...results.flatMap(({ revokedMs }) => revokedMs));
  const out = Math.max(0, ...results.map(({ outMs }) => outMs));
  const back = Math.max(0, ...results.map(({ allowedMs }) => allowedMs));
  console.log(
    `of these, the slowest was out ${inSeconds(late)} s after the last fault, and ${inSeconds(out)} s after a revocation later; the slowest to be allowed again had its tokens back after ${inSeconds(back)} s`,
  );
  console.log(`settled after the last fault: p50 ${at(0.5)} s, slowest ${at(1)} s`);
  if (bounds.length > 0) console.log(`\n${boundsTable(bounds)}\n`);
  const seconds = Math.round((performance.now() - startedAt) / 1000);
  console.log(
    `${results.filter(({ problems }) => problems.length === 0).length} of ${results.length} rounds held, seed ${seed}, ${seconds} s`,
  );
}
