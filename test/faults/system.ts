/** Owns the system under fault: the stack, replicas in slots that are refilled, and what can be observed of them. */
import { fileURLToPath } from 'node:url';
import { type ReplicaProcess, type StackProcess, startReplica, startStack } from '../stack/processes.ts';
import { until } from './waiting.ts';

export const leaseSeconds = 3;
export const maxChars = 4096;
/** The shortest life that the API server gives a token. */
export const tokenSeconds = 600;
const resyncSeconds = 4;
const shiftedClock = fileURLToPath(new URL('shifted-clock.ts', import.meta.url));

/** A place for a replica: when one dies, the next takes the place, as a Deployment's would. */
export interface Slot {
  readonly index: number;
  replica: ReplicaProcess;
  /** The replica's name in its calls to AWS, and so in the stand-in's records. */
  name: string;
  /** Its identity in the lease, once it has held the lease. */
  identity: string | undefined;
  paused: boolean;
  /** The certificates that clients trust: the current one may be replaced while they connect. */
  cas: string[];
}

export interface FaultSystem {
  readonly stack: StackProcess;
  readonly slots: Slot[];
  /** Every replica so far, in order of its start, with its output. */
  readonly all: { name: string; replica: ReplicaProcess }[];
  /** The holder of the lease; waits a little for one, and returns any replica otherwise. */
  holder(): Promise<Slot>;
  others(slot: Slot): Slot[];
  /** Starts a new replica in the slot. */
  refill(slot: Slot): Promise<void>;
  isAlive(slot: Slot): boolean;
  /** Waits until a write to IAM is under way. @returns false where none was in time. */
  writeUnderWay(): Promise<boolean>;
  /** The same for EKS; with `outcome`, until a write has ended with it. */
  eksWriteUnderWay(outcome?: string): Promise<boolean>;
  /** Resets all knobs of all stand-ins, continues paused replicas and fills every slot. */
  clearFaults(): Promise<void>;
  kubernetes(order: 'cut-watches' | 'expire'): Promise<void>;
  /** Moves the clock of a replica, until faults are cleared. */
  moveClock(slot: Slot, ms: number): void;
  /** Moves time on for tokens and replicas alone; it is never moved back. */
  passTime(ms: number): Promise<void>;
  /** How much time had been added by that moment. */
  passedMs(at: number): number;
  stop(): Promise<void>;
}

const eksWrites = ['Create', 'Update', 'Delete'].map((verb) => `${verb}PodIdentityAssociation`);
const eksReads = ['DescribePodIdentityAssociation', 'ListPodIdentityAssociations'];
const toEach = <T>(actions: readonly string[], value: T) => Object.fromEntries(actions.map((name) => [name, value]));
/** A knob's value for EKS: its actions have entries of their own, so that IAM's `*` does not apply to them. */
export const forEksWrites = <T>(value: T) => toEach(eksWrites, value);
export const forEks = <T>(value: T) => toEach([...eksWrites, ...eksReads], value);

/** Latencies that leave time for events in between. */
export const quietEks = {
  latencyMs: { ...forEks(10), ...forEksWrites(20) },
  throttleRate: forEks(0),
  failRate: forEks({ code: 'ServiceFailure', rate: 0 }),
  loseAnswerNext: forEksWrites(0),
  hangNext: forEks(0),
  propagationMs: 0,
};
const quietAws = {
  latencyMs: { GetRole: 10, UpdateAssumeRolePolicy: 20, ...quietEks.latencyMs },
  throttleRate: { '*': 0, ...quietEks.throttleRate },
  failRate: { '*': { code: 'ServiceFailure', rate: 0 }, ...quietEks.failRate },
  loseAnswerNext: { UpdateAssumeRolePolicy: 0, ...quietEks.loseAnswerNext },
  hangNext: { UpdateAssumeRolePolicy: 0, GetRole: 0, ...quietEks.hangNext },
  propagationMs: 0,
  down: false,
  staleReadMs: 0,
  quota: maxChars,
};
const quietKubernetes = {
  latencyMs: 0,
  podListLatencyMs: 0,
  failRate: 0,
  refuseTokens: '',
  tokenLatencyMs: 0,
  down: false,
  freezeWatches: false,
  emptyLists: false,
  silent: 'none',
  goawayChance: 0,
};

