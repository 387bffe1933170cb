/** Owns the rate of reads: the cost of a user's own mappings, beside the cheapest call. */
import { median, type Report } from './report.ts';
import { metric, type System, withSystem } from './system.ts';

const connections = 32;
const seconds = 3;
const rounds = 3;

export async function reads(): Promise<Report> {
  return withSystem(1, async (system) => {
    await system.mapRoles(3, 2);
    const [user] = await system.addUsers(1);
    const measured = { '/healthz': [] as Sample[], '/my_role_mappings': [] as Sample[] };
    // In turn, the first time unmeasured, so that both have the same conditions.
    for (let round = 0; round <= rounds; round += 1) {
      for (const path of ['/healthz', '/my_role_mappings'] as const) {
        const sample = await measure(system, path, user?.token ?? '');
        if (round > 0) measured[path].push(sample);
      }
    }
    const health = measured['/healthz'];
    const mine = measured['/my_role_mappings'];
    const rate = (samples: Sample[]) => median(samples.map(({ perSecond }) => perSecond));
    const cost = (samples: Sample[]) => median(samples.map(({ cpuMs }) => cpuMs));
    return {
      figures: [
        { name: `/healthz, ${connections} connections`, value: rate(health), unit: 'req/s' },
        { name: `/my_role_mappings, ${connections} connections`, value: rate(mine), unit: 'req/s' },
        { name: 'of it, to /healthz', value: rate(mine) / rate(health), unit: '', target: { atLeast: 0.5 } },
        { name: "replica's CPU for one /healthz", value: cost(health) * 1000, unit: 'us' },
        { name: "replica's CPU for one /my_role_mappings", value: cost(mine) * 1000, unit: 'us' },
      ],
      wrong: [],
    };
  });
}

interface Sample {
  perSecond: number;
  /** The replica's CPU time for one request; a low one shows that the load, not the replica, limited the rate. */
  cpuMs: number;
}

async function measure({ rate, replicas: [replica] }: System, path: string, token: string): Promise<Sample> {
  if (!replica) throw new Error('no replica');
  const before = await metric(replica, 'process_cpu_seconds_total');
  const { perSecond, requests } = await rate({ url: `${replica.url}${path}`, token, connections, seconds });
  const spent = (await metric(replica, 'process_cpu_seconds_total')) - before;
  return { perSecond, cpuMs: (spent * 1000) / requests };
}
