/** Proves the record of runs that are shut out: what is believed of a watch, of lists, and of records that are damaged. */
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
  const lifeMs = 600_000;

  it('reports the runs that were revoked and allowed, each once', async () => {
    assert.equal((await revocations.revoke(one, record())).added, true);
    assert.equal((await revocations.revoke(one, { ...record(), by: 'another' })).record.by, 'admin');
    await revocations.revoke(two, record());
    assert.equal((await revocations.allow(one))?.by, 'admin');
    assert.equal(await revocations.allow(one), undefined);
    assert.deepEqual(told, [[one], [two], [one]]);
    assert.deepEqual([revocations.isRevoked(one), revocations.isRevoked(two)], [false, true]);
  });

  it('loses no change to others who change it at the same time', async () => {
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

  it('is not gone because a watch lists nothing', async () => {
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

  it('shuts a run out also where it is damaged', async () => {
    tell({ name: '', resourceVersion: '1', annotations: {}, data: { [one]: '{', [two]: '{"by":1}' } });
    for (const run of [one, two]) assert.equal(revocations.get(run)?.by, 'unknown');
  });

  it('is forgotten at the second look, when pods are listed and none is of the run', async () => {
    await revocations.revoke(one, record());
    const look = async () => {
      await revocations.forgetEnded(noPods, lifeMs);
      return revocations.isRevoked(one);
    };
    assert.equal(await look(), true);
    clock.jump(61_000);
    assert.equal(await look(), true, 'the first look');
    assert.equal(await look(), true, 'no pod at all');
    listed = [pod(one)];
    assert.equal(await look(), true, 'the API server knows better');
    listed = [pod(two)];
    await revocations.forgetEnded({ ofRun: () => [pod(one)] }, lifeMs);
    assert.equal(await look(), true, 'it was there in between');
    assert.equal(await look(), false);
  });

  it('is kept until the tokens that the run had have expired', async () => {
    await revocations.revoke(one, { ...record(), tokens: { [`run-${one}`]: ['arn:aws:iam::111111111111:role/list'] } });
    listed = [pod(two)];
    const looks = async () => {
      for (let times = 0; times < 2; times += 1) await revocations.forgetEnded(noPods, lifeMs);
      return revocations.isRevoked(one);
    };
    clock.jump(lifeMs + 30_000);
    assert.equal(await looks(), true);
    clock.jump(31_000);
    assert.equal(await looks(), false);
  });

  it('counts for other runs with the same account', () => {
    const get = (run: string) => (run === one ? record() : undefined);
    const pods = { ofAccount: (account: string) => (account === 'shared' ? [pod(one), pod(two)] : [pod(two)]) };
    assert.ok(revocationFor(two, ['own', 'shared'], pods, { get }));
    assert.ok(revocationFor(one, [], pods, { get }));
    assert.equal(revocationFor(two, ['own'], pods, { get }), undefined);
  });
});
