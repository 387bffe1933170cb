/** Proves the preview of a change of mappings, from made-up role requests and statuses. */
import assert from 'node:assert/strict';
import { parseMappings } from '../../src/mappings/role-mappings.ts';
import type { TrustStatus } from '../../src/proxy-roles/status.ts';
import { previewMappings } from '../../src/reports/mapping-preview.ts';
import type { RoleRequest } from '../../src/runs/role-request.ts';

const target = (name: string) => `arn:aws:iam::222222222222:role/${name}`;
const proxy = (name: string) => `arn:aws:iam::111111111111:role/${name}`;

/** Organization -> mappings as `target proxy`, or `target proxy foreign` where the proxy role is unmanaged. */
type Data = Record<string, string[]>;

function parse(data: Data) {
  const entries = Object.entries(data).map(([org, list]) => [
    org,
    JSON.stringify(
      list.map((text) => {
        const [to = '', through = '', foreign] = text.split(' ');
        return {
          iam_role_arn: target(to),
          proxy_iam_role_arn: proxy(through),
          update_iam_role_trust_policy: foreign === undefined,
        };
      }),
    ),
  ]);
  return parseMappings(Object.fromEntries(entries) as Record<string, string>);
}

/** A name as long as that of a run's service account. */
const accountOf = (letter: string) => `run-${letter.repeat(24)}`;

interface Case {
  before: Data;
  after: Data;
  /** Service account -> requested roles as `target proxy,proxy`, of organization acme. */
  wants?: Record<string, string[]>;
  /** Proxy role -> its members and free characters; one that is not named has no status. */
  roles?: Record<string, { members?: string[]; free?: number }>;
  /** The run of all service accounts; without it each has its own run. */
  run?: string;
}

function preview({ before, after, wants = {}, roles = {}, run }: Case) {
  const recorded = Object.entries(wants).map(([account, list]): [string, RoleRequest] => [
    accountOf(account),
    {
      id: account,
      run: run ?? account,
      user: { id: 'u', name: 'alice' },
      at: '',
      roles: list.map((text) => {
        const [to = '', through = ''] = text.split(' ');
        return { target: target(to), proxies: through.split(',').map((name) => ({ arn: proxy(name), org: 'acme' })) };
      }),
    },
  ]);
  const accounts = new Map(
    recorded.map(([name, request]) => {
      const wanted = JSON.stringify(request);
      return [name, { name, resourceVersion: '1', wanted, ours: false, madeFor: undefined }];
    }),
  );
  const about = { user: 'u', userName: 'alice', workload: undefined, uid: '', hasPodIdentity: false, live: true };
  const podsOf = (name: string) => ({ ...about, name, account: name, run: run ?? name.at(-1) });
  const requests = { accounts, pods: { ofAccount: (name: string) => [podsOf(name)] }, isRevoked: () => false };
  const statuses = Object.entries(roles).map(([name, { members = [], free = 1000 }]): TrustStatus => {
    const known = Object.fromEntries(members.map((member) => [accountOf(member), { want: member, since: '' }]));
    const used = 2048 - free;
    return { role_arn: proxy(name), members: known, refused: [], characters_used: used, characters_allowed: 2048 };
  });
  const sources = { before: parse(before), after: parse(after), org: 'acme', namespace: 'domino-compute' };
  const found = previewMappings({ ...sources, requests, statuses });
  const short = (arn: string) => arn.split('/').pop();
  return {
    ...found,
    loses: found.loses.map(
      (loss) => `${loss.service_account.at(-1)} ${short(loss.iam_role_arn)} ${loss.again_at_next_refresh}`,
    ),
    moves: found.moves.map((move) => `${move.service_account.at(-1)} ${short(move.from)} ${move.to.map(short)}`),
    gains: found.gains_at_next_refresh.map((one) => short(one.iam_role_arn)),
    later: found.loses_at_next_refresh.map((one) => short(one.iam_role_arn)),
  };
}

