/** Owns the figures of a quiet system: a first grant, a repeated one, and whether 10,000 pods slow them down. */
import { setTimeout as delay } from 'node:timers/promises';
import { boundMs, median, percentile, type Report } from './report.ts';
import { type System, withSystem } from './system.ts';

/** Long enough that the rate limit of 5 writes per second never causes a wait. */
const pauseMs = 60;

export async function single(): Promise<Report> {
  return withSystem(1, async (system) => {
    await system.mapRoles(1, 1);
    const [user] = await system.addUsers(1);
    if (!user) throw new Error('no user');
    const first = async (count: number) => {
      const ids = await system.startRuns(user.name, count);
      await delay(500);
      return { ids, ms: (await system.serial({ asked: asking(system, user.token, ids), pauseMs })).ms };
    };
    const again = async (run: string) => {
      const asked = asking(system, user.token, Array<string>(400).fill(run));
      return (await system.serial({ asked, pauseMs: 0 })).ms;
    };

    await first(3);
    const { ids, ms } = await first(30);
    const known = ids[0] ?? '';
    await again(known);
    const few = await again(known);
    await system.startRuns(user.name, 10_000 - ids.length);
    await delay(3_000);
    await again(known);
    const many = await again(known);
    const late = await first(10);
    return {
      figures: [
        { name: 'first grant: p50 of 30', value: median(ms), unit: 'ms', target: { atMost: 1.4 * boundMs } },
        { name: 'first grant: slowest of 30', value: percentile(ms, 1), unit: 'ms' },
        { name: 'first grant, 10,000 pods: p50 of 10', value: median(late.ms), unit: 'ms' },
        { name: 'granted already, 33 pods: p50', value: median(few), unit: 'ms', target: { atMost: 15 } },
        { name: 'granted already, 33 pods: p99', value: percentile(few, 0.99), unit: 'ms' },
        { name: 'granted already, 10,000 pods: p50', value: median(many), unit: 'ms' },
        { name: 'of it, to 33 pods', value: median(many) / median(few), unit: '', target: { atMost: 1.3 } },
      ],
      wrong: [],
    };
  });
}

function asking(system: System, token: string, ids: string[]) {
  return ids.map((run) => ({ url: system.replicas[0]?.url ?? '', token, run }));
}
