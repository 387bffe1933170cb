/** Proves what holds for placements after any sequence of requests, ends, mapping changes, capacities and errors. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { memberCost } from '../../src/trust-policy/subjects.ts';
import { namespace, type Pools, type SmallCluster, smallCluster, targetArn } from '../support/placements.ts';

const accounts = ['a', 'b', 'c', 'd', 'e', 'long-name'];
const users = ['alice', 'bob'];
const runs = ['1', '2', '3'].map((digit) => digit.repeat(24));
const proxies = ['p', 'q', 'r'];

/** The target roles share no proxy role here, so that each placement shows its target role. */
const pools: fc.Arbitrary<Pools> = fc.record(
  { t: fc.shuffledSubarray(['p', 'q']), u: fc.constant(['r']) },
  { requiredKeys: [], noNullPrototype: true },
);

type Step =
  | { do: 'ask'; account: string; user: string; run: string; pools: Pools }
  | { do: 'pods'; account: string; users: (string | undefined)[] }
  | { do: 'map'; pools: Pools; foreign: string[] }
  | { do: 'capacity'; proxy: string; accounts: number }
  | { do: 'accept'; proxy: string }
  | { do: 'fail'; proxy: string; ms: number }
  | { do: 'recover'; proxy: string }
  | { do: 'remove' | 'clear' | 'again'; account: string };

const account = fc.constantFrom(...accounts);
const user = fc.constantFrom(...users);
const proxy = fc.constantFrom(...proxies);
const many = <T>(arbitrary: fc.Arbitrary<T>) => ({ weight: 6, arbitrary });
const few = <T>(arbitrary: fc.Arbitrary<T>) => ({ weight: 1, arbitrary });
const is = <T extends string>(kind: T) => fc.constant(kind);

const step: fc.Arbitrary<Step> = fc.oneof(
  many(fc.record({ do: is('ask'), account, user, run: fc.constantFrom(...runs), pools })),
  many(fc.record({ do: is('pods'), account, users: fc.oneof(fc.tuple(user), fc.array(user, { maxLength: 2 })) })),
  many(fc.record({ do: is('capacity'), proxy, accounts: fc.nat({ max: 4 }) })),
  many(fc.record({ do: is('accept'), proxy })),
  few(fc.record({ do: is('map'), pools, foreign: fc.subarray(proxies, { maxLength: 1 }) })),
  few(fc.record({ do: is('fail'), proxy, ms: fc.constant(1000) })),
  few(fc.record({ do: is('recover'), proxy })),
  few(fc.record({ do: fc.constantFrom('remove' as const, 'clear' as const, 'again' as const), account })),
);

function take(cluster: SmallCluster, one: Step): void {
  switch (one.do) {
    case 'ask':
      cluster.ask(one.account, one);
      return;
    case 'pods':
      cluster.pods(one.account, ...one.users);
      return;
    case 'map':
      cluster.map(one.pools, one.foreign);
      return;
    case 'capacity':
      cluster.capacity(one.proxy, one.accounts);
      return;
    case 'accept':
      cluster.accept(one.proxy);
      return;
    case 'fail':
      cluster.fail(one.proxy, one.ms);
      return;
    case 'recover':
      cluster.role(one.proxy).conditions.error = undefined;
      cluster.placements.reconsider(cluster.role(one.proxy));
      return;
    case 'remove':
      cluster.remove(one.account);
      return;
    case 'clear':
      cluster.annotate(one.account, '{"cleared":true}');
      return;
    case 'again':
      cluster.placements.account(one.account);
  }
}

/** What is due: target role -> the proxy roles that the run's latest request names and the mappings allow. */
function due(cluster: SmallCluster, name: string, map: Extract<Step, { do: 'map' }>): Map<string, string[]> {
  const counts = (one: string) => {
    const request = cluster.requestOf(one);
    const who = cluster.usersOf(one);
    return request && who.length > 0 && who.every((id) => id === request.user.id) ? request : undefined;
  };
  const own = counts(name);
  const found = new Map<string, string[]>();
  if (!own) return found;
  const group = accounts
    .map(counts)
    .filter((request) => request !== undefined)
    .filter((request) => request.run === own.run && request.user.id === own.user.id)
    .sort((a, b) => (a.at < b.at ? 1 : -1));
  for (const { target } of own.roles) {
    const latest = group.flatMap((request) => request.roles).find((role) => role.target === target);
    const named = Object.entries(map.pools).find(([to]) => targetArn(to) === target)?.[1] ?? [];
    const allowed = (latest?.proxies ?? [])
      .map(({ arn }) => arn.slice(arn.lastIndexOf('/') + 1))
      .filter((one) => named.includes(one) && !map.foreign.includes(one));
    if (allowed.length > 0) found.set(target, allowed);
  }
  return found;
}

/** Service account -> the names of the proxy roles that are to have it as a member. */
function places(cluster: SmallCluster): Map<string, string[]> {
  return new Map(accounts.map((name) => [name, proxies.filter((one) => cluster.role(one).desired.members.has(name))]));
}

