/** Owns the runs that an administrator shut out: their record in a ConfigMap, as every replica sees it. */
import { z } from 'zod';
import type { Clock } from './clock.ts';
import { createConfigMapStore } from './config-map-store.ts';
import { ApiError } from './errors.ts';
import type { ConfigMap, Kubernetes } from './kubernetes.ts';
import { kubernetesUnavailable } from './kubernetes-api.ts';
import type { Watched } from './kubernetes-watch.ts';
import type { PodIndex } from './runs.ts';

export const revokedConfigMap = 'irsa-revoked-runs';

const revocationSchema = z.object({
  /** The administrator's name and `canonicalId`. */
  by: z.string(),
  by_id: z.string(),
  /** ISO 8601. */
  at: z.string(),
  reason: z.string().optional(),
});

export type Revocation = z.infer<typeof revocationSchema>;

export interface Revocations {
  /** Resolves when the records are known. */
  readonly synced: Promise<void>;
  /** What is on record of a run, as the watch has it. @param run 24 hex digits. */
  get(run: string): Revocation | undefined;
  isRevoked(run: string): boolean;
  /** Calls back with the runs that were revoked or allowed. @returns what takes the listener away. */
  onChange(listener: (runs: readonly string[]) => void): () => void;
  /**
   * Shuts a run out. One that is shut out already stays so, with its first record.
   * @returns the record that counts, and whether it is new.
   * @throws ApiError `conflict`, `kubernetes_unavailable`, `invalid_request` where too many are on record.
   */
  revoke(run: string, record: Revocation): Promise<{ record: Revocation; added: boolean }>;
  /** Lets a run in again. @returns what was on record. @throws ApiError as `revoke` does. */
  allow(run: string): Promise<Revocation | undefined>;
  /**
   * Takes away the records of runs that ended: whose pods were gone when it was last called, and are gone now, in the
   * watch and when the API server is asked. To be called in long intervals.
   * @throws ApiError as `revoke` does.
   */
  forgetEnded(pods: Pick<PodIndex, 'ofRun'>): Promise<void>;
}

/** A run is taken to have ended only when its record is so old: its pods had time to appear. */
const youngestEndedMs = 60_000;

export function createRevocations(
  kubernetes: Pick<Kubernetes, 'getConfigMap' | 'createConfigMap' | 'patchConfigMap' | 'listPods'>,
  watched: Pick<Watched<ConfigMap>, 'get' | 'onChange' | 'synced'>,
  clock: Clock,
): Revocations {
  const content = 'revoked runs';
  const store = createConfigMapStore({ kubernetes, watched, name: revokedConfigMap, content, clock });
  let records: ReadonlyMap<string, Revocation> = new Map();
  const listeners = new Set<(runs: readonly string[]) => void>();
  let endedBefore: ReadonlySet<string> = new Set();

  /** Those of these runs that have no live pod, as the API server says; none where it lists no pod at all. */
  async function withoutPods(runs: readonly string[]): Promise<ReadonlySet<string>> {
    try {
      const all = await kubernetes.listPods();
      const alive = new Set(all.flatMap(({ live, run }) => (live && run !== undefined ? [run] : [])));
      // A list that is empty by mistake must let nobody in again.
      return new Set(all.length === 0 ? [] : runs.filter((run) => !alive.has(run)));
    } catch (error) {
      throw kubernetesUnavailable(error);
    }
  }

  store.onChange((data) => {
    const before = records;
    records = new Map(Object.entries(data).map(([run, text]) => [run, parseRevocation(text)]));
    const changed = [...new Set([...before.keys(), ...records.keys()])].filter(
      (run) => before.has(run) !== records.has(run),
    );
    if (changed.length > 0) for (const listener of listeners) listener(changed);
  });

  return {
    synced: store.synced,
    get: (run) => records.get(run),
    isRevoked: (run) => records.has(run),
    onChange: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    revoke: async (run, record) => {
      const before = await store.change((data) => (Object.hasOwn(data, run) ? {} : { [run]: JSON.stringify(record) }));
      const known = before[run];
      return known === undefined ? { record, added: true } : { record: parseRevocation(known), added: false };
    },
    allow: async (run) => {
      const before = await store.change((data) => (Object.hasOwn(data, run) ? { [run]: null } : {}));
      const known = before[run];
      return known === undefined ? undefined : parseRevocation(known);
    },
    forgetEnded: async (pods) => {
      const oldest = clock.now() - youngestEndedMs;
      const old = [...records].filter(([, { at }]) => !(Date.parse(at) > oldest)).map(([run]) => run);
      const ended = new Set(old.filter((run) => pods.ofRun(run).length === 0));
      const twice = [...ended.intersection(endedBefore)];
      endedBefore = ended;
      if (twice.length === 0) return;
      const gone = await withoutPods(twice);
      if (gone.size === 0) return;
      await store.change((data) =>
        Object.fromEntries(Object.keys(data).flatMap((run) => (gone.has(run) ? [[run, null]] : []))),
      );
    },
  };
}

/** A record that cannot be read shuts its run out all the same: it was put there to do so. */
function parseRevocation(text: string): Revocation {
  try {
    const { data } = revocationSchema.safeParse(JSON.parse(text));
    if (data) return data;
  } catch {
    // Falls through to the record that says nothing.
  }
  return { by: 'unknown', by_id: 'unknown', at: new Date(0).toISOString() };
}

/**
 * The revocation that counts for a run: its own, or that of another one whose live pods use one of its accounts, since
 * AWS could not tell the two apart.
 */
export function revocationFor(
  run: string,
  accounts: readonly string[],
  pods: Pick<PodIndex, 'ofAccount'>,
  revocations: Pick<Revocations, 'get'>,
): Revocation | undefined {
  const others = accounts.flatMap((account) => pods.ofAccount(account).flatMap((pod) => pod.run ?? []));
  return [run, ...others].map((one) => revocations.get(one)).find((found) => found !== undefined);
}

/** The sentence for the user of a run that was shut out. */
export function revokedSentence({ reason }: Revocation): string {
  const why = reason === undefined ? '' : `: ${reason.replace(/[.\s]+$/, '')}`;
  return `An administrator revoked the roles of this run${why}.`;
}

/** @throws ApiError `run_revoked` */
export function refuseRevoked(revocation: Revocation | undefined): void {
  if (!revocation) return;
  const detail = `${revokedSentence(revocation)} Ask an administrator to allow it again, or start another run.`;
  throw new ApiError('run_revoked', detail);
}
