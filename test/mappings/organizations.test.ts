/** Proves which organization a mapped name stands for, whose membership counts, and that the first recorded id wins. */
import assert from 'node:assert/strict';
import { createMemberships } from '../../src/grants/membership.ts';
import type { ConfigMap } from '../../src/kubernetes/client.ts';
import { KubernetesError } from '../../src/kubernetes/transport.ts';
import { createLog } from '../../src/lib/log.ts';
import { OrganizationStore } from '../../src/mappings/organization-store.ts';
import {
  isSameOrganization,
  membershipOf,
  type OrganizationRecords,
  parseOrganizations,
  withContender,
} from '../../src/mappings/organizations.ts';
import { parseMappings } from '../../src/mappings/role-mappings.ts';
import { FakeClock } from '../support/clock.ts';

const at = '2026-11-21T12:00:00.000Z';
const record = (id: string, ...contenders: string[]) => ({
  id,
  by: 'admin',
  at,
  contenders: contenders.map((one) => ({ id: one, user: 'mallory', at })),
});

describe('membership', () => {
  const of = (ids: string[], pinned?: string, isMapped = true) =>
    membershipOf(
      { orgs: ['acme'], organizationIds: new Map(ids.length > 0 ? [['acme', ids]] : []) },
      new Map(pinned === undefined ? [] : [['acme', record(pinned)]]),
      () => isMapped,
    );

  const cases: [string, string[], string | undefined, 'counts' | 'refused', string[]][] = [
    ['the recorded organization', ['1'], '1', 'counts', []],
    ['another organization of the name', ['2'], '1', 'refused', []],
    ['both', ['1', '2'], '1', 'counts', []],
    ['an organization that is not on record', ['2'], undefined, 'counts', ['2']],
    ['two organizations that are not on record', ['1', '2'], undefined, 'refused', []],
    ['an organization without an id, where there is none on record', [], undefined, 'counts', []],
    ['an organization without an id, where there is one on record', [], '1', 'refused', []],
    ['an organization whose record cannot be read', ['1'], '', 'refused', []],
  ];
  for (const [what, ids, pinned, expected, unrecorded] of cases) {
    it(`of ${what}: ${expected}`, () => {
      const membership = of(ids, pinned);
      assert.deepEqual(membership.orgs, expected === 'counts' ? ['acme'] : []);
      assert.equal(membership.refused.has('acme'), expected === 'refused');
      assert.deepEqual([...membership.unrecorded.values()], unrecorded);
      const counted = expected === 'counts' ? (pinned ?? unrecorded[0]) : undefined;
      assert.equal(membership.ids.get('acme'), counted);
    });
  }

  it('of an unmapped organization counts, and its id is not recorded', () => {
    const { orgs, refused, unrecorded } = of(['2'], '1', false);
    assert.deepEqual([orgs, refused.size, unrecorded.size], [['acme'], 0, 0]);
    assert.equal(of(['2'], undefined, false).unrecorded.size, 0);
  });

  it('on a role request counts while its organization is the recorded one, or where either has no id', () => {
    assert.equal(isSameOrganization(record('1'), '1'), true);
    assert.equal(isSameOrganization(record('1'), '2'), false);
    assert.equal(isSameOrganization(record('1'), undefined), true);
    assert.equal(isSameOrganization(undefined, '2'), true);
  });

  it('counts for no organization where its record cannot be read, and such a record gets no contender', () => {
    for (const text of ['', '{', '{}', '{"id":""}', 'null', '{"id":7}']) {
      const one = parseOrganizations({ acme: text }).get('acme');
      assert.equal(one?.id, '', text);
      assert.equal(one && withContender(one, { id: '2', user: 'm', at }), undefined);
    }
  });

  it('has the last five contenders on record, each once', () => {
    let one = record('1');
    for (const id of ['1', '2', '3', '2', '4', '5', '6', '7']) {
      one = withContender(one, { id, user: 'mallory', at }) ?? one;
    }
    assert.deepEqual(
      one.contenders.map(({ id }) => id),
      ['3', '4', '5', '6', '7'],
    );
  });
});

describe('membership at a request', () => {
  const caller = (id: string, name = 'mallory') => {
    return { id: name, name, admin: false, orgs: ['acme'], organizationIds: new Map([['acme', [id]]]) };
  };
  const mappings = () => parseMappings({ acme: '[]' });
  let contended: string[];
  let refusals: number;
  let lines: Record<string, unknown>[];

  /** @param shown the records in the watch. @param kept the records in the API server. */
  function memberships(shown: OrganizationRecords, kept: OrganizationRecords, clock = new FakeClock()) {
    [contended, refusals, lines] = [[], 0, []];
    const organizations = {
      synced: Promise.resolve(),
      current: () => shown,
      onChange: () => () => undefined,
      read: async () => kept,
      pin: async (ids: ReadonlyMap<string, string>, by: string) =>
        new Map([...ids].map(([org, id]) => [org, kept.get(org) ?? { ...record(id), by }])),
      contend: async (_org: string, id: string) => void contended.push(id),
      accept: async () => undefined,
    };
    const log = createLog('debug', { write: (line: string) => void lines.push(JSON.parse(line)) });
    const onRefused = () => {
      refusals += 1;
    };
    return createMemberships({ organizations, mappings, clock, log, onRefused });
  }

  it('depends on the API server’s record where the watch does not have it yet', async () => {
    const late = memberships(new Map(), new Map([['acme', record('1')]]));
    assert.deepEqual((await late.settle(caller('2'))).orgs, []);
    assert.equal(refusals, 1);
    assert.deepEqual((await late.settle(caller('1'))).orgs, ['acme']);
  });

  it('is recorded by a role request, and not by a call that only reads', async () => {
    const one = memberships(new Map(), new Map());
    assert.deepEqual(one.of(caller('2')).orgs, ['acme']);
    assert.equal(lines.length, 0);
    assert.deepEqual([...(await one.settle(caller('2'))).ids], [['acme', '2']]);
    assert.deepEqual([lines.length, lines[0]?.organization_id], [1, '2']);
  });

  it('that is refused is logged every ten minutes, counted each time, and recorded where it is new', async () => {
    const clock = new FakeClock();
    const records = new Map([['acme', record('1', '2')]]);
    const one = memberships(records, records, clock);
    for (const id of ['2', '2', '3', '2']) await one.settle(caller(id));
    assert.deepEqual([contended, refusals, lines.length], [['3'], 4, 2]);
    await clock.advance(600_000);
    await one.settle(caller('2'));
    assert.deepEqual([refusals, lines.length], [5, 3]);
    assert.ok(lines.every(({ level }) => level === 'error'));
  });
});

