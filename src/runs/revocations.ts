/** Owns the runs that an administrator shut out: their record in a ConfigMap, as every replica sees it. */
import { z } from 'zod';
import type { Kubernetes } from '../kubernetes/client.ts';
import { ConfigMapStore, type StoreSources } from '../kubernetes/config-map-store.ts';
import { kubernetesUnavailable } from '../kubernetes/transport.ts';
import { ApiError } from '../lib/errors.ts';
import { parseJson } from '../lib/json.ts';
import type { PodIndex } from './runs.ts';

export const revokedConfigMap = 'irsa-revoked-runs';

/**
 * The role tokens that the run's service accounts might hold: their own record of it goes with an account, and a token that was
 * copied out goes on.
 */
const revokedTokensSchema = z.object({
  /** Until when the last of them lives, ISO 8601. */
  until: z.string(),
  /** Service account -> the proxy roles, or `*` where these are too many to name. */
  held: z.record(z.string(), z.array(z.string())),
});

const revocationSchema = z.object({
  /** The administrator's name and `canonicalId`. */
  by: z.string(),
  by_id: z.string(),
  /** ISO 8601. */
  at: z.string(),
  reason: z.string().optional(),
  tokens: revokedTokensSchema.optional(),
});

export type Revocation = z.infer<typeof revocationSchema>;
export type RevokedTokens = z.infer<typeof revokedTokensSchema>;

type Records = ReadonlyMap<string, Revocation>;

/** A run is taken to have ended only when its record is so old: its pods had time to appear. */
const youngestEndedMs = 60_000;

export class Revocations extends ConfigMapStore<Records> {
  readonly #sources: StoreSources & { kubernetes: Pick<Kubernetes, 'listPods'> };
  #endedBefore: ReadonlySet<string> = new Set();

  constructor(sources: StoreSources & { kubernetes: Pick<Kubernetes, 'listPods'> }) {
    super({ ...sources, name: revokedConfigMap, content: 'revoked runs', parse: parseRevocations });
    this.#sources = sources;
  }

  /** What is on record of a run, as the watch has it. @param run 24 hex digits. */
  readonly get = (run: string): Revocation | undefined => this.current().get(run);

  readonly isRevoked = (run: string): boolean => this.current().has(run);

  /** Calls back with the runs that were revoked or allowed. @returns what takes the listener away. */
  onRunsChange(listener: (runs: readonly string[]) => void): () => void {
    return this.onChange((now, before) => {
      const changed = new Set(now.keys()).symmetricDifference(new Set(before.keys()));
      if (changed.size > 0) listener([...changed]);
    });
  }

  /**
   * Shuts a run out. One that is shut out already stays so, with its first record.
   * @returns the record that counts, and whether it is new.
   * @throws ApiError as `change` does.
   */
  async revoke(run: string, record: Revocation): Promise<{ record: Revocation; added: boolean }> {
    const { before } = await this.change((data) => (Object.hasOwn(data, run) ? {} : { [run]: JSON.stringify(record) }));
    const known = parseRevocations(before).get(run);
    return { record: known ?? record, added: known === undefined };
  }

  /** Lets a run in again. @returns what was on record. @throws ApiError as `change` does. */
  async allow(run: string): Promise<Revocation | undefined> {
    const { before } = await this.change((data) => (Object.hasOwn(data, run) ? { [run]: null } : {}));
    return parseRevocations(before).get(run);
  }

  /**
   * Takes away the records of runs that ended, and their tokens with them: whose pods were gone when it was last called, and
   * are gone now, in the watch and when the API server is asked. To be called in long intervals.
   * @throws ApiError as `change` does.
   */
  async forgetEnded(pods: Pick<PodIndex, 'ofRun'>): Promise<void> {
    const now = this.#sources.clock.now();
    const isOld = ({ at, tokens }: Revocation) =>
      !(Date.parse(at) > now - youngestEndedMs) && !(tokens && Date.parse(tokens.until) > now);
    const old = [...this.current()].filter(([, record]) => isOld(record)).map(([run]) => run);
    const ended = new Set(old.filter((run) => pods.ofRun(run).length === 0));
    const twice = [...ended.intersection(this.#endedBefore)];
    this.#endedBefore = ended;
    if (twice.length === 0) return;
    const gone = await this.#withoutPods(twice);
    if (gone.size === 0) return;
    await this.change((data) =>
      Object.fromEntries(Object.keys(data).flatMap((run) => (gone.has(run) ? [[run, null]] : []))),
    );
  }

  /** Those of these runs that have no live pod, as the API server says; none where it lists no pod at all. */
  async #withoutPods(runs: readonly string[]): Promise<ReadonlySet<string>> {
    try {
      const all = await this.#sources.kubernetes.listPods();
      const alive = new Set(all.flatMap(({ live, run }) => (live && run !== undefined ? [run] : [])));
      // A list that is empty by mistake must let nobody in again.
      return new Set(all.length === 0 ? [] : runs.filter((run) => !alive.has(run)));
    } catch (error) {
      throw kubernetesUnavailable(error);
    }
  }
}

/** A record that cannot be read shuts its run out all the same: it was put there to do so. */
function parseRevocations(data: Readonly<Record<string, string>>): Records {
  const unreadable = { by: 'unknown', by_id: 'unknown', at: new Date(0).toISOString() };
  return new Map(Object.entries(data).map(([run, text]) => [run, parseJson(revocationSchema, text) ?? unreadable]));
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
  const found = revokedRun(run, accounts, pods, revocations);
  return found === undefined ? undefined : revocations.get(found);
}

/** The run whose revocation counts, see `revocationFor`. */
export function revokedRun(
  run: string,
  accounts: readonly string[],
  pods: Pick<PodIndex, 'ofAccount'>,
  revocations: Pick<Revocations, 'get'>,
): string | undefined {
  const others = accounts.flatMap((account) => pods.ofAccount(account).flatMap((pod) => pod.run ?? []));
  return [run, ...others].find((one) => revocations.get(one) !== undefined);
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
