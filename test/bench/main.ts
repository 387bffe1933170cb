/** Owns `npm run bench [-- <name>... --seconds 120 --runs 500]`: runs the benchmarks, prints their tables and keeps their figures as JSON. */
import { commandLine, wholeNumber } from '../support/arguments.ts';
import { footprint } from './footprint.ts';
import { podIdentity } from './pod-identity.ts';
import { reads } from './reads.ts';
import { type Report, save, table } from './report.ts';
import { sidecar } from './sidecar.ts';
import { single } from './single.ts';
import { soak } from './soak.ts';
import { storms } from './storm.ts';
import { tokens } from './tokens.ts';

const { values, positionals: asked } = commandLine({
  allowPositionals: true,
  options: {
    /** The length of the soak. */
    seconds: { type: 'string', default: '60' },
    /** The number of runs that get their roles by tokens. */
    runs: { type: 'string', default: '5000' },
  },
});
const soakSeconds = wholeNumber('--seconds', values.seconds, 1);
const tokenRuns = wholeNumber('--runs', values.runs, 1);
const benches: Record<string, () => Promise<Report>> = {
  storm: storms,
  tokens: () => tokens(tokenRuns),
  single,
  reads,
  footprint,
  sidecar,
  'pod-identity': podIdentity,
  soak: () => soak(soakSeconds),
};
/** These run only when they are named. */
const onlyAsked = new Set(['soak']);
/** The limit for the whole bench, in case a part hangs. */
const limitMs = 7 * 60_000 + (asked.includes('soak') ? soakSeconds * 1000 : 0);

const unknown = asked.filter((name) => !Object.hasOwn(benches, name));
if (unknown.length > 0) {
  console.error(`no bench ${unknown.join(', ')}; there are ${Object.keys(benches).join(', ')}`);
  process.exit(1);
}
setTimeout(() => {
  console.error(`not done after ${limitMs / 1000} s`);
  process.exit(1);
}, limitMs).unref();

let wrong = false;
for (const [name, bench] of Object.entries(benches)) {
  if (asked.length > 0 ? !asked.includes(name) : onlyAsked.has(name)) continue;
  try {
    const report = await bench();
    save(name, report);
    console.log(`\n${table(name, report)}`);
    wrong ||= report.wrong.length > 0;
  } catch (error) {
    console.error(`\n${name} failed:`, error);
    wrong = true;
  }
}
// A missed target does not fail the bench; lost runs and failed requests do.
process.exit(wrong ? 1 : 0);
