/** Owns the accounts that come to a run later, such as a Ray cluster's: they get what the run got, without a call. */
import type { Clock } from './clock.ts';
import type { Kubernetes, ServiceAccount } from './kubernetes.ts';
import type { Watched } from './kubernetes-watch.ts';
import type { Log } from './log.ts';
import { allStartedBy, type PodIndex } from './runs.ts';
import { askersOf, newWant, parseWant, type Want } from './wants.ts';

export interface LateAccountsOptions {
  accounts: Pick<Watched<ServiceAccount>, 'get' | 'values'>;
  pods: Pick<PodIndex, 'ofAccount' | 'ofRun'>;
  kubernetes: Pick<Kubernetes, 'setWanted'>;
  mayWrite: () => boolean;
  clock: Clock;
  log: Log;
}

export interface LateAccounts {
  /** Looks at an account after its pods or its annotation changed; and at the others of its runs. */
  changed(name: string): void;
  /** Looks at every account. */
  all(): void;
}

export function createLateAccounts(options: LateAccountsOptions): LateAccounts {
  const { accounts, pods, kubernetes, clock, log } = options;
  const underWay = new Set<string>();

  /** The want that the account should have from its run, where it has none of its own that counts. */
  function missingWant(name: string): Want | undefined {
    const account = accounts.get(name);
    const own = pods.ofAccount(name);
    const user = own[0]?.user;
    if (!account || user === undefined || !allStartedBy(own, user)) return undefined;
    const known = parseWant(account.wanted);
    // A want of a run that still lives on it stays: a static account may serve several runs of one user.
    const askers = known ? askersOf(known) : new Set<string>();
    if (known?.user.id === user && own.some(({ run }) => run !== undefined && askers.has(run))) return undefined;
    const runs = new Set(own.flatMap(({ run }) => run ?? []));
    for (const run of runs) {
      for (const { account: other } of pods.ofRun(run)) {
        const want = other === name ? undefined : parseWant(accounts.get(other)?.wanted);
        if (want && askersOf(want).has(run) && want.user.id === user && allStartedBy(pods.ofAccount(other), user))
          return want;
      }
    }
    return undefined;
  }

  async function give(name: string): Promise<void> {
    const want = missingWant(name);
    const account = accounts.get(name);
    if (!want || !account || underWay.has(name) || !options.mayWrite()) return;
    underWay.add(name);
    try {
      const { id: _id, at: _at, also: _also, ...content } = want;
      // Refused where the account changed meanwhile: its change brings us here again.
      await kubernetes.setWanted(name, JSON.stringify(newWant(content, clock.now())), account.resourceVersion);
      log.info(
        { account: name, run: want.run, user: want.user.name },
        'an account that came to the run later gets its roles',
      );
    } catch (error) {
      log.info({ err: error, account: name }, 'an account that came to a run later has to wait for its roles');
    } finally {
      underWay.delete(name);
    }
  }

  return {
    changed: (name) => {
      const runs = new Set(pods.ofAccount(name).flatMap(({ run }) => run ?? []));
      const siblings = [...runs].flatMap((run) => pods.ofRun(run).map(({ account }) => account));
      for (const one of new Set([name, ...siblings])) void give(one);
    },
    all: () => {
      for (const { name } of [...accounts.values()]) void give(name);
    },
  };
}
