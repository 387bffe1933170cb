/** Owns the figures of a replica's start and memory, without pods and with 10,000 live pods. */
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { ReplicaProcess } from '../stack/processes.ts';
import { median, type Report } from './report.ts';
import { metric, type System, withSystem } from './system.ts';

const starts = 5;
const pods = 10_000;
const settleMs = 8_000;
const mebibyte = 2 ** 20;

export async function footprint(): Promise<Report> {
  return withSystem(0, async (system) => {
    const times: number[] = [];
    for (let start = 0; start < starts; start += 1) {
      const { replica, ms } = await timedStart(system);
      times.push(ms);
      if (start < starts - 1) await replica.stop(2_000);
    }
    const [user] = await system.addUsers(1);
    const [idle] = system.replicas.slice(-1);
    const empty = idle ? await memory(idle) : Number.NaN;
    await idle?.stop(2_000);
    await system.startRuns(user?.name ?? '', pods);
    const { replica, ms: full } = await timedStart(system);
    await delay(settleMs);
    const resident = await memory(replica);
    const peak = await peakMemory(replica);
    return {
      figures: [
        { name: `start to /readyz 200: p50 of ${starts}`, value: median(times), unit: 'ms', target: { atMost: 1_500 } },
        { name: 'start to /readyz 200: slowest', value: Math.max(...times), unit: 'ms' },
        { name: 'start to /readyz 200, 10,000 pods', value: full, unit: 'ms' },
        { name: 'RSS, no pods', value: empty, unit: 'MiB' },
        { name: 'RSS, 10,000 pods, settled', value: resident, unit: 'MiB', target: { atMost: 200 } },
        ...(peak === undefined ? [] : [{ name: 'RSS, 10,000 pods, peak', value: peak, unit: 'MiB' }]),
      ],
      wrong: [],
    };
  });
}

/** From the process's start to the first 200 of `/readyz`, asked for every few milliseconds. */
async function timedStart(system: System): Promise<{ replica: ReplicaProcess; ms: number }> {
  const replica = await system.addReplica();
  while ((await fetch(`${replica.url}/readyz`)).status !== 200) await delay(3);
  return { replica, ms: performance.now() - replica.child.startedAt };
}

async function memory(replica: ReplicaProcess): Promise<number> {
  return (await metric(replica, 'process_resident_memory_bytes')) / mebibyte;
}

/** Its peak, where the system reports it: https://man7.org/linux/man-pages/man5/proc_pid_status.5.html */
async function peakMemory({ child }: ReplicaProcess): Promise<number | undefined> {
  const text = await readFile(`/proc/${child.pid}/status`, 'utf8').catch(() => '');
  const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(text)?.[1];
  return kibibytes === undefined ? undefined : Number(kibibytes) / 1024;
}