describe('organization ids', () => {
  let stored: ConfigMap | undefined;
  let writes: number;
  let clock: FakeClock;

  beforeEach(() => {
    stored = undefined;
    writes = 0;
    clock = new FakeClock();
  });

  /** A replica's store. @param isWatching whether its watch sees the writes. */
  function replica(isWatching = true): OrganizationStore {
    const listeners: ((name: string, value: ConfigMap | undefined) => void)[] = [];
    let shown: ConfigMap | undefined;
    const write = (data: Record<string, string>): ConfigMap => {
      writes += 1;
      stored = { name: 'irsa-organization-ids', resourceVersion: String(writes), data, annotations: {} };
      if (isWatching) {
        shown = stored;
        for (const listener of listeners) listener(stored.name, shown);
      }
      return stored;
    };
    const kubernetes = {
      getConfigMap: async () => stored,
      createConfigMap: async (_name: string, data: Record<string, string>) => {
        if (stored) throw new KubernetesError('conflict', 'exists');
        return write(data);
      },
      patchConfigMap: async (_name: string, changes: Record<string, string | null>, version: string) => {
        if (version !== stored?.resourceVersion) throw new KubernetesError('conflict', 'changed');
        const next = Object.entries({ ...stored.data, ...changes });
        return write(Object.fromEntries(next.filter((entry): entry is [string, string] => entry[1] !== null)));
      },
    };
    const onChange = (listener: (name: string, value: ConfigMap | undefined) => void) => {
      listeners.push(listener);
      return () => undefined;
    };
    const watched = { synced: Promise.resolve(), get: () => shown, isLive: () => true, onChange };
    return new OrganizationStore({ kubernetes, watched, clock });
  }

  it('are the same on two replicas that record two organizations of one name at once', async () => {
    const [one, two] = [replica(), replica()];
    const both = Promise.all([
      one.pin(new Map([['acme', '1']]), 'alice'),
      two.pin(new Map([['acme', '2']]), 'mallory'),
    ]);
    // The replica that meets a conflict waits before it tries again.
    await clock.advance(1_000);
    const [first, second] = await both;
    assert.equal(first.get('acme')?.id, second.get('acme')?.id);
    assert.equal(parseOrganizations(stored?.data ?? {}).get('acme')?.id, first.get('acme')?.id);
    assert.equal(writes, 1);
  });

  it('are decided by the first of several requests on one replica', async () => {
    const one = replica();
    const answers = await Promise.all(['1', '2', '3'].map((id) => one.pin(new Map([['acme', id]]), `user ${id}`)));
    assert.deepEqual(
      answers.map((found) => found.get('acme')?.id),
      ['1', '1', '1'],
    );
    assert.equal(writes, 1);
  });

  it('of 50 organizations recorded at once, as after an upgrade, take at most three writes', async () => {
    const one = replica();
    await Promise.all(Array.from({ length: 200 }, (_, n) => one.pin(new Map([[`org-${n % 50}`, `${n % 50}`]]), 'u')));
    assert.equal(one.current().size, 50);
    assert.ok(writes <= 3, `${writes} writes`);
  });

  it('stay until an administrator accepts another one, which empties the list of contenders', async () => {
    const one = replica();
    await one.pin(new Map([['acme', '1']]), 'alice');
    await one.contend('acme', '2', 'mallory');
    await one.contend('acme', '2', 'mallory');
    await one.contend('none', '2', 'mallory');
    assert.equal(writes, 2);
    const found = (await one.read()).get('acme');
    assert.deepEqual([found?.id, found?.by, found?.contenders.map(({ id }) => id)], ['1', 'alice', ['2']]);
    const before = await one.accept('acme', '2', 'admin');
    assert.equal(before?.id, '1');
    assert.deepEqual([one.current().get('acme')?.id, one.current().get('acme')?.contenders], ['2', []]);
    assert.equal((await one.pin(new Map([['acme', '1']]), 'alice')).get('acme')?.id, '2');
  });

  it('can be recorded after an earlier attempt failed', async () => {
    const one = replica();
    stored = { name: 'x', resourceVersion: '9', data: { big: 'x'.repeat(1_048_576) }, annotations: {} };
    await assert.rejects(one.pin(new Map([['acme', '1']]), 'alice'), { code: 'invalid_request' });
    stored = undefined;
    assert.equal((await one.pin(new Map([['acme', '1']]), 'alice')).get('acme')?.id, '1');
  });
});
