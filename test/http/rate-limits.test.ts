/** Proves that bad credentials are counted apart from callers, by the address that trusted proxies report. */
import assert from 'node:assert/strict';
import { type Replica, startWorld, type World } from '../support/world.ts';

const limit = 5;

describe('rate limits', () => {
  let world: World;
  let replica: Replica;

  beforeEach(async () => {
    world = await startWorld({ RATE_LIMIT_PER_MINUTE: String(limit) });
    for (const name of ['alice', 'bob', 'carol']) world.domino.addUser({ name, orgs: [] });
  });
  afterEach(() => world.stop());

  const ask = async (headers: Record<string, string>) =>
    (await replica.call('GET', '/my_role_mappings', { headers })).status;
  const withKey = (user: string, from?: string) =>
    ask({ 'X-Domino-Api-Key': world.domino.user(user).apiKey, ...(from ? { 'X-Forwarded-For': from } : {}) });
  const badToken = () => ask({ Authorization: 'Bearer made-up' });
  const badKey = (from?: string) => {
    return ask({ 'X-Domino-Api-Key': 'made-up', ...(from ? { 'X-Forwarded-For': from } : {}) });
  };
  async function times(count: number, call: () => Promise<number>): Promise<number[]> {
    const statuses: number[] = [];
    for (let index = 0; index < count; index += 1) statuses.push(await call());
    return statuses;
  }

  it('refuse bad tokens with 401, then 429, and do not affect other callers', async () => {
    replica = await world.startReplica();
    assert.deepEqual(await times(limit + 2, badToken), [401, 401, 401, 401, 401, 429, 429]);
    assert.equal(await withKey('alice'), 200);
    assert.equal((await replica.call('GET', '/my_role_mappings', { as: 'bob' })).status, 200);
    // Nor do successful calls count as failures.
    assert.equal(await withKey('carol'), 200);
  });

  it('limit the calls to Domino for bad API keys, and still accept a key that was valid before', async () => {
    replica = await world.startReplica();
    assert.equal(await withKey('alice'), 200);
    const before = world.domino.callsOf('principal');
    const statuses = await times(limit + 3, () => badKey());
    assert.deepEqual(statuses, [401, 401, 401, 401, 401, 429, 429, 429]);
    assert.equal(world.domino.callsOf('principal') - before, limit);
    assert.equal(await withKey('alice'), 200);
    // Also after the cached answer of Domino has expired.
    world.clock.skip(60_000);
    assert.equal(await withKey('alice'), 200);
    assert.equal((await replica.call('GET', '/my_role_mappings', { as: 'bob' })).status, 200);
  });

  it('count each valid API key separately', async () => {
    replica = await world.startReplica();
    assert.deepEqual(await times(limit + 2, () => withKey('alice')), [200, 200, 200, 200, 200, 200, 429]);
    assert.equal(await withKey('bob'), 200);
  });

  it('use the forwarded address from trusted proxies only', async () => {
    replica = await world.startReplica({ TRUSTED_PROXIES: '127.0.0.0/8' });
    await times(limit, () => badKey('192.0.2.1'));
    assert.equal(await badKey('192.0.2.1'), 429);
    assert.equal(await withKey('alice', '192.0.2.1'), 429);
    assert.equal(await withKey('alice', '192.0.2.2'), 200);
    const distrustful = await world.startReplica();
    replica = distrustful;
    await times(limit, () => badKey('192.0.2.1'));
    assert.equal(await badKey('192.0.2.9'), 429);
  });
});
