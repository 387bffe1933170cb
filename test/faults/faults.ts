/** Owns the faults of the platform by name: what each does to the system, for how long, and what it checks itself. */
import { setTimeout as delay } from 'node:timers/promises';
import { shownCertificate } from './client.ts';
import { type Fault, type FaultContext, kill, knobs } from './fault.ts';
import { leaseSeconds, type Slot } from './system.ts';
import { until } from './waiting.ts';

const update = 'UpdateAssumeRolePolicy';

async function midWrite({ system, load, random }: FaultContext): Promise<void> {
  // The next holder waits for at least a second longer than this, so calls under way have arrived by then.
  await system.stack.knobs('aws', { latencyMs: { [update]: random.int(300, 900) } });
  await load.startRun();
  await system.writeUnderWay();
}

/** Replicas that a fault killed, possibly while another fault was ending them. */
const killed = new WeakSet<object>();

/** Ends a replica as Kubernetes does, with its successor beside it. */
async function terminate({ system, wrong }: FaultContext, slot: Slot): Promise<void> {
  const { replica, name, paused } = slot;
  replica.child.kill('SIGTERM');
  await system.refill(slot);
  if (paused) replica.child.kill('SIGCONT');
  const ended = replica.child.exited;
  const inTime = await Promise.race([ended.then(() => true), delay(28_000, false)]);
  if (!inTime) wrong(`${name} did not end within 28 s of SIGTERM`);
  else if ((await ended) !== 0 && !killed.has(replica)) wrong(`${name} ended with ${await ended} after SIGTERM`);
}

/** Stops a replica's process until another replica has the lease, and then continues it. */
async function pause({ system, load }: FaultContext, slot: Slot): Promise<void> {
  const { replica } = slot;
  const before = await system.stack.order('lease-holder', undefined);
  slot.paused = true;
  replica.child.kill('SIGSTOP');
  await load.startRun();
  const moved = async () => {
    const now = await system.stack.order('lease-holder', undefined);
    return now !== before && now !== '';
  };
  await until(moved, 2 * leaseSeconds * 1000);
  replica.child.kill('SIGCONT');
  slot.paused = false;
}

const clearLatency = ({ system }: FaultContext) => system.stack.knobs('aws', { latencyMs: { [update]: 20 } });

