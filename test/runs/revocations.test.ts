/** Proves the record of revoked runs: how it treats empty watches, lists of pods, and damaged entries. */
import assert from 'node:assert/strict';
import type { ConfigMap, Kubernetes, Pod } from '../../src/kubernetes/client.ts';
import { KubernetesError } from '../../src/kubernetes/transport.ts';
import { type Revocation, Revocations, revocationFor } from '../../src/runs/revocations.ts';
import { FakeClock, settle } from '../support/clock.ts';

const [one, two] = ['1'.repeat(24), '2'.repeat(24)];

describe('the record of revoked runs', () => {
  let clock: FakeClock;
  let stored: ConfigMap | undefined;
  let listed: Pod[];
  let away: boolean;
  let tell: (value: ConfigMap | undefined) => void;
  let revocations: Revocations;
  let told: string[][];
  let conflicts: number;
  let onConflict: () => void;

  const pod = (run: string, account = 'sa'): Pod => ({
    name: run,
    run,
    account,
    user: 'u',
    userName: 'u',
    workload: undefined,
    uid: '',
    hasPodIdentity: false,
    live: true,
  });
  const record = (): Revocation => ({ by: 'admin', by_id: 'id', at: new Date(clock.now()).toISOString() });

  beforeEach(() => {
    clock = new FakeClock();
    stored = undefined;
    listed = [];
    away = false;
    told = [];
    conflicts = 0;
    onConflict = () => undefined;
    const listeners: ((name: string, value: ConfigMap | undefined) => void)[] = [];
    let shown: ConfigMap | undefined;
    tell = (value) => {
      shown = value;
      for (const listener of listeners) listener('irsa-revoked-runs', value);
    };
    const write = (data: Record<string, string>): ConfigMap => {
      const resourceVersion = String(Number(stored?.resourceVersion ?? 0) + 1);
      stored = { name: 'irsa-revoked-runs', resourceVersion, data, annotations: {} };
      tell(stored);
      return stored;
    };
    const kubernetes: Pick<Kubernetes, 'getConfigMap' | 'createConfigMap' | 'patchConfigMap' | 'listPods'> = {
      getConfigMap: async () => {
        if (away) throw new KubernetesError('unavailable', 'away');
        return stored;
      },
      createConfigMap: async (_name, data) => write(data),
      patchConfigMap: async (_name, changes) => {
        if (conflicts > 0) {
          conflicts -= 1;
          onConflict();
          throw new KubernetesError('conflict', 'changed');
        }
        const next = { ...stored?.data, ...changes };
        return write(
          Object.fromEntries(Object.entries(next).filter((entry): entry is [string, string] => entry[1] !== null)),
        );
      },
      listPods: async () => listed,
    };
    const watched = {
      synced: Promise.resolve(),
      get: () => shown,
      isLive: () => true,
      onChange: (listener: (name: string, value: ConfigMap | undefined) => void) => {
        listeners.push(listener);
        return () => undefined;
      },
    };
    revocations = new Revocations({ kubernetes, watched, clock });
    revocations.onRunsChange((runs) => told.push([...runs]));
  });

  const noPods = { ofRun: () => [] };

  it('reports each revocation and its end once', async () => {
    assert.equal((await revocations.revoke(one, record())).added, true);
    assert.equal((await revocations.revoke(one, { ...record(), by: 'another' })).record.by, 'admin');
    await revocations.revoke(two, record());
    assert.equal((await revocations.allow(one))?.by, 'admin');
    assert.equal(await revocations.allow(one), undefined);
    assert.deepEqual(told, [[one], [two], [one]]);
    assert.deepEqual([revocations.isRevoked(one), revocations.isRevoked(two)], [false, true]);
  });

  it('retries a change after conflicts, and gives up after too many', async () => {
    await revocations.revoke(one, record());
    conflicts = 3;
    const second = revocations.revoke(two, record());
    await clock.advance(1_000);
    await second;
    assert.deepEqual(Object.keys(stored?.data ?? {}), [one, two]);
    conflicts = 100;
    const allowed = assert.rejects(revocations.allow(one), { code: 'conflict' });
    await clock.advance(20_000);
    await allowed;
  });

  it('keeps what another replica stores between the read and the write of a change', async () => {
    await revocations.revoke(one, record());
    const others = { ...record(), by: 'another' };
    conflicts = 1;
    onConflict = () => {
      const resourceVersion = `${stored?.resourceVersion}0`;
      stored = { ...(stored as ConfigMap), resourceVersion, data: { [two]: JSON.stringify(others) } };
    };
    const second = revocations.revoke(two, record());
    await clock.advance(1_000);
    const { added, record: kept } = await second;
    assert.deepEqual([added, kept.by], [false, 'another']);
    assert.deepEqual(stored?.data, { [two]: JSON.stringify(others) });
  });

  it('stays when the watch lists nothing, until the API server confirms that it is gone', async () => {
    await revocations.revoke(one, record());
    tell(undefined);
    assert.equal(revocations.isRevoked(one), true);
    await settle();
    assert.equal(revocations.isRevoked(one), true);
    away = true;
    tell(undefined);
    await settle();
    assert.equal(revocations.isRevoked(one), true);
    away = false;
    stored = undefined;
    tell(undefined);
    await settle();
    assert.equal(revocations.isRevoked(one), false);
  });

  it('revokes a run even if its entry is damaged', async () => {
    tell({ name: '', resourceVersion: '1', annotations: {}, data: { [one]: '{', [two]: '{"by":1}' } });
    for (const run of [one, two]) assert.equal(revocations.get(run)?.by, 'unknown');
  });

  it('forgets an ended run at the second check, when pods are listed and none is of the run', async () => {
    await revocations.revoke(one, record());
    const look = async () => {
      await revocations.forgetEnded(noPods);
      return revocations.isRevoked(one);
    };
    assert.equal(await look(), true);
    clock.jump(61_000);
    assert.equal(await look(), true, 'the first check');
    assert.equal(await look(), true, 'the list has no pod at all');
    listed = [pod(one)];
    assert.equal(await look(), true, 'the API server lists a pod of the run');
    listed = [pod(two)];
    await revocations.forgetEnded({ ofRun: () => [pod(one)] });
    assert.equal(await look(), true, 'the run had a pod in between');
    assert.equal(await look(), false);
  });

  it('keeps a run for as long as a token of it may be valid', async () => {
    const until = new Date(clock.now() + 600_000).toISOString();
    await revocations.revoke(one, { ...record(), tokens: { until, held: { sa: ['arn'] } } });
    listed = [pod(two)];
    const looks = async () => {
      for (let times = 0; times < 2; times += 1) await revocations.forgetEnded(noPods);
      return revocations.isRevoked(one);
    };
    clock.jump(590_000);
    assert.equal(await looks(), true);
    clock.jump(11_000);
    assert.equal(await looks(), false);
  });

  it('applies to other runs with the same service account', () => {
    const get = (run: string) => (run === one ? record() : undefined);
    const pods = { ofAccount: (account: string) => (account === 'shared' ? [pod(one), pod(two)] : [pod(two)]) };
    assert.ok(revocationFor(two, ['own', 'shared'], pods, { get }));
    assert.ok(revocationFor(one, [], pods, { get }));
    assert.equal(revocationFor(two, ['own'], pods, { get }), undefined);
  });
});
