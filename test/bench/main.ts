/** Owns `npm run bench [-- <name>...]`: runs the benchmarks, prints their tables and keeps their figures as JSON. */
import { footprint } from './footprint.ts';
import { reads } from './reads.ts';
import { type Report, save, table } from './report.ts';
import { single } from './single.ts';
import { storms } from './storm.ts';

const benches: Record<string, () => Promise<Report>> = { storm: storms, single, reads, footprint };
/** The whole bench ends by then, whatever hangs. */
const limitMs = 5 * 60_000;

const asked = process.argv.slice(2);
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
  if (asked.length > 0 && !asked.includes(name)) continue;
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
// A target that is missed is a figure like any other; what was lost is not.
process.exit(wrong ? 1 : 0);
