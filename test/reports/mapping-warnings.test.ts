/** Proves why an administrator's mapping is refused, and its warnings: sharing, size, roles, organizations. */
import assert from 'node:assert/strict';
import { parseMappings, type RoleMapping } from '../../src/mappings/role-mappings.ts';
import { sharedReach } from '../../src/mappings/shared-proxies.ts';
import { mappingRefusals } from '../../src/reports/mapping-refusals.ts';
import { type MappingWarningSources, mappingWarnings } from '../../src/reports/mapping-warnings.ts';
import { maxRoleRequestBytes, roleRequestBytes } from '../../src/runs/role-request.ts';

const identity = { account: '111111111111', partition: 'aws', arn: 'arn:aws:iam::111111111111:role/x' };
const target = (name: string) => `arn:aws:iam::222222222222:role/${name}`;
const proxy = (name: string) => `arn:aws:iam::111111111111:role/${name}`;
const entry = (to: string, through: string, update: boolean | string = true, org = 'acme'): RoleMapping => ({
  domino_org: org,
  iam_role_arn: target(to),
  proxy_iam_role_arn: proxy(through),
  update_iam_role_trust_policy: update,
});
const proposing = (one: RoleMapping): RoleMapping => ({ ...one, default_profile: true });
const stored = (orgs: Record<string, RoleMapping[]>) =>
  parseMappings(Object.fromEntries(Object.entries(orgs).map(([org, list]) => [org, JSON.stringify(list)])));

describe('a mapping is refused', () => {
  const pathsOf = (list: RoleMapping[]) =>
    mappingRefusals('acme', list, '/body/role_data', identity).map(({ path }) => path);

  const cases: [string, RoleMapping[], string[]][] = [
    ['not where it is valid', [entry('t', 'p'), entry('t', 'q'), entry('u', 'p')], []],
    ['where an entry names another organization', [entry('t', 'p'), entry('u', 'p', true, 'labs')], ['/1/domino_org']],
    ['where a pair is repeated, at each repetition', [entry('t', 'p'), entry('t', 'p'), entry('t', 'p')], ['/1', '/2']],
    [
      'where a proxy role is both managed and unmanaged',
      [entry('t', 'p'), entry('u', 'p', 'false'), entry('v', 'p', 'true')],
      ['/1/update_iam_role_trust_policy', '/2/update_iam_role_trust_policy'],
    ],
    [
      'where it proposes two roles as the default profile, but not for a pool of one role',
      [proposing(entry('t', 'p')), proposing(entry('t', 'q')), entry('u', 'p'), proposing(entry('v', 'p'))],
      ['/3/default_profile'],
    ],
    ['not where a proxy role is unmanaged in all entries', [entry('t', 'p', false), entry('u', 'p', 'false')], []],
  ];
  for (const [what, list, expected] of cases) {
    it(what, () => {
      assert.deepEqual(
        pathsOf(list),
        expected.map((path) => `/body/role_data${path}`),
      );
    });
  }

  it('where a role request of its members would be too large for Kubernetes', () => {
    const path = 'a'.repeat(60);
    const long = (n: number) => `${Array.from({ length: 30 }, () => path).join('/')}/${n}`;
    const list = Array.from({ length: 100 }, (_, n) => entry(long(n), long(n)));
    const [refusal] = mappingRefusals('acme', list, '/body/role_data', identity);
    assert.match(refusal?.message ?? '', /keeps at most 245760/);
    assert.deepEqual(mappingRefusals('acme', list.slice(0, 50), '/body/role_data', identity), []);
  });
});

