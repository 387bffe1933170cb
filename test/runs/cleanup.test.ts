/** Proves when the requests of ended runs are cleared: not while the cached pods may be incomplete. */
import assert from 'node:assert/strict';
import type { Pod, ServiceAccount } from '../../src/kubernetes/client.ts';
import { createLog } from '../../src/lib/log.ts';
import { clearEndedRequests } from '../../src/runs/cleanup.ts';
import { newRoleRequest } from '../../src/runs/role-request.ts';
import { FakeClock } from '../support/clock.ts';

describe('requests of ended runs', () => {
  const run = 'a'.repeat(24);
  const wanted = JSON.stringify(newRoleRequest({ run, user: { id: 'alice', name: 'alice' }, roles: [] }, 0));
  const account: ServiceAccount = { name: 'static', wanted, resourceVersion: '1', ours: false, madeFor: undefined };
  const pod: Pod = {
    name: 'pod',
    uid: '',
    run,
    account: 'static',
    user: 'alice',
    userName: 'alice',
    workload: undefined,
    hasPodIdentity: false,
    live: true,
  };

  /** @param whole whether the cache of pods, which is empty, is complete. @param listed by the API server. */
  async function cleared(whole: boolean, listed: { pods: Pod[]; accounts: ServiceAccount[] } | 'away') {
    const clock = new FakeClock();
    await clock.advance(61_000);
    const written: string[] = [];
    const list = async <T>(of: (from: { pods: Pod[]; accounts: ServiceAccount[] }) => T[]) => {
      if (listed === 'away') throw new Error('away');
      return of(listed);
    };
    await clearEndedRequests(
      {
        kubernetes: {
          setWanted: async (name) => {
            written.push(name);
            return account;
          },
          listPods: () => list(({ pods }) => pods),
          listServiceAccounts: () => list(({ accounts }) => accounts),
        },
        accounts: { values: () => [account] },
        pods: {
          ofRun: () => [],
          ofAccount: () => [],
          all: () => [],
          isWhole: () => whole,
          onAccountChange: () => undefined,
        },
        revocations: { forgetEnded: async () => undefined },
        clock,
        log: createLog('silent'),
      },
      () => true,
    );
    return written;
  }

  it('are cleared when the cache of pods is complete, or the API server confirms that the run has ended', async () => {
    assert.deepEqual(await cleared(true, 'away'), ['static']);
    assert.deepEqual(await cleared(false, { pods: [], accounts: [account] }), ['static']);
    assert.deepEqual(await cleared(false, { pods: [{ ...pod, live: false }], accounts: [] }), ['static']);
  });

  it('invariant 3: stay when the API server lists a live pod, lists nothing at all, or does not answer', async () => {
    assert.deepEqual(await cleared(false, { pods: [pod], accounts: [account] }), []);
    assert.deepEqual(await cleared(false, { pods: [], accounts: [] }), []);
    assert.deepEqual(await cleared(false, 'away'), []);
  });
});
