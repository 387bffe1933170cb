/** Proves the reported number of replicas: that of the service's own Deployment, or unknown. */
import assert from 'node:assert/strict';
import type { Deployment } from '../../src/kubernetes/objects.ts';
import { KubernetesError } from '../../src/kubernetes/transport.ts';
import { createLog } from '../../src/lib/log.ts';
import { createReplicaCount } from '../../src/reports/replicas.ts';
import { FakeClock } from '../support/clock.ts';

const three: Deployment = { isOurs: true, replicas: 4, wanted: 3, ready: 2 };

describe('the number of replicas', () => {
  let clock: FakeClock;
  let looks: number;
  let answer: () => Promise<Deployment | undefined>;
  let lines: unknown[];

  function counter(deployment?: string) {
    clock = new FakeClock();
    [looks, lines] = [0, []];
    const log = createLog('info', { write: (line: string) => void lines.push(JSON.parse(line)) });
    const getDeployment = async (name: string) => {
      assert.equal(name, 'irsa-svc');
      looks += 1;
      return answer();
    };
    const config = deployment === undefined ? {} : { deployment };
    return createReplicaCount({ kubernetes: { getDeployment }, config, clock, log });
  }

  it('comes from the Deployment, which is read at most once in five seconds', async () => {
    answer = async () => three;
    const count = counter('irsa-svc');
    const [first, second] = await Promise.all([count(), count()]);
    assert.deepEqual([first, second, looks], [{ ready: 2, wanted: 3 }, { ready: 2, wanted: 3 }, 1]);
    await clock.advance(5_000);
    assert.deepEqual([await count(), looks], [{ ready: 2, wanted: 3 }, 1]);
    answer = async () => ({ ...three, ready: 3 });
    await clock.advance(1);
    assert.deepEqual([await count(), looks], [{ ready: 3, wanted: 3 }, 2]);
    assert.equal(clock.sleeping, 0);
  });

  it('is unknown without a name, for a missing Deployment, and for one of another release', async () => {
    answer = async () => three;
    assert.deepEqual([await counter()(), looks], [undefined, 0]);
    for (const found of [undefined, { ...three, isOurs: false }]) {
      answer = async () => found;
      assert.deepEqual([await counter('irsa-svc')(), lines], [undefined, []]);
    }
  });

  it('is unknown without the permission, which is logged once', async () => {
    answer = async () => {
      throw new KubernetesError('unavailable', 'forbidden', 403);
    };
    const count = counter('irsa-svc');
    for (let round = 0; round < 3; round += 1) {
      assert.equal(await count(), undefined);
      await clock.advance(6_000);
    }
    assert.deepEqual([looks, lines.length], [3, 1]);
  });

  it('is unknown after a second without an answer, and known once the API server has answered', async () => {
    let reply: (found: Deployment) => void = () => undefined;
    answer = () =>
      new Promise((resolve) => {
        reply = resolve;
      });
    const count = counter('irsa-svc');
    const first = count();
    await clock.advance(1_000);
    assert.equal(await first, undefined);
    reply(three);
    assert.deepEqual([await count(), looks], [{ ready: 2, wanted: 3 }, 1]);
  });
});