describe('a proxy role that organizations share', () => {
  it('lets each reach the target roles of the others', () => {
    const mappings = stored({
      acme: [entry('t', 'p'), entry('u', 'q')],
      labs: [entry('v', 'p', true, 'labs'), entry('u', 'q', true, 'labs')],
      alone: [entry('w', 'r', true, 'alone')],
    });
    assert.deepEqual(sharedReach(proxy('p'), mappings.byOrg), [
      { domino_org: 'acme', reaches_too: [target('v')] },
      { domino_org: 'labs', reaches_too: [target('t')] },
    ]);
    for (const name of ['q', 'r', 'none']) assert.deepEqual(sharedReach(proxy(name), mappings.byOrg), [], name);
  });

  it('adds no reach for an organization that has the target role through another proxy role', () => {
    const mappings = stored({ acme: [entry('t', 'p'), entry('v', 'q')], labs: [entry('v', 'p', true, 'labs')] });
    assert.deepEqual(sharedReach(proxy('p'), mappings.byOrg), [{ domino_org: 'labs', reaches_too: [target('t')] }]);
  });
});

describe('a mapping causes a warning', () => {
  const record = (id: string, contenders: string[] = []) => ({
    id,
    by: 'admin',
    at: '2026-11-21T12:00:00.000Z',
    contenders: contenders.map((one) => ({ id: one, user: 'm', at: '2026-11-21T12:00:00.000Z' })),
  });
  function codes(more: Partial<MappingWarningSources> & { others?: Record<string, RoleMapping[]> } = {}) {
    const { others = {}, ...rest } = more;
    const list = rest.list ?? [entry('t', 'p')];
    const after = stored({ ...others, acme: [...list] });
    const sources = { org: 'acme', list, after, own: ['1'], record: record('1'), known: new Map(), ...rest };
    return mappingWarnings(sources).map(({ code, role_arn: role }) => (role ? `${code} ${role}` : code));
  }

  it('not where it is in order', () => {
    assert.deepEqual(codes(), []);
    assert.deepEqual(codes({ own: [] }), []);
    assert.deepEqual(codes({ own: ['1'], record: undefined }), []);
  });
  it('for an organization that is unknown, another one, or ambiguous', () => {
    assert.deepEqual(codes({ own: [], record: undefined }), ['organization_unknown']);
    assert.deepEqual(codes({ own: ['1', '2'], record: undefined }), ['organization_id_mismatch']);
    assert.deepEqual(codes({ own: ['2'] }), ['organization_id_mismatch']);
    assert.deepEqual(codes({ own: [], record: record('1', ['2']) }), ['organization_id_mismatch']);
    assert.deepEqual(codes({ record: record('') }), ['organization_id_mismatch']);
  });
  it('for a proxy role that IAM does not have, or that could not be read', () => {
    const known = new Map([
      [proxy('p'), 'missing'] as const,
      [proxy('q'), 'unknown'] as const,
      [proxy('r'), 'found'] as const,
    ]);
    assert.deepEqual(codes({ known }), [`role_not_found ${proxy('p')}`, `role_not_checked ${proxy('q')}`]);
  });
  it('for a proxy role that it shares, in both directions, but not for one that only others share', () => {
    const labs = [entry('v', 'p', true, 'labs'), entry('x', 's', true, 'labs')];
    const more = [entry('y', 's', true, 'more')];
    assert.deepEqual(codes({ others: { labs, more } }), [
      `proxy_role_shared ${proxy('p')}`,
      `proxy_role_shared ${proxy('p')}`,
    ]);
  });
  it('for a proxy role that another mapping has as unmanaged', () => {
    const labs = [entry('t', 'p', 'false', 'labs')];
    assert.deepEqual(codes({ others: { labs } }), [`proxy_role_kept_elsewhere ${proxy('p')}`]);
  });
  it('for more roles than a member of all organizations can have', () => {
    const of = (org: string) => Array.from({ length: 100 }, (_, n) => entry(`${org}-${n}`, 'p', true, org));
    const others = Object.fromEntries(Array.from({ length: 20 }, (_, n) => [`org-${n}`, of(`org-${n}`)]));
    const sum = Object.entries(others).reduce((bytes, [org, list]) => bytes + roleRequestBytes(org, list), 0);
    assert.ok(sum > maxRoleRequestBytes);
    assert.ok(codes({ others, list: of('acme') }).includes('too_many_roles'));
  });
});