export const faults: Readonly<Record<string, Fault>> = {
  'holder killed': async (context) => kill(context, await context.system.holder()),
  'holder killed in a write': async (context) => {
    const holder = await context.system.holder();
    await midWrite(context);
    await kill(context, holder);
    await clearLatency(context);
  },
  'another killed': async (context) => {
    const { system, random } = context;
    await kill(context, random.pick(system.others(await system.holder())));
  },
  'holder told to end': async (context) => terminate(context, await context.system.holder()),
  'holder told to end in a write': async (context) => {
    const holder = await context.system.holder();
    await midWrite(context);
    await terminate(context, holder);
    await clearLatency(context);
  },
  'another told to end': async (context) => {
    const { system, random } = context;
    await terminate(context, random.pick(system.others(await system.holder())));
  },
  'holder paused': async (context) => pause(context, await context.system.holder()),
  'holder paused in a write': async (context) => {
    const holder = await context.system.holder();
    await midWrite(context);
    await pause(context, holder);
    await clearLatency(context);
  },
  'all killed, pods listed late': async ({ system }) => {
    // Longer than the lease: a leader that did not wait for its caches would write before it has them.
    await system.stack.knobs('kubernetes', { podListLatencyMs: 2 * leaseSeconds * 1000 });
    for (const { replica } of system.slots) {
      killed.add(replica);
      replica.child.kill('SIGKILL');
    }
    await Promise.all(system.slots.map((slot) => system.refill(slot)));
    await delay(2 * leaseSeconds * 1000);
    await system.stack.knobs('kubernetes', { podListLatencyMs: 0 });
  },
  'IAM throttles': knobs('aws', () => ({ throttleRate: { '*': 0.6 } }), { throttleRate: { '*': 0 } }, [800, 2_500]),
  'IAM fails': knobs(
    'aws',
    (random) => ({ failRate: { '*': { code: random.pick(['ServiceFailure', 'InternalFailure']), rate: 0.6 } } }),
    { failRate: { '*': { code: 'ServiceFailure', rate: 0 } } },
    [800, 2_500],
  ),
  'IAM hangs': knobs(
    'aws',
    (random) => ({ hangNext: { [update]: random.int(1, 2), GetRole: random.int(0, 2) } }),
    { hangNext: { [update]: 0, GetRole: 0 } },
    [1_000, 3_000],
  ),
  'IAM slow': knobs(
    'aws',
    (random) => ({ latencyMs: { [update]: random.int(900, 1_400), GetRole: random.int(200, 900) } }),
    { latencyMs: { [update]: 20, GetRole: 10 } },
    [2_000, 4_000],
  ),
  'IAM answer lost': knobs(
    'aws',
    (random) => ({ loseAnswerNext: { [update]: random.int(1, 3) } }),
    { loseAnswerNext: { [update]: 0 } },
    [800, 2_000],
  ),
  'IAM reads stale': knobs(
    'aws',
    (random) => ({ staleReadMs: random.int(1_000, 4_000) }),
    { staleReadMs: 0 },
    [1_500, 4_000],
  ),
  'IAM down': knobs('aws', () => ({ down: true }), { down: false }, [500, 3_000]),
  'API server down': knobs('kubernetes', () => ({ down: true }), { down: false }, [500, 5_000]),
  'API server slow': knobs(
    'kubernetes',
    (random) => ({ latencyMs: random.int(100, 700) }),
    { latencyMs: 0 },
    [1_000, 3_000],
  ),
  'API server fails': knobs(
    'kubernetes',
    (random) => ({ failRate: 0.4, failStatus: random.pick([500, 429]), seed: random.int(1, 1_000) }),
    { failRate: 0 },
    [800, 2_500],
  ),
  'watches cut': async ({ system, load, random }) => {
    for (let times = random.int(1, 3); times > 0; times -= 1) {
      await system.kubernetes('cut-watches');
      await load.startRun();
      await delay(random.int(100, 500));
    }
  },
  'watches too old': async ({ system, load }) => {
    await system.kubernetes('expire');
    await system.kubernetes('cut-watches');
    await load.startRun();
  },
  'watches frozen': knobs('kubernetes', () => ({ freezeWatches: true }), { freezeWatches: false }, [500, 3_000]),
  'lists empty': async ({ system, load, random }) => {
    await system.stack.knobs('kubernetes', { emptyLists: true });
    await system.kubernetes('expire');
    await system.kubernetes('cut-watches');
    await load.startRun();
    await delay(random.int(300, 1_500));
    await system.stack.knobs('kubernetes', { emptyLists: false });
  },
  'Domino down': knobs(
    'domino',
    (random) => ({ down: true, scope: random.pick(['all', 'api', 'keys']) }),
    { down: false },
    [500, 2_500],
  ),
  'realm keys rotated': async ({ system, load, random }) => {
    await system.stack.order('rotate-keys', { keepOld: random.chance(0.5) });
    await load.startRun();
  },
  'certificates replaced': async ({ system, random, wrong }) => {
    const slot = random.pick(system.slots.filter((each) => !each.paused && system.isAlive(each)));
    const { replica, name } = slot;
    if (replica.ca === undefined) return;
    const before = await shownCertificate(replica.url, slot.cas);
    slot.cas.push(replica.replaceCertificate());
    const shown = () => shownCertificate(replica.url, slot.cas).catch(() => before);
    const taken = await until(async () => slot.replica !== replica || slot.paused || (await shown()) !== before, 8_000);
    if (!taken && system.isAlive(slot)) wrong(`${name} still shows the certificate that was replaced 8 s ago`);
  },
  'our statement altered by hand': async ({ hands, random, wrong }) => hands.alter(random, wrong),
  'role refused while its mapping goes': async (context) => {
    const { hands, system, random, wrong } = context;
    const kills = random.chance(0.5);
    await hands.refuse(wrong, async () => {
      if (kills) await kill(context, await system.holder());
      else await delay(random.int(500, 3_000));
    });
  },
  'clock moved': async ({ system, load, random }) => {
    const slot = random.pick(system.slots);
    system.moveClock(slot, random.pick([-7_200_000, -60_000, 60_000, 7_200_000]));
    await load.startRun();
    await delay(random.int(500, 2_000));
  },
};

/** Faults that a replica without TLS cannot have. */
export const needsHttps: ReadonlySet<string> = new Set(['certificates replaced']);
