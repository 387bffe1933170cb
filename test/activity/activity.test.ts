/** Proves that the activity record is bounded, delays no caller, and is stored when its replica ends. */
import assert from 'node:assert/strict';
import { createActivity } from '../../src/activity/activity.ts';
import {
  activityLabel,
  createSegments,
  maxRecordBytes,
  maxSegmentBytes,
  type SegmentCalls,
} from '../../src/activity/segments.ts';
import type { ConfigMap } from '../../src/kubernetes/client.ts';
import { KubernetesError } from '../../src/kubernetes/error.ts';
import { createLog } from '../../src/lib/log.ts';
import { FakeClock } from '../support/clock.ts';

/** The ConfigMaps of an API server, with conflicts; `fail` is thrown instead of an answer. */
class Store implements SegmentCalls {
  readonly maps = new Map<string, ConfigMap>();
  readonly #parts = new Map<string, string | undefined>();
  fail: Error | undefined;
  onWrite: (() => void) | undefined;
  writes = 0;
  lists = 0;
  #version = 0;

  async listConfigMaps(label: string): Promise<ConfigMap[]> {
    this.#check();
    const [key, part] = label.split('=');
    assert.equal(key, activityLabel);
    this.lists += 1;
    const found = [...this.maps.values()].filter(({ name }) => part === undefined || this.#parts.get(name) === part);
    return structuredClone(found);
  }
  async createConfigMap(
    name: string,
    data: Record<string, string>,
    labels?: Record<string, string>,
  ): Promise<ConfigMap> {
    this.#check();
    assert.match(name, /^irsa-activity-[a-z0-9-]+$/);
    this.#parts.set(name, labels?.[activityLabel]);
    return this.#put(name, data);
  }
  async patchConfigMap(name: string, changes: Record<string, string | null>, version: string): Promise<ConfigMap> {
    this.#check();
    const known = this.maps.get(name);
    if (!known) throw new KubernetesError('not_found', 'gone');
    if (known.resourceVersion !== version) throw new KubernetesError('conflict', 'changed');
    return this.#put(name, { ...known.data, ...(changes as Record<string, string>) });
  }
  async deleteConfigMap(name: string): Promise<void> {
    this.#check();
    this.maps.delete(name);
  }
  get bytes(): number {
    return JSON.stringify([...this.maps.values()].map(({ data }) => data)).length;
  }
  #put(name: string, data: Record<string, string>): ConfigMap {
    this.writes += 1;
    this.onWrite?.();
    this.#version += 1;
    const made = { name, resourceVersion: String(this.#version), data, annotations: {} };
    this.maps.set(name, made);
    return structuredClone(made);
  }
  #check(): void {
    if (this.fail) throw this.fail;
  }
}

describe('the activity record', () => {
  let store: Store;
  let clock: FakeClock;
  let dropped: number;
  beforeEach(() => {
    store = new Store();
    clock = new FakeClock();
    dropped = 0;
  });

  function start(replica: string) {
    const log = createLog('silent');
    const onDropped = (count: number) => {
      dropped += count;
    };
    const segments = createSegments(store);
    return createActivity({ segments, replica, ownerOf: () => undefined, onDropped, clock, log });
  }
  const line = (org: string) => ({
    about: { audit: 'mapping', org },
    message: 'role mappings changed',
    at: clock.now(),
  });
  const orgs = async (activity: ReturnType<typeof start>) =>
    (await activity.read()).entries.map(({ domino_org: org }) => org);
  /** Advances the clock until the queued lines are written. */
  async function written(until: () => boolean): Promise<void> {
    for (let turn = 0; turn < 50 && !until(); turn += 1) await clock.advance(2_000);
    assert.ok(until());
  }

  it('accepts a line without a call, and shows it at once on the same replica', async () => {
    const activity = start('a');
    activity.take(line('acme'));
    assert.equal(store.writes, 0);
    assert.deepEqual(await orgs(activity), ['acme']);
  });

  it('writes several lines at once, and any replica reads them, the newest first', async () => {
    const [one, two] = [start('a'), start('b')];
    for (const org of ['first', 'second']) {
      one.take(line(org));
      await clock.advance(1);
    }
    two.take(line('third'));
    await written(() => store.writes === 2);
    const reader = start('c');
    assert.deepEqual(await orgs(reader), ['third', 'second', 'first']);
  });

  it('writes queued lines when its replica stops, and the next replica reads them', async () => {
    const activity = start('a');
    activity.take(line('last'));
    await activity.stop();
    assert.deepEqual(await orgs(start('b')), ['last']);
  });

  it('continues after its ConfigMap was deleted or edited, and ignores invalid batches', async () => {
    const activity = start('a');
    activity.take(line('first'));
    await written(() => store.writes === 1);
    for (const map of store.maps.values()) map.resourceVersion = 'edited';
    activity.take(line('second'));
    await written(() => store.writes === 2);
    store.maps.clear();
    activity.take(line('third'));
    await written(() => store.maps.size === 1);
    const data = { 'batch-0': '{"not":', 'batch-1': '[1,{"id":2},null]', 'batch-x': '{}', __proto__: 'x' };
    store.maps.set('odd', { name: 'odd', resourceVersion: '1', data, annotations: {} });
    assert.deepEqual(await orgs(start('b')), ['third']);
  });

  it('queues up to 5,000 lines while the API server fails, and reports until when lines were dropped', async () => {
    const activity = start('a');
    store.fail = new KubernetesError('unavailable', 'away');
    for (let index = 0; index < 6_000; index += 1) activity.take(line(`org-${index}`));
    for (let turn = 0; turn < 50; turn += 1) await clock.advance(100);
    assert.equal(dropped, 1_000);
    store.fail = undefined;
    await written(() => store.writes > 0);
    for (let turn = 0; turn < 100; turn += 1) await clock.advance(100);
    const { entries, droppedUntil } = await start('b').read();
    assert.equal(entries.length, 5_000);
    assert.equal(entries.at(-1)?.domino_org !== undefined, true);
    assert.equal(droppedUntil, new Date(Date.parse('2026-11-21T12:00:00Z')).toISOString());
  });

  it('stays within 1.2 times its size limit, and drops the oldest entries first', async function () {
    this.timeout(20_000);
    const activity = start('a');
    const pad = 'x'.repeat(290);
    let count = 0;
    for (let round = 0; round < 30; round += 1) {
      for (let index = 0; index < 300; index += 1) {
        const about = { audit: 'mapping', org: `${count}`.padStart(6, '0') + pad };
        activity.take({ about, message: pad, at: clock.now() + count });
        count += 1;
      }
      await activity.read();
      await clock.advance(10_000);
    }
    await activity.stop();
    assert.ok(store.bytes < 1.2 * maxRecordBytes, `${store.bytes}`);
    for (const { data } of store.maps.values()) assert.ok(JSON.stringify(data).length < 1.3 * maxSegmentBytes);
    const { entries, droppedUntil } = await start('b').read();
    assert.ok(entries.length > 1_000 && entries.length < count);
    assert.ok(entries.every(({ at }) => at > String(droppedUntil)));
    assert.match(String(entries[0]?.domino_org), new RegExp(`^${`${count - 1}`.padStart(6, '0')}`));
  });

  it('records a repeated outcome of a run once, and again when it changes', async () => {
    const activity = start('a');
    const grant = (granted: string[]) => {
      const about = { audit: 'grant', user_id: 'u', run: '646d27b817c28b5ea4b5b0c1', decision: 'granted', granted };
      activity.take({ about, message: 'roles granted', at: clock.now() });
    };
    for (let time = 0; time < 1_000; time += 1) grant(['a']);
    grant(['b']);
    grant(['a']);
    assert.equal((await activity.read()).entries.length, 3);
  });

  it('writes once in two seconds under a steady flow of lines', async () => {
    const activity = start('a');
    let taken = 0;
    const take = () => {
      taken += 1;
      activity.take(line(`org-${taken}`));
    };
    // The next lines arrive while a batch is being written.
    store.onWrite = () => {
      if (taken < 500) take();
    };
    for (let turn = 0; turn < 100; turn += 1) {
      take();
      await clock.advance(100);
    }
    assert.ok(store.writes >= 4 && store.writes <= 6, `${store.writes} writes in ten seconds`);
    store.onWrite = undefined;
    await activity.stop();
    assert.equal((await start('b').read()).entries.length, taken);
  });

  it('keeps administrators’ entries when many grants fill the record', async () => {
    const activity = start('a');
    activity.take(line('acme'));
    for (let index = 0; index < 6_000; index += 1) {
      const run = index.toString(16).padStart(24, '0');
      const about = { audit: 'grant', user_id: 'u', run, decision: 'granted', granted: ['x'.repeat(600)] };
      activity.take({ about, message: 'roles granted', at: clock.now() + 1 });
      if (index % 100 === 0) await clock.advance(2_000);
    }
    await activity.stop();
    assert.ok(store.bytes < maxRecordBytes);
    const { entries } = await start('b').read();
    assert.ok(entries.some(({ domino_org: org }) => org === 'acme'));
    assert.ok(entries.length < 6_000);
  });

  it('records a renewed role token once, and 20 of 50 refused ones of a user', async () => {
    const activity = start('a');
    const token = (more: object) => {
      const about = { audit: 'role_token', user_id: 'u', run: '646d27b817c28b5ea4b5b0c1', ...more };
      activity.take({ about, message: 'role token', at: clock.now() });
    };
    for (let time = 0; time < 50; time += 1) token({ decision: 'given', role: 'arn:aws:iam::222222222222:role/a' });
    for (let time = 0; time < 50; time += 1) token({ decision: 'refused', code: 'not_mapped', reason: `p${time}` });
    assert.equal((await activity.read()).entries.length, 21);
  });

  it('records only 20 of 4,000 refused calls of one user', async () => {
    const activity = start('a');
    activity.take(line('acme'));
    for (let index = 0; index < 4_000; index += 1) {
      const run = index.toString(16).padStart(24, '0');
      const about = { audit: 'grant', user_id: 'mallory', run, decision: 'refused', code: 'run_not_found' };
      activity.take({ about, message: 'roles refused', at: clock.now() });
    }
    assert.equal((await activity.read()).entries.length, 21);
    assert.equal(dropped, 0);
  });

  it('lists the ConfigMaps once for 20 simultaneous readers', async () => {
    const reader = start('b');
    await Promise.all(Array.from({ length: 20 }, () => reader.read()));
    assert.equal(store.lists, 1);
    await clock.advance(1_001);
    await reader.read();
    assert.equal(store.lists, 2);
  });
});
