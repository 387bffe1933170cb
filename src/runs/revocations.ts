/** Owns the records of revoked runs, in a ConfigMap that every replica watches. */
import { z } from 'zod';
import type { Kubernetes } from '../kubernetes/client.ts';
import { ConfigMapStore, type StoreSources } from '../kubernetes/config-map-store.ts';
import { orUnavailable } from '../kubernetes/error.ts';
import { ApiError } from '../lib/errors.ts';
import { parseJson } from '../lib/json.ts';
import type { PodIndex } from './runs.ts';

export const revokedConfigMap = 'irsa-revoked-runs';

/**
 * The role tokens that the run's service accounts might hold. The record on an account is deleted with it, while a token that
 * was copied keeps working.
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

/** How old a record has to be before its run can count as ended: the run's pods had time to appear. */
const youngestEndedMs = 60_000;

export class Revocations extends ConfigMapStore<Records> {
  readonly #sources: StoreSources & { kubernetes: Pick<Kubernetes, 'listPods'> };
  #endedBefore: ReadonlySet<string> = new Set();

  constructor(sources: StoreSources & { kubernetes: Pick<Kubernetes, 'listPods'> }) {
    super({ ...sources, name: revokedConfigMap, content: 'revoked runs', parse: parseRevocations });
    this.#sources = sources;
  }

  /** The revocation of a run, as the watch shows it. @param run 24 hex digits. */
  readonly get = (run: string): Revocation | undefined => this.current().get(run);

  readonly isRevoked = (run: string): boolean => this.current().has(run);

  /** Calls back with the runs that were revoked or allowed. @returns a function that removes the listener. */
  onRunsChange(listener: (runs: readonly string[]) => void): () => void {
    return this.onChange((now, before) => {
      const changed = new Set(now.keys()).symmetricDifference(new Set(before.keys()));
      if (changed.size > 0) listener([...changed]);
    });
  }

  /**
   * Revokes a run. One that is revoked already keeps its first record.
   * @returns the record that counts, and whether it is new.
   * @throws ApiError as `change` does.
   */
  async revoke(run: string, record: Revocation): Promise<{ record: Revocation; added: boolean }> {
    const { before } = await this.change((data) => (Object.hasOwn(data, run) ? {} : { [run]: JSON.stringify(record) }));
    const known = parseRevocations(before).get(run);
    return { record: known ?? record, added: known === undefined };
  }

  /** Ends the revocation of a run. @returns the removed record. @throws ApiError as `change` does. */
  async allow(run: string): Promise<Revocation | undefined> {
    const { before } = await this.change((data) => (Object.hasOwn(data, run) ? { [run]: null } : {}));
    return parseRevocations(before).get(run);
  }

  /**
   * Removes the records of runs that have ended and whose tokens have expired. A run has ended when the watch showed no pods
   * of it at the last call, and shows none now, nor does the API server list any. Call it at long intervals.
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

  /** Those of these runs for which the API server lists no live pod; none of them where it lists no pod at all. */
  async #withoutPods(runs: readonly string[]): Promise<ReadonlySet<string>> {
    const all = await orUnavailable(() => this.#sources.kubernetes.listPods());
    const alive = new Set(all.flatMap(({ live, run }) => (live && run !== undefined ? [run] : [])));
    // A list that is empty by mistake must not end a revocation.
    return new Set(all.length === 0 ? [] : runs.filter((run) => !alive.has(run)));
  }
}

/** A record that cannot be parsed still revokes its run, as was intended. */
function parseRevocations(data: Readonly<Record<string, string>>): Records {
  const unreadable = { by: 'unknown', by_id: 'unknown', at: new Date(0).toISOString() };
  return new Map(Object.entries(data).map(([run, text]) => [run, parseJson(revocationSchema, text) ?? unreadable]));
}

/**
 * The revocation that counts for a run: its own, or that of another run whose live pods use one of its accounts, since
 * AWS cannot tell the two apart.
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

/** The record as administrators get it. */
export function revocationReport({ by, at, reason }: Revocation) {
  return { revoked_by: by, revoked_at: at, reason };
}

/** The sentence for the user of a revoked run. */
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
