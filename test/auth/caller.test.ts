/** Proves which user a credential stands for, how long that is cached, and what happens when Domino is unavailable. */
import assert from 'node:assert/strict';
import { type Callers, createCallers } from '../../src/auth/caller.ts';
import { createDomino, type DominoCall } from '../../src/auth/domino.ts';
import { type Credential, createAuthenticator } from '../../src/auth/token.ts';
import { type DominoStandIn, organizationIdOf, startDomino } from '../stack/domino.ts';
import { FakeClock } from '../support/clock.ts';

const principalPath = '/v4/auth/principal';
const organizationsPath = '/v4/organizations/self';

describe('caller', () => {
  let clock: FakeClock;
  let stack: DominoStandIn;
  let callers: Callers;
  let told: [DominoCall, boolean][];

  function make(options: { allowApiKey?: boolean; max?: number; maxBodyBytes?: number; timeoutMs?: number } = {}) {
    const { allowApiKey = true, max = 100, maxBodyBytes = 100_000, timeoutMs = 5000 } = options;
    const onCall = (call: DominoCall, ok: boolean) => told.push([call, ok]);
    const domino = createDomino({ baseUrl: `${stack.url}/`, timeoutMs, maxBodyBytes, onCall });
    const authenticator = createAuthenticator({ issuer: stack.issuer, jwksUrl: stack.jwksUrl, clock });
    return createCallers({ domino, authenticator, clock, allowApiKey, max });
  }
  const bearer = (name = 'alice', seconds = 300): Credential => {
    return { kind: 'bearer', token: stack.token(name, { exp: Math.floor(clock.now() / 1000) + seconds }) };
  };
  const apiKey = (name = 'alice'): Credential => ({ kind: 'api-key', key: stack.user(name).apiKey });
  const idsOf = (...names: string[]) => new Map(names.map((name) => [name, [organizationIdOf(name)]]));
  const unauthenticated = { code: 'unauthenticated', status: 401 };
  const unavailable = { code: 'domino_unavailable', status: 503, retryAfterSeconds: 2 };

  beforeEach(async () => {
    clock = new FakeClock();
    stack = await startDomino({ clock });
    stack.addUser({ name: 'alice', id: '60faf443e43b3c7a6f5f5eea', orgs: ['labs', 'acme', 'labs'] });
    stack.addUser({ name: 'root', admin: true });
    told = [];
    callers = make();
  });
  afterEach(() => stack.close());

  it('has sorted organizations, each once', async () => {
    assert.deepEqual(await callers.resolve(bearer()), {
      id: '60faf443e43b3c7a6f5f5eea',
      name: 'alice',
      admin: false,
      orgs: ['acme', 'labs'],
      organizationIds: idsOf('acme', 'labs'),
    });
    assert.deepEqual(told.sort(), [
      ['organizations', true],
      ['principal', true],
    ]);
  });

  it('is an administrator when Domino says so', async () => {
    const { admin, orgs } = await callers.resolve(bearer('root'));
    assert.deepEqual([admin, orgs], [true, []]);
  });

  it('is identified by an API key where those are accepted', async () => {
    assert.equal((await callers.resolve(apiKey())).name, 'alice');
    await assert.rejects(callers.resolve({ kind: 'api-key', key: 'made-up' }), unauthenticated);
    const calls = stack.calls.length;
    await assert.rejects(make({ allowApiKey: false }).resolve(apiKey()), unauthenticated);
    await assert.rejects(make({ allowApiKey: false }).identify(apiKey()), unauthenticated);
    assert.equal(stack.calls.length, calls);
  });

  it('is refused when Domino calls a valid token anonymous', async () => {
    stack.knobs.bodies = { [principalPath]: { isAnonymous: true, canonicalId: '60faf443e43b3c7a6f5f5eea' } };
    await assert.rejects(callers.resolve(bearer()), unauthenticated);
  });

  it('with a forged token is refused without a call to Domino', async () => {
    const forged = stack.token('alice', { signer: 'stranger' });
    await assert.rejects(callers.resolve({ kind: 'bearer', token: forged }), unauthenticated);
    assert.equal(stack.callsOf('/v4/'), 0);
  });

  describe('cache', () => {
    it('holds a caller for thirty seconds, and no longer', async () => {
      const credential = bearer();
      const first = await callers.resolve(credential);
      stack.addUser({ name: 'alice', orgs: ['left'] });
      await clock.advance(29_999);
      assert.equal(await callers.resolve(credential), first);
      assert.equal(stack.callsOf(principalPath), 1);
      await clock.advance(1);
      assert.deepEqual((await callers.resolve(credential)).orgs, ['left']);
    });

    it('holds a caller no longer than the token is valid', async () => {
      const credential = bearer('alice', 10);
      await callers.resolve(credential);
      await clock.advance(9999);
      await callers.resolve(credential);
      assert.equal(stack.callsOf(principalPath), 1);
      await clock.advance(6000);
      await assert.rejects(callers.resolve(credential), { ...unauthenticated, message: /expired/ });
      await assert.rejects(callers.identify(credential), unauthenticated);
    });

    it('does not last longer when the wall clock is set back, and ends when it passes the token’s expiry', async () => {
      const credential = bearer();
      await callers.resolve(credential);
      clock.jump(-3_600_000);
      await clock.advance(30_000);
      await callers.resolve(credential);
      assert.equal(stack.callsOf(principalPath), 2);
      clock.jump(7_200_000);
      await assert.rejects(callers.resolve(credential), unauthenticated);
    });

    it('shares one call to Domino among 100 simultaneous requests', async () => {
      const credential = bearer();
      const all = await Promise.all(Array.from({ length: 100 }, () => callers.resolve(credential)));
      assert.equal(new Set(all).size, 1);
      assert.deepEqual([stack.callsOf(principalPath), stack.callsOf(organizationsPath)], [1, 1]);
    });

    it('keeps credentials apart, and drops the least recently used one when full', async () => {
      const small = make({ max: 2 });
      const credentials = [bearer('alice'), bearer('root'), apiKey('alice')] as const;
      const names: string[] = [];
      for (const credential of credentials) names.push((await small.resolve(credential)).name);
      assert.deepEqual(names, ['alice', 'root', 'alice']);
      await small.resolve(credentials[0]);
      await small.resolve(credentials[0]);
      assert.equal(stack.callsOf(principalPath), 4);
    });

    it('does not hold failures', async () => {
      const credential = bearer();
      Object.assign(stack.knobs, { scope: 'api', failStatus: 503 });
      await assert.rejects(callers.resolve(credential), unavailable);
      stack.knobs.failStatus = 0;
      assert.equal((await callers.resolve(credential)).name, 'alice');
    });

    it('of a call that Domino refused stays empty, and the error names the call', async () => {
      Object.assign(stack.knobs, { scope: 'api', failStatus: 401 });
      const said = { ...unauthenticated, message: /\(GET \/v4\/\S+: status 401\)/ };
      await assert.rejects(callers.resolve(bearer()), said);
      stack.knobs.failStatus = 0;
    });
  });

  describe('identity for the rate limit', () => {
    it('is the verified subject for any token of the user, without a call to Domino', async () => {
      const ids = await Promise.all([callers.identify(bearer('alice', 100)), callers.identify(bearer('alice', 200))]);
      assert.equal(ids[0], `subject:${stack.user('alice').subject}`);
      assert.equal(ids[0], ids[1]);
      assert.equal(stack.callsOf('/v4/'), 0);
    });
    it('is the hash of an API key', async () => {
      assert.match(await callers.identify(apiKey()), /^api-key:[\w-]{43}$/);
    });
    it('is refused for an invalid token', async () => {
      await assert.rejects(callers.identify({ kind: 'bearer', token: 'x' }), unauthenticated);
    });
  });

  describe('when Domino', () => {
    const failures: [string, object][] = [
      ['is down', { down: true }],
      ['answers 500', { failStatus: 500 }],
      ['answers 429', { failStatus: 429 }],
      ['answers 404', { failStatus: 404 }],
      ['redirects', { failStatus: 302 }],
      ['answers HTML', { garbage: true }],
    ];
    for (const [what, knobs] of failures) {
      it(`${what}: 503`, async () => {
        Object.assign(stack.knobs, { scope: 'api', ...knobs });
        const credential = bearer();
        await assert.rejects(callers.resolve(credential), (error: Error) => {
          const text = credential.kind === 'bearer' ? credential.token : '';
          assert.ok(!`${error.message} ${String(error.cause)}`.includes(text));
          assert.deepEqual([error.name, 'code' in error && error.code], ['ApiError', 'domino_unavailable']);
          return true;
        });
        assert.ok(told.every(([, ok]) => !ok));
      });
    }

    it('hangs: 503 after the deadline', async () => {
      const impatient = make({ timeoutMs: 50 });
      Object.assign(stack.knobs, { scope: 'api', hang: true });
      await assert.rejects(impatient.resolve(bearer()), unavailable);
    });

    it('does not return the realm’s keys: 503', async () => {
      Object.assign(stack.knobs, { scope: 'keys', down: true });
      await assert.rejects(callers.resolve(bearer()), unavailable);
    });

    for (const failStatus of [401, 403]) {
      it(`answers ${failStatus}: 401`, async () => {
        Object.assign(stack.knobs, { scope: 'api', failStatus });
        await assert.rejects(callers.resolve(bearer()), unauthenticated);
      });
    }

    const good = { isAnonymous: false, isAdmin: false, canonicalId: 'id', canonicalName: 'name' };
    const principals: [string, unknown, object][] = [
      ['more fields', { ...good, extra: { deep: [1] }, isAdmin: true }, { id: 'id', name: 'name', admin: true }],
      ['no name', { ...good, canonicalName: null }, { id: 'id', name: 'id', admin: false }],
      ['no isAdmin', { canonicalId: 'id', isAnonymous: false }, { id: 'id', name: 'id', admin: false }],
      ['isAdmin as text', { ...good, isAdmin: 'true' }, { id: 'id', name: 'name', admin: false }],
      ['no isAnonymous', { canonicalId: 'id', isAdmin: true }, { id: 'id', name: 'id', admin: true }],
      ['an id like __proto__', { ...good, canonicalId: '__proto__' }, { id: '__proto__', name: 'name', admin: false }],
    ];
    for (const [what, body, expected] of principals) {
      it(`answers a principal with ${what}: the caller is accepted`, async () => {
        stack.knobs.bodies = { [principalPath]: body };
        const rest = { orgs: ['acme', 'labs'], organizationIds: idsOf('acme', 'labs') };
        assert.deepEqual(await callers.resolve(bearer()), { ...expected, ...rest });
      });
    }
    const invalid: [string, unknown, object][] = [
      ['no id', { isAnonymous: false, isAdmin: true }, unauthenticated],
      ['an empty id', { ...good, canonicalId: '' }, unauthenticated],
      ['isAnonymous as text', { ...good, isAnonymous: 'false' }, unauthenticated],
      ['an id that is a number', { ...good, canonicalId: 7 }, unavailable],
      ['a list', [good], unavailable],
      ['null', null, unavailable],
      ['megabytes', { ...good, padding: 'x'.repeat(200_000) }, unavailable],
    ];
    for (const [what, body, expected] of invalid) {
      it(`answers a principal with ${what}: the caller is refused`, async () => {
        stack.knobs.bodies = { [principalPath]: body };
        await assert.rejects(callers.resolve(bearer()), expected);
      });
    }

    it('answers organizations with extra, missing or wrong fields: those with a name count', async () => {
      const list = [
        { name: 'b', members: null, id: 7 },
        { name: 'a', extra: 1, id: '2' },
        { name: 'a', id: '1' },
        { name: 'a', id: '' },
        { id: 'x' },
        { name: 7 },
        null,
        { name: '' },
      ];
      stack.knobs.bodies = { [organizationsPath]: list };
      const { orgs, organizationIds } = await callers.resolve(bearer());
      assert.deepEqual(orgs, ['a', 'b']);
      assert.deepEqual([...organizationIds], [['a', ['1', '2']]]);
    });
    for (const body of [{}, { organizations: [] }, 'acme', null, 7]) {
      it(`answers organizations as ${JSON.stringify(body)}: 503`, async () => {
        stack.knobs.bodies = { [organizationsPath]: body };
        await assert.rejects(callers.resolve(bearer()), unavailable);
      });
    }
  });
});