describe('the preview of a change of mappings', () => {
  const both = { acme: ['t p', 't q'] };

  it('lists moves and no losses where the pool keeps a proxy role', () => {
    const found = preview({
      before: both,
      after: { acme: ['t q'] },
      wants: { a: ['t p,q'], b: ['t p,q'], c: ['t p,q'] },
      roles: { p: { members: ['a'] }, q: { members: ['b'] } },
    });
    assert.deepEqual([found.loses, found.moves, found.gains, found.fits], [[], ['a p q'], [], true]);
  });

  it('reports whether the moving runs fit, or that it is unknown', () => {
    const given = { before: both, after: { acme: ['t q'] }, wants: { a: ['t p,q'], b: ['t p,q'] } };
    const p = { members: ['a', 'b'] };
    assert.equal(preview({ ...given, roles: { p, q: { free: 95 } } }).fits, false);
    assert.equal(preview({ ...given, roles: { p, q: { free: 96 } } }).fits, true);
    assert.equal(preview({ ...given, roles: { p } }).fits, null);
  });

  it('requires that the service accounts of a run fit into one proxy role', () => {
    const given = {
      before: { acme: ['t p', 't q', 't r'] },
      after: { acme: ['t q', 't r'] },
      wants: { a: ['t p,q,r'], b: ['t p,q,r'] },
      roles: { p: { members: ['a', 'b'] }, q: { free: 50 }, r: { free: 50 } },
    };
    assert.equal(preview(given).fits, true);
    assert.equal(preview({ ...given, run: 'x' }).fits, false);
    assert.equal(preview({ ...given, run: 'x', roles: { ...given.roles, r: { free: 100 } } }).fits, true);
  });

  it('counts a service account once for several target roles of one proxy role', () => {
    const found = preview({
      before: { acme: ['t p', 't q', 'u p', 'u q'] },
      after: { acme: ['t q', 'u q'] },
      wants: { a: ['t p,q', 'u p,q'] },
      roles: { p: { members: ['a'] }, q: { free: 48 } },
    });
    assert.equal(found.moves.length, 2);
    assert.equal(found.fits, true);
  });

  it('distinguishes a lost role from one that returns with the next refresh', () => {
    const given = { before: { acme: ['t p'] }, wants: { a: ['t p'] }, roles: { p: { members: ['a'] } } };
    assert.deepEqual(preview({ ...given, after: {} }).loses, ['a t false']);
    assert.deepEqual(preview({ ...given, after: { acme: ['t new'] } }).loses, ['a t true']);
    assert.deepEqual(preview({ ...given, after: { acme: ['u p'] } }).gains, ['u']);
  });

  it('lists no loss for a run whose request the mappings did not allow before', () => {
    const found = preview({ before: { acme: ['t p'] }, after: {}, wants: { a: ['other p'], b: ['t other'] } });
    assert.deepEqual(found.loses, []);
  });

  it('lists no loss for the members of a role that becomes unmanaged', () => {
    const found = preview({
      before: { acme: ['t p'] },
      after: { acme: ['t p foreign'] },
      wants: { a: ['t p'] },
      roles: { p: { members: ['a'] } },
    });
    assert.deepEqual([found.loses, found.moves, found.proxy_roles], [[], [], []]);
  });

  it('lists the loss of an unmanaged role at the next refresh', () => {
    assert.deepEqual(preview({ before: { acme: ['t p foreign'] }, after: {} }).later, ['t']);
    assert.deepEqual(preview({ before: { acme: ['t p'] }, after: {} }).later, []);
  });

  it('reports the free capacity of each proxy role', () => {
    const { proxy_roles: rooms } = preview({
      before: {},
      after: { acme: ['t p', 't q'] },
      roles: { p: { free: 100 } },
    });
    assert.deepEqual(rooms, [
      { proxy_iam_role_arn: proxy('p'), published: true, characters_free: 100, runs_that_still_fit: 2 },
      { proxy_iam_role_arn: proxy('q'), published: false },
    ]);
  });
});