function check(cluster: SmallCluster, map: Extract<Step, { do: 'map' }>): void {
  const where = places(cluster);
  for (const name of proxies) {
    const { desired, observed } = cluster.role(name);
    const { members } = desired;
    const { capacity } = observed;
    const cost = [...members.keys()].reduce((sum, one) => sum + memberCost(namespace, one), 0);
    assert.ok(cost <= capacity, `${name} has no more members than it has capacity for`);
    for (const [member, want] of members) {
      assert.equal(want, cluster.requestOf(member)?.id, `${member} is a member of ${name} for its current request`);
    }
  }
  for (const name of accounts) {
    const owed = due(cluster, name, map);
    const here = where.get(name) ?? [];
    const refusals = proxies
      .flatMap((one) => cluster.role(one).conditions.refused)
      .filter((entry) => entry.account === name);
    const allowed = [...owed.values()].flat();
    assert.deepEqual(
      here.filter((one) => !allowed.includes(one)),
      [],
      `${name} is a member only where it is due`,
    );
    for (const [target, candidates] of owed) {
      const inside = candidates.filter((one) => here.includes(one)).length;
      const refused = refusals.filter((entry) => entry.target === target);
      assert.equal(
        inside + refused.length,
        1,
        `${name} is a member of one proxy role for ${target}, or has one refusal`,
      );
      for (const { want } of refused) assert.equal(want, cluster.requestOf(name)?.id);
    }
    assert.deepEqual(
      refusals.filter((entry) => !owed.has(entry.target)),
      [],
      `${name} has no refusal of a void request`,
    );
  }
}

/** The service accounts of the same run: where these change, the whole run may have to move. */
function companions(cluster: SmallCluster, name: string): string {
  const request = cluster.requestOf(name);
  const others = accounts.filter((other) => {
    const theirs = cluster.requestOf(other);
    return theirs && theirs.run === request?.run && theirs.user.id === request.user.id;
  });
  return JSON.stringify([others.map((other) => [other, cluster.requestOf(other)?.id, cluster.usersOf(other)])]);
}

describe('placement after any sequence of events', () => {
  it('places or refuses each service account that is due, places no other, and overfills no role', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40, size: 'max' }), (steps) => {
        const cluster = smallCluster();
        let map: Extract<Step, { do: 'map' }> = { do: 'map', pools: { t: ['p', 'q'], u: ['r'] }, foreign: [] };
        take(cluster, map);
        for (const one of steps) {
          if (one.do === 'map') map = one;
          take(cluster, one);
          check(cluster, map);
        }
      }),
      { numRuns: 400 },
    );
  });

  it('moves no service account that could stay', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40, size: 'max' }), (steps) => {
        const cluster = smallCluster();
        let map: Extract<Step, { do: 'map' }> = { do: 'map', pools: { t: ['p', 'q'], u: ['r'] }, foreign: [] };
        take(cluster, map);
        for (const one of steps) {
          const before = places(cluster);
          const company = new Map(accounts.map((name) => [name, companions(cluster, name)]));
          if (one.do === 'map') map = one;
          take(cluster, one);
          const after = places(cluster);
          for (const name of accounts) {
            if (company.get(name) !== companions(cluster, name)) continue;
            const allowed = [...due(cluster, name, map).values()].flat();
            const left = (before.get(name) ?? []).filter((role) => !after.get(name)?.includes(role));
            for (const role of left.filter((where) => allowed.includes(where))) {
              const shrunk = one.do === 'capacity' && one.proxy === role;
              const failed = one.do === 'fail' && one.proxy === role && !cluster.role(role).observed.members.has(name);
              const unwritable = cluster.role(role).conditions.error !== undefined;
              // IAM still has it in the other role, and not here yet: it goes back before it has moved.
              const has = (where: string) => cluster.role(where).observed.members.has(name);
              const back = !has(role) && after.get(name)?.some(has);
              assert.ok(
                shrunk || failed || unwritable || back,
                `${name} was moved out of ${role} by ${JSON.stringify(one)}`,
              );
            }
          }
        }
      }),
      { numRuns: 400 },
    );
  });

  it('keeps all members that IAM has accepted when the role has an error', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30, size: 'max' }), fc.constantFrom(...proxies), (steps, failing) => {
        const cluster = smallCluster();
        cluster.map({ t: ['p', 'q'], u: ['r'] });
        for (const one of steps) if (one.do !== 'fail') take(cluster, one);
        cluster.accept(...proxies);
        const before = cluster.members(failing);
        cluster.fail(failing, 1000);
        assert.deepEqual(cluster.members(failing), before);
      }),
    );
  });

  it('a new leader keeps all members that IAM has accepted, and places the others', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.tuple(account, fc.constantFrom('p', 'q')), { selector: ([name]) => name }),
        (accepted) => {
          const cluster = smallCluster();
          for (const [name, where] of accepted) {
            cluster.role(where).observed.members.set(name, { want: 'before', since: '2026-11-21T00:00:00.000Z' });
          }
          for (const name of accounts) cluster.start(name, { pools: { t: ['p', 'q'] } });
          cluster.map({ t: ['p', 'q'] });
          for (const [name, where] of accepted) assert.ok(cluster.members(where).includes(name));
          assert.equal(cluster.members('p').length + cluster.members('q').length, accounts.length);
        },
      ),
    );
  });
});
