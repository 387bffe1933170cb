/** Owns sibling accounts: service accounts that join a run later, such as a Ray cluster's, get its roles without a call. */

import type { Kubernetes, ServiceAccount } from '../kubernetes/client.ts';
import { isRefused } from '../kubernetes/transport.ts';
import type { Watched } from '../kubernetes/watch.ts';
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';
import { effectiveRequest } from './effective-request.ts';
import { askersOf, newRoleRequest, type RoleRequest } from './role-request.ts';
import { allStartedBy, type PodIndex } from './runs.ts';

export interface SiblingAccountsOptions {
  accounts: Pick<Watched<ServiceAccount>, 'get' | 'values'>;
  pods: Pick<PodIndex, 'ofAccount' | 'ofRun'>;
  kubernetes: Pick<Kubernetes, 'setWanted'>;
  mayWrite: () => boolean;
  clock: Clock;
  log: Log;
}

export interface SiblingAccounts {
  /** Evaluates an account whose pods or annotation changed, and the other accounts of its runs. */
  changed(name: string): void;
  /** Evaluates every account. */
  all(): void;
}

export function createSiblingAccounts(options: SiblingAccountsOptions): SiblingAccounts {
  const { accounts, pods, kubernetes, clock, log } = options;
  // Revocations are not checked here: the leader's placements ignore the requests of revoked runs.
  const view = { accounts, pods, isRevoked: () => false };
  const underWay = new Set<string>();

  /** The request of its run that the account should get, where it has none of its own that counts. */
  function missingRequest(name: string): RoleRequest | undefined {
    const account = accounts.get(name);
    const own = pods.ofAccount(name);
    const user = own[0]?.user;
    if (!account || user === undefined || !allStartedBy(own, user)) return undefined;
    // A static service account may serve several runs of one user: the request of a live one stays.
    if (effectiveRequest(name, view)) return undefined;
    const runs = new Set(own.flatMap(({ run }) => run ?? []));
    for (const run of runs) {
      for (const { account: other } of pods.ofRun(run)) {
        if (other === name) continue;
        const request = effectiveRequest(other, view);
        if (request?.user.id === user && askersOf(request).has(run)) return request;
      }
    }
    return undefined;
  }

  async function give(name: string): Promise<void> {
    const request = missingRequest(name);
    const account = accounts.get(name);
    if (!request || !account || underWay.has(name) || !options.mayWrite()) return;
    underWay.add(name);
    try {
      const { id: _id, at: _at, also: _also, tokens: _tokens, ...content } = request;
      // The write fails where the account changed meanwhile; that change starts another try.
      await kubernetes.setWanted(name, JSON.stringify(newRoleRequest(content, clock.now())), account.resourceVersion);
      log.info(
        { account: name, run: request.run, user: request.user.name },
        'an account that came to the run later gets its roles',
      );
    } catch (error) {
      const about = { err: error, account: name };
      log[isRefused(error) ? 'error' : 'info'](about, 'an account that came to a run later has to wait for its roles');
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
