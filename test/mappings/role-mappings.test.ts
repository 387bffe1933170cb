/** Proves how stored role mappings are read, and which roles the caller's organizations give. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  completeMapping,
  isManaged,
  mappingsOf,
  parseMappings,
  resolve,
  storedText,
} from '../../src/mappings/role-mappings.ts';

const target = (name: string) => `arn:aws:iam::222222222222:role/${name}`;
const proxy = (name: string) => `arn:aws:iam::111111111111:role/${name}`;
const entry = (to: string, through: string, more: object = {}) => ({
  iam_role_arn: target(to),
  proxy_iam_role_arn: proxy(through),
  ...more,
});
const stored = (orgs: Record<string, unknown>) =>
  parseMappings(Object.fromEntries(Object.entries(orgs).map(([org, value]) => [org, JSON.stringify(value)])));
/** A caller whose organizations all count, without ids. */
const member = (orgs: string[]) => ({ orgs, ids: new Map<string, string>(), refused: new Map<string, string>() });
const full = (org: string, to: string, through: string, update: boolean | string = true) => ({
  domino_org: org,
  ...entry(to, through),
  update_iam_role_trust_policy: update,
});

describe('stored role mappings', () => {
  it('are one object from earlier releases, and a list from this one', () => {
    const { byOrg } = stored({ acme: entry('t', 'p'), labs: [entry('t', 'p'), entry('u', 'q')], none: [] });
    assert.deepEqual(byOrg.get('acme'), [full('acme', 't', 'p')]);
    assert.deepEqual(byOrg.get('labs'), [full('labs', 't', 'p'), full('labs', 'u', 'q')]);
    assert.deepEqual(byOrg.get('none'), []);
  });

  it('are sorted by organization', () => {
    assert.deepEqual([...stored({ b: [], A: [], a: [] }).byOrg.keys()], ['A', 'a', 'b']);
  });

  it('that cannot be read remove the roles of their own organization only', () => {
    const { byOrg, unreadable } = parseMappings({
      acme: JSON.stringify([entry('t', 'p')]),
      a: '',
      b: '{',
      c: '"x"',
      d: '[null]',
      e: '[[]]',
      f: JSON.stringify([entry('t', 'p'), { iam_role_arn: target('t') }]),
      g: JSON.stringify({ iam_role_arn: 1, proxy_iam_role_arn: proxy('p') }),
    });
    assert.deepEqual([...byOrg.keys()], ['acme']);
    assert.deepEqual([...unreadable.keys()], ['a', 'b', 'c', 'd', 'e', 'f', 'g']);
    assert.deepEqual(
      resolve(member(['acme', 'b']), parseMappings({ acme: JSON.stringify(entry('t', 'p')), b: '{' })).refused,
      [],
    );
  });

  it('keep the values and types that were sent, and get defaults for the rest', () => {
    for (const update of [true, false, 'true', 'false', 'False', 'yes']) {
      assert.deepEqual(
        completeMapping('acme', entry('t', 'p', { domino_org: 'own', update_iam_role_trust_policy: update })),
        full('own', 't', 'p', update),
      );
    }
    assert.deepEqual(completeMapping('acme', entry('t', 'p')), full('acme', 't', 'p'));
    assert.deepEqual(
      completeMapping('acme', entry('t', 'p', { domino_org: 1, update_iam_role_trust_policy: null })),
      full('acme', 't', 'p'),
    );
  });

  it('are read with the values that were written', () => {
    const list = [full('acme', 't', 'p', 'false'), full('own', 'u', 'q', true)];
    assert.deepEqual(parseMappings({ acme: storedText(list) }).byOrg.get('acme'), list);
  });

  it('are managed unless update_iam_role_trust_policy is false', () => {
    for (const [update, managed] of [
      [true, true],
      ['true', true],
      ['True', true],
      ['anything', true],
      [false, false],
      ['false', false],
      ['False', false],
    ] as const) {
      assert.equal(isManaged({ update_iam_role_trust_policy: update }), managed, String(update));
    }
  });

  it('of given organizations are sorted by organization, each once', () => {
    const mappings = stored({ b: entry('t', 'p'), a: entry('u', 'q'), c: entry('v', 'r') });
    const mine = mappingsOf(['b', 'a', 'b', 'missing'], mappings);
    assert.deepEqual(mine, [full('a', 'u', 'q'), full('b', 't', 'p')]);
  });

  it('of any text are either read or unreadable, without an exception', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.oneof(fc.string(), fc.json())), (data) => {
        const mappings = parseMappings(data);
        assert.equal(mappings.byOrg.size + mappings.unreadable.size, Object.keys(data).length);
        resolve(member(Object.keys(data)), mappings);
      }),
    );
  });
});

