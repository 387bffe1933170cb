/** Proves the wait for a requested comparison with IAM: which status ends it, and its time limit. */
import assert from 'node:assert/strict';
import { compareNow } from '../../src/grants/compare-now.ts';
import type { ConfigMap } from '../../src/kubernetes/client.ts';
import { KubernetesError } from '../../src/kubernetes/transport.ts';
import { compareAnnotation, statusName, type TrustStatus, trustStatusForm } from '../../src/proxy-roles/status.ts';
import { createStatuses } from '../../src/reconcile/status-store.ts';
import { FakeClock, settle } from '../support/clock.ts';

const role = 'arn:aws:iam::111111111111:role/acme';

describe('a requested comparison', () => {
  let clock: FakeClock;
  let version: number;
  let annotation: string | undefined;
  let publish: (changes?: Partial<TrustStatus>) => void;
  let ask: (fail?: unknown) => Promise<boolean>;

  beforeEach(() => {
    clock = new FakeClock();
    version = 9;
    annotation = undefined;
    let tell: (name: string, value: ConfigMap) => void = () => undefined;
    let status: TrustStatus = {
      role_arn: role,
      members: {},
      refused: [],
      characters_used: 0,
      characters_allowed: 2048,
    };
    const statuses = createStatuses(trustStatusForm, {
      synced: Promise.resolve(),
      get: () => undefined,
      values: () => [],
      onChange: (listener) => {
        tell = listener;
        return () => undefined;
      },
      isLive: () => true,
      isWhole: () => true,
      stop: () => undefined,
    });
    const configMap = (): ConfigMap => ({
      name: statusName(role),
      resourceVersion: String(version),
      data: trustStatusForm.data(status),
      annotations: annotation === undefined ? {} : { [compareAnnotation]: annotation },
    });
    publish = (changes = {}) => {
      version += 1;
      status = { ...status, ...changes };
      tell(statusName(role), configMap());
    };
    ask = (fail) =>
      compareNow(
        {
          kubernetes: {
            annotateConfigMap: async (_name, annotations) => {
              if (fail !== undefined) throw fail;
              version += 1;
              annotation = annotations[compareAnnotation];
              return configMap();
            },
          },
          statuses,
          clock,
        },
        role,
      );
  });

  it('is done when the status has the id of the request', async () => {
    publish({ compare_id: 'earlier' });
    const answer = ask();
    await settle();
    publish();
    assert.equal(clock.sleeping, 1);
    publish({ compare_id: annotation as string });
    assert.equal(await answer, true);
  });

  it('is also done when the status has the id of a later request', async () => {
    publish();
    const answer = ask();
    await settle();
    annotation = 'of another one';
    publish({ compare_id: 'of another one' });
    assert.equal(await answer, true);
  });

  it('is done when the status has a new error, not by an earlier error', async () => {
    const error = { code: 'role_not_found', detail: 'no role', at: '2026-11-21T11:00:00.000Z' };
    publish({ error });
    const answer = ask();
    await settle();
    publish();
    assert.equal(clock.sleeping, 1);
    publish({ error: { ...error, at: '2026-11-21T12:00:00.000Z' } });
    assert.equal(await answer, true);
  });

  it('gives up after 5 s, and at once where the role has no status', async () => {
    assert.equal(await ask(), false);
    publish();
    const answer = ask();
    await clock.advance(4_999);
    assert.equal(clock.sleeping, 1);
    await clock.advance(1);
    assert.equal(await answer, false);
    assert.equal(await ask(new KubernetesError('not_found', 'gone')), false);
    await assert.rejects(ask(new KubernetesError('unavailable', 'away')), { code: 'kubernetes_unavailable' });
  });
});
