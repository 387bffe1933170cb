/** Owns binding a Pod Identity mapping to one person: a Domino user's name may pass to another person, the id does not. */
import type { Pod } from '../kubernetes/client.ts';
import type { Log } from '../lib/log.ts';
import type { PodIndex } from '../runs/runs.ts';
import type { PodIdentityStore } from './store.ts';

/**
 * Records, on every replica, the id of the first live pod that carries a mapped user's name, and of a pod under that name
 * that carries another one. The record is guarded by its resourceVersion: the first one wins on all of them.
 */
export function followPodIdentityUsers(
  identities: Pick<PodIdentityStore, 'current' | 'onChange' | 'met'>,
  pods: Pick<PodIndex, 'ofAccount' | 'all' | 'onAccountChange'>,
  log: Log,
): void {
  const underWay = new Set<string>();

  function look({ userName: user, user: id }: Pod): void {
    const { byUser, replaced } = identities.current();
    const mapping = user === undefined ? undefined : byUser.get(user);
    if (user === undefined || id === undefined || !mapping) return;
    if (mapping.domino_user_id === id || replaced.has(user) || underWay.has(user)) return;
    underWay.add(user);
    identities
      .met(user, id)
      .catch((error: unknown) => {
        log.warn({ err: error, user }, 'the id of a Pod Identity user was not written down; the next pod tries again');
      })
      .finally(() => underWay.delete(user));
  }

  pods.onAccountChange((account) => {
    for (const pod of pods.ofAccount(account)) look(pod);
  });
  identities.onChange(() => {
    for (const pod of pods.all()) look(pod);
  });
}
