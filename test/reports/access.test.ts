/** Proves what the access report says of a user's roles, code by code, from made-up statuses and role requests. */
import assert from 'node:assert/strict';
import { parseMappings } from '../../src/mappings/role-mappings.ts';
import type { TrustStatus } from '../../src/proxy-roles/status.ts';
import { accessReport, type RunSeen } from '../../src/reports/access.ts';
import { adviceFor } from '../../src/reports/advice.ts';
import type { HeldToken, RoleRequest } from '../../src/runs/role-request.ts';

const target = 'arn:aws:iam::222222222222:role/t';
const proxy = (name: string) => `arn:aws:iam::111111111111:role/${name}`;
const id = '646d27b817c28b5ea4b5b0c1';

function status(name: string, changes: Partial<TrustStatus> = {}): TrustStatus {
  return {
    role_arn: proxy(name),
    members: {},
    refused: [],
    characters_used: 400,
    characters_allowed: 2048,
    ...changes,
  };
}

function want(proxies: string[], changes: Partial<RoleRequest> = {}): RoleRequest {
  const roles = [{ target, proxies: proxies.map((name) => ({ arn: proxy(name), org: 'acme' })) }];
  return { id: 'w1', run: id, user: { id: 'u1', name: 'alice' }, at: '2026-11-21T12:00:00.000Z', roles, ...changes };
}

/** The role request of a run that has a token for the role, and requests no entry in the trust policy. */
function tokenOf(changes: Partial<HeldToken> = {}): RoleRequest {
  return want([], { roles: [], tokens: [{ target, arn: proxy('p'), org: 'acme', ...changes }] });
}

interface Case {
  orgs?: string[];
  pool?: string[];
  managed?: boolean;
  carrier?: 'token';
  /** The reason why membership of acme does not count. */
  mismatch?: string;
  statuses?: TrustStatus[];
  /** One for each service account `a`, `b`, …; without it there is no run. */
  wants?: (RoleRequest | undefined)[];
  shared?: boolean;
  revoked?: string;
}

function report({ orgs = ['acme'], pool = ['p'], managed = true, statuses = [status('p')], ...rest }: Case) {
  const list = pool.map((name) => ({
    iam_role_arn: target,
    proxy_iam_role_arn: proxy(name),
    update_iam_role_trust_policy: managed,
    ...(rest.carrier ? { carrier: rest.carrier } : {}),
  }));
  const run: RunSeen | undefined = rest.wants && {
    id,
    accounts: rest.wants.map((one, index) => ({
      name: 'abc'.charAt(index),
      request: one,
      shared: rest.shared ?? false,
    })),
    revoked: rest.revoked,
  };
  const sources = {
    caller: { id: 'u1', orgs },
    mappings: parseMappings(pool.length > 0 ? { acme: JSON.stringify(list) } : {}),
    status: (arn: string) => statuses.find(({ role_arn: one }) => one === arn),
    namespace: 'domino-compute',
    refused: new Map(rest.mismatch === undefined ? [] : [['acme', rest.mismatch]]),
  };
  return accessReport(sources, run);
}

const inside = (...names: string[]) => ({
  members: Object.fromEntries(names.map((name) => [name, { want: 'w1', since: '2026-11-21T12:00:01.000Z' }])),
});
const refused = (code: string) => ({ refused: [{ account: 'a', want: 'w1', target, code, detail: 'no room' }] });
const error = { code: 'access_denied', detail: 'not allowed', at: '2026-11-21T12:00:01.000Z' };

