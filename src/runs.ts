/** Owns runs: which pods of them live, which service accounts these use, and whose they are. */
import { ApiError } from './errors.ts';
import type { Kubernetes, Pod } from './kubernetes.ts';
import { kubernetesUnavailable } from './kubernetes-api.ts';
import type { Watched } from './kubernetes-watch.ts';
import { isServiceAccountName } from './subjects.ts';

/** The live pods by run and by service account, kept up with the watch: a look-up costs the same for 10 as for 10,000. */
export interface PodIndex {
  ofRun(run: string): Pod[];
  ofAccount(account: string): Pod[];
  /** Every live pod. */
  all(): Iterable<Pod>;
  /** Whether no pod lives at all, as far as we know. */
  isEmpty(): boolean;
  /** Calls back with each service account whose live pods changed. */
  onAccountChange(listener: (account: string) => void): void;
}

export function createPodIndex(pods: Watched<Pod>): PodIndex {
  const known = new Map<string, Pod>();
  const byRun = new Map<string, Set<Pod>>();
  const byAccount = new Map<string, Set<Pod>>();
  const listeners: ((account: string) => void)[] = [];

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
      if (account !== undefined) for (const listener of listeners) listener(account);
    }
  });

  return {
    ofRun: (run) => [...(byRun.get(run) ?? [])],
    ofAccount: (account) => [...(byAccount.get(account) ?? [])],
    all: () => known.values(),
    isEmpty: () => known.size === 0,
    onAccountChange: (listener) => {
      listeners.push(listener);
    },
  };
}

function samePod(a: Pod, b: Pod): boolean {
  return a.run === b.run && a.account === b.account && a.user === b.user && a.userName === b.userName;
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

export interface Run {
  /** 24 hex digits. */
  id: string;
  /** The service accounts that its live pods use, sorted. */
  accounts: string[];
}

/** The 24 hex digits of a run id with or without `run-`, or undefined where it is none. */
export function parseRunId(text: string): string | undefined {
  return /^(?:run-)?([0-9a-f]{24})$/.exec(text)?.[1];
}

/**
 * The caller's run, by its live pods. A pod that is seconds old and not in the watch yet is found by a list call.
 * @throws ApiError `run_not_found`, the same for a run that does not exist and for another user's;
 * `shared_service_account` where live pods of somebody else use one of its accounts; `kubernetes_unavailable`.
 */
export async function findRun(
  id: string,
  callerId: string,
  index: PodIndex,
  kubernetes: Pick<Kubernetes, 'listPods'>,
): Promise<Run> {
  const mine = (pods: readonly Pod[]) => pods.filter((pod) => pod.live && pod.run === id && pod.user === callerId);
  let pods = mine(index.ofRun(id));
  if (pods.length === 0) {
    try {
      pods = mine(await kubernetes.listPods(id));
    } catch (cause) {
      throw kubernetesUnavailable(cause);
    }
  }
  if (pods.length === 0) {
    throw new ApiError(
      'run_not_found',
      'There is no live pod of this run that you started. Is it running, and is it yours?',
    );
  }
  const accounts = [...new Set(pods.map((pod) => pod.account))].sort();
  for (const account of accounts) {
    // Kubernetes has checked the name; it goes into a trust policy, so it is checked again.
    if (!isServiceAccountName(account)) throw new ApiError('run_not_found', 'This run has no usable service account.');
    const users = [...index.ofAccount(account), ...pods.filter((pod) => pod.account === account)];
    if (!allStartedBy(users, callerId)) {
      const detail = `The service account ${account} of this run is also used by pods that somebody else started, who would get your roles. Ask an administrator for an account of your own.`;
      throw new ApiError('shared_service_account', detail);
    }
  }
  return { id, accounts };
}