describe('the managed proxy roles', () => {
  it('exclude a proxy role that any mapping has as unmanaged', () => {
    for (const no of [false, 'false']) {
      const { managedProxies, allows } = stored({
        acme: [entry('t', 'p'), entry('t', 'q')],
        labs: entry('u', 'p', { update_iam_role_trust_policy: no }),
      });
      assert.deepEqual([...managedProxies], [proxy('q')]);
      assert.ok(!allows('acme', target('t'), proxy('p')));
    }
  });

  it('exclude an invalid ARN', () => {
    const { managedProxies } = stored({ acme: { iam_role_arn: target('t'), proxy_iam_role_arn: 'p' } });
    assert.equal(managedProxies.size, 0);
  });

  it('are allowed for a target role only where a mapping of that organization names the pair', () => {
    const { allows } = stored({ acme: [entry('t', 'p'), entry('u', 'q')], labs: entry('t', 'q') });
    assert.ok(allows('acme', target('t'), proxy('p')));
    assert.ok(!allows('acme', target('t'), proxy('q')), 'another pair of the same organization');
    assert.ok(!allows('labs', target('t'), proxy('p')), "another organization's pair");
    assert.ok(!allows('none', target('t'), proxy('p')));
  });
});

describe('role mappings of a caller', () => {
  const pool = (...proxies: [string, string][]) => proxies.map(([name, org]) => ({ arn: proxy(name), org }));

  it('give target roles by ARN, each with its proxy roles in the order of the mapping', () => {
    const mappings = stored({ acme: [entry('u', 'r'), entry('t', 'q'), entry('t', 'p'), entry('t', 'q')] });
    assert.deepEqual(resolve(member(['acme']), mappings), {
      targets: [
        { arn: target('t'), proxies: pool(['q', 'acme'], ['p', 'acme']), managed: true },
        { arn: target('u'), proxies: pool(['r', 'acme']), managed: true },
      ],
      refused: [],
    });
  });

  it('join pools across the organizations of the caller, in the order of their names', () => {
    const mappings = stored({ labs: entry('t', 'p'), acme: [entry('t', 'q'), entry('t', 'p')], else: entry('t', 'r') });
    const [only] = resolve(member(['labs', 'acme', 'labs']), mappings).targets;
    assert.deepEqual(only?.proxies, pool(['q', 'acme'], ['p', 'acme'], ['p', 'labs']));
  });

  it('give nothing without an organization, or without a mapped one', () => {
    const mappings = stored({ acme: entry('t', 'p') });
    assert.deepEqual(resolve(member([]), mappings), { targets: [], refused: [] });
    assert.deepEqual(resolve(member(['none', '__proto__']), mappings), { targets: [], refused: [] });
  });

  it('give only the first proxy role where it is unmanaged, else only the managed ones', () => {
    const no = { update_iam_role_trust_policy: false };
    const first = resolve(member(['acme']), stored({ acme: [entry('t', 'q', no), entry('t', 'p')] }));
    assert.deepEqual(first.targets, [{ arn: target('t'), proxies: pool(['q', 'acme']), managed: false }]);
    const second = resolve(member(['acme']), stored({ acme: [entry('t', 'p'), entry('t', 'q', no)] }));
    assert.deepEqual(second.targets, [{ arn: target('t'), proxies: pool(['p', 'acme']), managed: true }]);
  });

  it('refuse a mapping with an invalid ARN, unless another mapping gives the target role', () => {
    const bad = { iam_role_arn: target('t'), proxy_iam_role_arn: 'p' };
    const { targets, refused } = resolve(member(['acme']), stored({ acme: [bad, { ...bad, iam_role_arn: 'x\n[y]' }] }));
    assert.deepEqual(targets, []);
    assert.deepEqual(
      refused.map(({ arn, code }) => [arn, code]),
      [
        [target('t'), 'invalid_mapping'],
        ['x\n[y]', 'invalid_mapping'],
      ],
    );
    assert.match(refused[0]?.detail ?? '', /acme/);
    const good = resolve(member(['acme']), stored({ acme: [bad, entry('t', 'p')] }));
    assert.deepEqual([good.targets.length, good.refused], [1, []]);
  });
});