describe('the access report', () => {
  const cases: [string, Case, string[]][] = [
    ['a role in order', {}, ['ready']],
    ['a role that was not checked', { statuses: [] }, ['not_checked_yet']],
    ['a role with an error', { statuses: [status('p', { error })] }, ['access_denied']],
    ['a full role', { statuses: [status('p', { characters_used: 2010 })] }, ['trust_policy_full']],
    ['an unmanaged role', { managed: false }, ['kept_elsewhere']],
    ['no mapping', { pool: [] }, []],
    ['an organization of other users', { orgs: ['other'] }, []],
    ['a run without a request', { wants: [undefined] }, ['not_requested']],
    ['a service account with the request of another run', { wants: [want(['p'], { run: 'x' })] }, ['not_requested']],
    [
      'a service account with the request of another user',
      { wants: [want(['p'], { user: { id: 'u2', name: 'b' } })] },
      ['not_requested'],
    ],
    ['a member', { wants: [want(['p'])], statuses: [status('p', inside('a'))] }, ['granted']],
    [
      'a member of a role with an error',
      { wants: [want(['p'])], statuses: [status('p', { ...inside('a'), error })] },
      ['granted'],
    ],
    ['a run that waits', { wants: [want(['p'])] }, ['pending']],
    ['a run whose request is older than the mapping', { wants: [want([])] }, ['refresh_needed']],
    [
      'a refused run',
      { wants: [want(['p'])], statuses: [status('p', refused('trust_policy_full'))] },
      ['trust_policy_full'],
    ],
    [
      'a refusal of an older request',
      { wants: [want(['p'], { id: 'w2' })], statuses: [status('p', refused('role_not_found'))] },
      ['pending'],
    ],
    [
      'one of two service accounts',
      { wants: [want(['p']), want(['p'])], statuses: [status('p', inside('b'))] },
      ['partly_granted'],
    ],
    ['a revoked run', { wants: [want(['p'])], statuses: [status('p', inside('a'))], revoked: 'Why.' }, ['run_revoked']],
    [
      'a revoked run with an unmanaged role',
      { managed: false, wants: [want(['p'])], revoked: 'Why.' },
      ['run_revoked'],
    ],
    [
      'a shared service account with an unmanaged role',
      { managed: false, wants: [want(['p'])], shared: true },
      ['shared_service_account'],
    ],
    ['a run with an unmanaged role', { managed: false, wants: [want(['p'])] }, ['kept_elsewhere']],
    [
      'a run of another organization of the name',
      { wants: [want(['p'])], statuses: [status('p', inside('a'))], mismatch: 'it is another one' },
      ['organization_id_mismatch'],
    ],
    [
      'a run with a token of another organization of the name',
      { carrier: 'token', wants: [tokenOf()], mismatch: 'it is another one' },
      ['organization_id_mismatch'],
    ],
    ['a token whose mapping was deleted', { pool: [], wants: [tokenOf()] }, ['mapping_gone']],
    ['a token after the membership ended', { orgs: [], wants: [tokenOf()] }, ['not_a_member']],
    ['a withdrawn token', { pool: [], wants: [tokenOf({ until: '2026-11-21T13:00:00.000Z' })] }, []],
    ['a token of another user', { pool: [], wants: [{ ...tokenOf(), user: { id: 'u2', name: 'b' } }] }, []],
    ['a token for a role whose carrier is now entry', { wants: [tokenOf()] }, ['refresh_needed']],
    ['an entry for a role whose carrier is now token', { carrier: 'token', wants: [want(['p'])] }, ['not_checked_yet']],
    ['a shared service account', { wants: [want(['p'])], shared: true }, ['shared_service_account']],
    [
      'a membership that ended',
      { orgs: [], wants: [want(['p'])], statuses: [status('p', inside('a'))] },
      ['not_a_member'],
    ],
    ['a deleted mapping', { pool: [], wants: [want(['p'])] }, ['mapping_gone']],
    [
      'a pool',
      { pool: ['p', 'q'], wants: [want(['p', 'q'])], statuses: [status('p'), status('q', inside('a'))] },
      ['in_another_proxy', 'granted'],
    ],
    [
      'a full pool with a refusal at the first proxy role',
      {
        pool: ['p', 'q'],
        wants: [want(['p', 'q'])],
        statuses: [status('p', refused('trust_policy_full')), status('q')],
      },
      ['trust_policy_full', 'trust_policy_full'],
    ],
  ];
  for (const [what, given, codes] of cases) {
    it(`${what}: ${codes.join(', ') || 'nothing'}`, () => {
      const entries = report(given);
      assert.deepEqual(
        entries.map(({ code }) => code),
        codes,
      );
      for (const { reason, advice, member } of entries) {
        assert.match(reason, /^[A-Z].*\.$/);
        assert.match(advice, /^[A-Z].*\.$/);
        assert.equal(member, codes[0] !== 'not_a_member');
      }
    });
  }

  it('lists each service account of the run', () => {
    const [entry] = report({ wants: [want(['p']), want(['p'])], statuses: [status('p', inside('a', 'toString'))] });
    assert.deepEqual(entry?.service_accounts, [
      { service_account: 'a', in_trust_policy: true, since: '2026-11-21T12:00:01.000Z' },
      { service_account: 'b', in_trust_policy: false },
    ]);
    assert.equal(report({})[0]?.service_accounts, undefined);
  });

  it('has advice for unknown codes', () => {
    for (const code of ['something_new', 'toString', '']) assert.match(adviceFor('access', code), /administrator/);
  });
});
