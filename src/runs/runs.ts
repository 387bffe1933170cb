/** Owns runs: their live pods, the service accounts that these use, and the users who started them. */

import type { Kubernetes, Pod } from '../kubernetes/client.ts';
import { orUnavailable } from '../kubernetes/error.ts';
import type { Watched } from '../kubernetes/watch.ts';
import { ApiError } from '../lib/errors.ts';
import { Listeners } from '../lib/listeners.ts';
import { isServiceAccountName } from '../trust-policy/subjects.ts';

/** The live pods by run and by service account, updated by the watch: a lookup costs the same for 10 as for 10,000. */
export interface PodIndex {
  ofRun(run: string): Pod[];
  ofAccount(account: string): Pod[];
  /** Every live pod. */
  all(): Iterable<Pod>;
  /** False where live pods may be missing: there is no live pod at all, or the watch's copy is incomplete. */
  isWhole(): boolean;
  /** Calls back with each service account whose live pods changed. */
  onAccountChange(listener: (account: string) => void): void;
}

export function createPodIndex(pods: Watched<Pod>): PodIndex {
  const known = new Map<string, Pod>();
  const byRun = new Map<string, Set<Pod>>();
  const byAccount = new Map<string, Set<Pod>>();
  const listeners = new Listeners<[account: string]>();

  pods.onChange((name, value) => {
    const before = known.get(name);
    const after = value?.live ? value : undefined;
    if (before && after && samePod(before, after)) return;
    if (before) {
      remove(byRun, before.run, before);
      remove(byAccount, before.account, before);
      known.delete(name);
    }
    if (after) {
      add(byRun, after.run, after);
      add(byAccount, after.account, after);
      known.set(name, after);
    }
    for (const account of new Set([before?.account, after?.account])) {
      if (account !== undefined) listeners.notify(account);
    }
  });

  return {
    ofRun: (run) => [...(byRun.get(run) ?? [])],
    ofAccount: (account) => [...(byAccount.get(account) ?? [])],
    all: () => known.values(),
    isWhole: () => known.size > 0 && pods.isWhole(),
    onAccountChange: listeners.add,
  };
}

/**
 * The live pods, as the API server lists them. An empty list is trusted when the API server lists service accounts next, and
 * no pods once more: one whose lists are empty by mistake lists no accounts either.
 * @returns undefined where an empty list is not trusted. @throws KubernetesError
 */
export async function confirmedPods(
  kubernetes: Pick<Kubernetes, 'listPods' | 'listServiceAccounts'>,
): Promise<Pick<PodIndex, 'ofAccount'> | undefined> {
  let pods = await kubernetes.listPods();
  if (pods.length === 0) {
    const accounts = await kubernetes.listServiceAccounts();
    pods = await kubernetes.listPods();
    if (pods.length === 0 && accounts.length === 0) return undefined;
  }
  const byAccount = Map.groupBy(
    pods.filter(({ live }) => live),
    ({ account }) => account,
  );
  return { ofAccount: (account) => byAccount.get(account) ?? [] };
}

function samePod(a: Pod, b: Pod): boolean {
  return (
    a.uid === b.uid && a.run === b.run && a.account === b.account && a.user === b.user && a.userName === b.userName
  );
}

function add(index: Map<string, Set<Pod>>, key: string | undefined, pod: Pod): void {
  if (key === undefined) return;
  const pods = index.get(key) ?? new Set();
  pods.add(pod);
  index.set(key, pods);
}

function remove(index: Map<string, Set<Pod>>, key: string | undefined, pod: Pod): void {
  if (key === undefined) return;
  const pods = index.get(key);
  pods?.delete(pod);
  if (pods?.size === 0) index.delete(key);
}

/** Whether every one of these pods was started by this user, and there is one. */
export function allStartedBy(pods: readonly Pod[], userId: string): boolean {
  return pods.length > 0 && pods.every((pod) => pod.user === userId);
}

/** The service accounts that these pods use, sorted. */
export function accountNames(pods: readonly Pod[]): string[] {
  return [...new Set(pods.map(({ account }) => account))].sort();
}

export interface Run {
  /** 24 hex digits. */
  id: string;
  /** The service accounts that its live pods use, sorted. */
  accounts: string[];
  /** Its live pods. */
  pods: Pod[];
}

/** The 24 hex digits of a run id with or without `run-`, or undefined where it is none. */
export function parseRunId(text: string): string | undefined {
  return /^(?:run-)?([0-9a-f]{24})$/.exec(text)?.[1];
}

/** As `parseRunId`. @throws ApiError `invalid_request` */
export function requireRunId(text: string): string {
  const run = parseRunId(text);
  if (run === undefined) throw new ApiError('invalid_request', 'run_id is the 24 hex digits of a run.');
  return run;
}

/**
 * One pod of the caller's run, as `findRun` finds it.
 * @throws ApiError as `findRun` does; `run_not_found` is the same for another run's pod and for one that has ended.
 */
export async function findRunPod(
  id: string,
  name: string,
  callerId: string,
  index: PodIndex,
  kubernetes: Pick<Kubernetes, 'listPods' | 'listPodsOfAccount'>,
): Promise<Pod> {
  const known = index.ofRun(id).some((pod) => pod.name === name);
  // A pod that the index lacks may be seconds old, so the API server is asked.
  const { pods } = await findRun(id, callerId, known ? index : { ...index, ofRun: () => [] }, kubernetes);
  const pod = pods.find((one) => one.name === name);
  if (pod) return pod;
  throw new ApiError('run_not_found', noPod);
}

export const noPod = 'There is no live pod of this run that you started. Is it running, and is it yours?';

/**
 * The caller's run, by its live pods. A pod that is seconds old and not in the watch yet is found by a list call.
 * @throws ApiError `run_not_found`, the same for a run that does not exist and for another user's;
 * `shared_service_account` where live pods of another user use one of its accounts; `kubernetes_unavailable`.
 */
export async function findRun(
  id: string,
  callerId: string,
  index: PodIndex,
  kubernetes: Pick<Kubernetes, 'listPods' | 'listPodsOfAccount'>,
): Promise<Run> {
  const mine = (pods: readonly Pod[]) => pods.filter((pod) => pod.live && pod.run === id && pod.user === callerId);
  let pods = mine(index.ofRun(id));
  if (pods.length === 0) pods = mine(await orUnavailable(() => kubernetes.listPods(id)));
  if (pods.length === 0) throw new ApiError('run_not_found', noPod);
  const accounts = accountNames(pods);
  for (const account of accounts) {
    // Kubernetes has checked the name; it goes into a trust policy, so it is checked again.
    if (!isServiceAccountName(account)) throw new ApiError('run_not_found', 'This run has no usable service account.');
    // An incomplete index may lack other users' pods, so the API server is asked which pods use the account. Invariant 5.
    const unseen = index.isWhole() ? [] : await livePodsOf(account, kubernetes);
    const users = [...index.ofAccount(account), ...unseen, ...pods.filter((pod) => pod.account === account)];
    if (!allStartedBy(users, callerId)) {
      const detail = `The service account ${account} of this run is also used by pods that another person started, who would get your roles. Ask an administrator for an account of your own.`;
      throw new ApiError('shared_service_account', detail);
    }
  }
  return { id, accounts, pods };
}

/** None while the API server is unavailable: nothing new can be given then, and the index has what was given before. */
async function livePodsOf(account: string, kubernetes: Pick<Kubernetes, 'listPodsOfAccount'>): Promise<Pod[]> {
  const listed = await kubernetes.listPodsOfAccount(account).catch(() => []);
  return listed.filter(({ live }) => live);
}
