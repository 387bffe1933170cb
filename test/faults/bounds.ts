/** Owns the time bounds: how long a change of the leader delays a user who waits, in an otherwise quiet system. */
import { startLoad } from './load.ts';
import { createRandom } from './random.ts';
import { leaseSeconds, startFaultSystem } from './system.ts';
import { revokedWithinMs, startTokenLoad } from './token-load.ts';
import { grossly } from './waiting.ts';

export interface Bound {
  name: string;
  ms: number[];
  boundMs: number;
}

const times = 3;

export async function measureBounds(seed: number): Promise<Bound[]> {
  const system = await startFaultSystem(2, false);
  try {
    const load = await startLoad(system, createRandom(seed));
    const measure = async (signal: 'SIGKILL' | 'SIGTERM') => {
      const ms: number[] = [];
      for (let time = 0; time < times; time += 1) {
        const holder = await system.holder();
        const [other] = system.others(holder);
        if (!other) throw new Error('no other replica');
        const { replica } = holder;
        replica.child.kill(signal);
        ms.push(await load.timedRun(other));
        await replica.child.exited;
        await system.refill(holder);
        await holder.replica.ready;
      }
      return ms;
    };
    const tokens = await startTokenLoad(system, createRandom(seed));
    const revoked: number[] = [];
    const revokedLater: number[] = [];
    for (let time = 0; time < times; time += 1) {
      await tokens.heldRun();
      revoked.push(await tokens.revocation());
      await tokens.heldRun();
      const holder = await system.holder();
      holder.replica.child.kill('SIGKILL');
      revokedLater.push(await tokens.revocation());
      await holder.replica.child.exited;
      await system.refill(holder);
      await holder.replica.ready;
    }
    const quiet: number[] = [];
    for (let time = 0; time < times; time += 1) quiet.push(await load.timedRun(await system.holder()));
    return [
      { name: 'a first grant, nothing wrong', ms: quiet, boundMs: 1_000 },
      { name: 'a first grant, holder killed', ms: await measure('SIGKILL'), boundMs: (leaseSeconds + 2) * 1000 },
      { name: 'a first grant, holder told to end', ms: await measure('SIGTERM'), boundMs: 2_000 },
      { name: 'a revoked run is out, nothing wrong', ms: revoked, boundMs: revokedWithinMs },
      {
        name: 'a revoked run is out, holder killed',
        ms: revokedLater,
        boundMs: (leaseSeconds + 2) * 1000 + revokedWithinMs,
      },
    ];
  } finally {
    await system.stop();
  }
}

export function boundsTable(bounds: readonly Bound[]): string {
  const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`.padStart(7);
  const rows = bounds.map(
    ({ name, ms, boundMs }) => `${name.padEnd(36)} ${ms.map(seconds).join(' ')}   bound ${seconds(boundMs)}`,
  );
  return rows.join('\n');
}

export function boundProblems(bounds: readonly Bound[]): string[] {
  return bounds.flatMap(({ name, ms, boundMs }) =>
    ms.filter((each) => each > grossly * boundMs).map((each) => `${name}: ${Math.round(each)} ms, bound ${boundMs}`),
  );
}
