/** Proves how stored role mappings are read, and which roles a caller's organizations lead to. */
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

describe('mappings: as stored', () => {
  it('of earlier releases are one object, of this one a list', () => {
    const { byOrg } = stored({ acme: entry('t', 'p'), labs: [entry('t', 'p'), entry('u', 'q')], none: [] });
    assert.deepEqual(byOrg.get('acme'), [full('acme', 't', 'p')]);
    assert.deepEqual(byOrg.get('labs'), [full('labs', 't', 'p'), full('labs', 'u', 'q')]);
    assert.deepEqual(byOrg.get('none'), []);
  });

  it('come by organization, sorted', () => {
    assert.deepEqual([...stored({ b: [], A: [], a: [] }).byOrg.keys()], ['A', 'a', 'b']);
  });

  it("that cannot be read take away their organization's roles and nobody else's", () => {
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

  it('give back what was sent, value and type alike, and fill in the rest', () => {
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

  it('are read as they were written', () => {
    const list = [full('acme', 't', 'p', 'false'), full('own', 'u', 'q', true)];
    assert.deepEqual(parseMappings({ acme: storedText(list) }).byOrg.get('acme'), list);
  });

  it('are managed unless they say false', () => {
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

  it('of a few organizations are those of these, in their order', () => {
    const mappings = stored({ b: entry('t', 'p'), a: entry('u', 'q'), c: entry('v', 'r') });
    const mine = mappingsOf(['b', 'a', 'b', 'missing'], mappings);
    assert.deepEqual(mine, [full('a', 'u', 'q'), full('b', 't', 'p')]);
  });

  it('no text makes the reader throw', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.oneof(fc.string(), fc.json())), (data) => {
        const mappings = parseMappings(data);
        assert.equal(mappings.byOrg.size + mappings.unreadable.size, Object.keys(data).length);
        resolve(member(Object.keys(data)), mappings);
      }),
    );
  });
});

describe('mappings: whose policy is written', () => {
  it('false anywhere wins: one mapping keeps a proxy role from being written for all', () => {
    for (const no of [false, 'false']) {
      const { managedProxies, allows } = stored({
        acme: [entry('t', 'p'), entry('t', 'q')],
        labs: entry('u', 'p', { update_iam_role_trust_policy: no }),
      });
      assert.deepEqual([...managedProxies], [proxy('q')]);
      assert.ok(!allows('acme', target('t'), proxy('p')));
    }
  });

  it('an ARN that is none is never written', () => {
    const { managedProxies } = stored({ acme: { iam_role_arn: target('t'), proxy_iam_role_arn: 'p' } });
    assert.equal(managedProxies.size, 0);
  });

  it('a pair is allowed as a mapping of that organization names it, and not otherwise', () => {
    const { allows } = stored({ acme: [entry('t', 'p'), entry('u', 'q')], labs: entry('t', 'q') });
    assert.ok(allows('acme', target('t'), proxy('p')));
    assert.ok(!allows('acme', target('t'), proxy('q')), 'another pair of the same organization');
    assert.ok(!allows('labs', target('t'), proxy('p')), "another organization's pair");
    assert.ok(!allows('none', target('t'), proxy('p')));
  });
});

describe('mappings: resolved for a caller', () => {
  const pool = (...proxies: [string, string][]) => proxies.map(([name, org]) => ({ arn: proxy(name), org }));

  it('are targets by ARN, each with its proxies in the order of the mapping', () => {
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

  it('are nothing for who is in no organization, or in none with a mapping', () => {
    const mappings = stored({ acme: entry('t', 'p') });
    assert.deepEqual(resolve(member([]), mappings), { targets: [], refused: [] });
    assert.deepEqual(resolve(member(['none', '__proto__']), mappings), { targets: [], refused: [] });
  });

  it('name the first proxy where it is unmanaged, and leave unmanaged ones out of a managed pool', () => {
    const no = { update_iam_role_trust_policy: false };
    const first = resolve(member(['acme']), stored({ acme: [entry('t', 'q', no), entry('t', 'p')] }));
    assert.deepEqual(first.targets, [{ arn: target('t'), proxies: pool(['q', 'acme']), managed: false }]);
    const second = resolve(member(['acme']), stored({ acme: [entry('t', 'p'), entry('t', 'q', no)] }));
    assert.deepEqual(second.targets, [{ arn: target('t'), proxies: pool(['p', 'acme']), managed: true }]);
  });

  it('refuse what is not the ARN of a role, unless another mapping leads there', () => {
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