/** The service must have been built. */
export async function startFaultSystem(replicas: number, https: boolean): Promise<FaultSystem> {
  const stack = await startStack();
  const slots: Slot[] = [];
  const all: FaultSystem['all'] = [];
  const gone = new WeakSet<ReplicaProcess>();
  const passed: { at: number; ms: number }[] = [];
  const passedMs = (at: number) => passed.filter((one) => one.at <= at).reduce((sum, { ms }) => sum + ms, 0);

  async function startOne(): Promise<Pick<Slot, 'replica' | 'name'>> {
    const name = `replica-${all.length + 1}`;
    const entry = { name, replica: undefined as unknown as ReplicaProcess };
    all.push(entry);
    const replica = await startReplica(stack, {
      https,
      nodeOptions: ['--import', shiftedClock],
      settings: {
        CLOCK_OFFSET_MS: String(passedMs(Date.now())),
        EKS_CLUSTER_NAME: 'acme',
        ROLE_TOKEN_SECONDS: String(tokenSeconds),
        LEASE_SECONDS: String(leaseSeconds),
        RESYNC_SECONDS: String(resyncSeconds),
        GRANT_TIMEOUT_SECONDS: '6',
        TRUST_POLICY_MAX_CHARS: String(maxChars),
        AWS_SDK_UA_APP_ID: name,
      },
    });
    entry.replica = replica;
    replica.ready.catch(() => undefined);
    void replica.child.exited.then(() => gone.add(replica));
    return { replica, name };
  }

  function learnIdentity(slot: Slot): string | undefined {
    if (slot.identity !== undefined) return slot.identity;
    const line = slot.replica.child.output.find((each) => each.includes('"holding the lease'));
    if (line !== undefined) slot.identity = (JSON.parse(line) as { identity?: string }).identity;
    return slot.identity;
  }

  const system: FaultSystem = {
    stack,
    slots,
    all,
    holder: async () => {
      let found: Slot | undefined;
      await until(async () => {
        const holder = await stack.order('lease-holder', undefined);
        found = slots.find((slot) => holder !== '' && learnIdentity(slot) === holder && !gone.has(slot.replica));
        return found !== undefined;
      }, 4_000);
      return found ?? (slots[0] as Slot);
    },
    others: (slot) => slots.filter((each) => each !== slot),
    isAlive: (slot) => !gone.has(slot.replica),
    refill: async (slot) => {
      Object.assign(slot, await startOne(), { identity: undefined, paused: false });
      slot.cas = slot.replica.ca === undefined ? [] : [slot.replica.ca];
    },
    writeUnderWay: () => until(async () => (await stack.order('writes', { inFlight: true })).length > 0, 3_000, 10),
    eksWriteUnderWay: async (outcome) => {
      const writes = async () =>
        (await (await fetch(`${stack.awsUrl}/__stack/eks-writes`)).json()) as { outcome?: string }[];
      const before = await writes();
      const isNew = async () =>
        (await writes()).some((one, index) => index >= before.length && one.outcome === outcome);
      return until(async () => before.some((one) => one.outcome === undefined && !outcome) || isNew(), 3_000, 15);
    },
    clearFaults: async () => {
      await stack.knobs('aws', quietAws);
      await stack.knobs('kubernetes', quietKubernetes);
      await stack.knobs('domino', { scope: 'all', latencyMs: 0, down: false, failStatus: 0, hang: false });
      for (const slot of slots) {
        if (slot.paused) slot.replica.child.kill('SIGCONT');
        slot.paused = false;
        system.moveClock(slot, 0);
      }
      for (const slot of slots) if (gone.has(slot.replica)) await system.refill(slot);
    },
    kubernetes: async (order) => {
      const response = await fetch(`${stack.kubernetesUrl}/__stack/${order}`, { method: 'POST' });
      if (!response.ok) throw new Error(`${order}: ${response.status}`);
    },
    moveClock: (slot, ms) => slot.replica.child.write(`${passedMs(Date.now()) + ms}\n`),
    passTime: async (ms) => {
      passed.push({ at: Date.now(), ms });
      const tokenClockMs = passedMs(Date.now());
      await Promise.all([stack.knobs('aws', { tokenClockMs }), stack.knobs('kubernetes', { tokenClockMs })]);
      for (const slot of slots) system.moveClock(slot, 0);
    },
    passedMs,
    stop: async () => {
      for (const { replica } of all) replica?.child.kill('SIGKILL');
      await Promise.all(all.map(({ replica }) => replica?.child.exited));
      await stack.stop();
    },
  };
  try {
    await stack.knobs('aws', quietAws);
    const started = await Promise.all(Array.from({ length: replicas }, startOne));
    for (const [index, one] of started.entries()) {
      const cas = one.replica.ca === undefined ? [] : [one.replica.ca];
      slots.push({ index, ...one, identity: undefined, paused: false, cas });
    }
    await Promise.all(slots.map(({ replica }) => replica.ready));
  } catch (error) {
    await system.stop();
    throw error;
  }
  return system;
}
