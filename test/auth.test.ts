/** Proves that a bearer token is believed when, and only when, Domino's realm made it for now and for us. */
import assert from 'node:assert/strict';
import { type Authenticator, type AuthenticatorOptions, createAuthenticator, readCredential } from '../src/auth.ts';
import { ApiError } from '../src/errors.ts';
import { type DominoStandIn, startDomino } from './stack/domino.ts';
import { FakeClock, until } from './support/clock.ts';

/** Asserts an ApiError of `code` with `reason` in its public sentence, and returns it. */
async function refused(promise: Promise<unknown>, code: string, reason: RegExp): Promise<ApiError> {
  const error = await promise.then(
    () => assert.fail('it was believed'),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof ApiError, String(error));
  assert.equal(error.code, code);
  assert.match(error.message, reason);
  return error;
}

describe('auth', () => {
  let clock: FakeClock;
  let domino: DominoStandIn;
  let auth: Authenticator;
  const authenticator = (more: Partial<AuthenticatorOptions> = {}) => {
    return createAuthenticator({ issuer: domino.issuer, jwksUrl: domino.jwksUrl, clock, ...more });
  };
  const seconds = () => Math.floor(clock.now() / 1000);

  beforeEach(async () => {
    clock = new FakeClock();
    domino = await startDomino({ clock });
    domino.addUser({ name: 'alice' });
    auth = authenticator();
  });
  afterEach(() => domino.close());

  describe('a token', () => {
    it('of the realm is believed', async () => {
      assert.deepEqual(await auth.verify(domino.token('alice')), {
        subject: domino.user('alice').subject,
        expiresAt: (seconds() + 300) * 1000,
        issuedAt: seconds() * 1000,
        username: 'alice',
      });
    });

    it('needs no audience unless one is asked for, as a list or as a string', async () => {
      const strict = authenticator({ audience: 'domino-platform' });
      await strict.verify(domino.token('alice'));
      await strict.verify(domino.token('alice', { aud: 'domino-platform' }));
      await refused(strict.verify(domino.token('alice', { aud: 'other' })), 'unauthenticated', /another audience/);
      await refused(strict.verify(domino.token('alice', { claims: { aud: undefined } })), 'unauthenticated', /"aud"/);
      await auth.verify(domino.token('alice', { claims: { aud: undefined } }));
    });

    it('may be off by five seconds, and no more', async () => {
      await auth.verify(domino.token('alice', { exp: seconds() - 4 }));
      await refused(auth.verify(domino.token('alice', { exp: seconds() - 5 })), 'unauthenticated', /expired/);
      await auth.verify(domino.token('alice', { nbf: seconds() + 5 }));
      await refused(auth.verify(domino.token('alice', { nbf: seconds() + 6 })), 'unauthenticated', /not yet valid/);
    });

    it('expires by the clock that was passed in', async () => {
      const token = domino.token('alice');
      await auth.verify(token);
      await clock.advance(306_000);
      await refused(auth.verify(token), 'unauthenticated', /expired/);
    });

    const bad: [string, () => string, RegExp][] = [
      ['that is no token', () => 'nonsense', /malformed/],
      ['of three empty parts', () => '..', /malformed/],
      ['with a header that is no JSON', () => `xx${domino.token('alice')}`, /malformed/],
      ['of another issuer', () => domino.token('alice', { iss: 'https://evil.example.com' }), /another issuer/],
      ['of the same issuer with a slash', () => domino.token('alice', { iss: `${domino.issuer}/` }), /another issuer/],
      ['with no issuer', () => domino.token('alice', { claims: { iss: undefined } }), /"iss"/],
      ['with alg none', () => domino.token('alice', { alg: 'none' }), /algorithm/],
      ['HMACed with the public key', () => domino.token('alice', { alg: 'HS256' }), /algorithm/],
      ['of an unknown key', () => domino.token('alice', { signer: 'stranger', kid: 'made-up' }), /unknown key/],
      ['re-signed under our key id', () => domino.token('alice', { signer: 'stranger' }), /bad signature/],
      ['without exp', () => domino.token('alice', { claims: { exp: undefined } }), /"exp"/],
      ['with exp as text', () => domino.token('alice', { claims: { exp: '2999-01-01' } }), /"exp"/],
      ['without sub', () => domino.token('alice', { claims: { sub: undefined } }), /"sub"/],
      ['with an empty sub', () => domino.token('alice', { claims: { sub: '' } }), /malformed/],
      ['with sub as a number', () => domino.token('alice', { claims: { sub: 7 } }), /malformed/],
      ['with claims swapped in', () => swapPayload(domino.token('alice'), domino.token('mallory')), /bad signature/],
      ['of 16 KiB and more', () => domino.token('alice', { claims: { x: 'x'.repeat(16_384) } }), /longer than/],
    ];
    for (const [what, make, reason] of bad) {
      it(`${what} is refused, and no error shows it`, async () => {
        domino.addUser({ name: 'mallory' });
        const token = make();
        const error = await refused(auth.verify(token), 'unauthenticated', reason);
        const shown = `${error.stack} ${JSON.stringify(error)} ${String(error.cause)}`;
        const parts = token.split('.').filter((part) => part.length > 10);
        for (const part of parts) assert.ok(!shown.includes(part), 'token text in the error');
        assert.doesNotMatch(shown, /alice/);
      });
    }
  });

  describe('the keys', () => {
    it('are fetched once for 50 verifications at the same time, and kept', async () => {
      assert.equal(auth.ready(), false);
      await Promise.all(Array.from({ length: 50 }, () => auth.verify(domino.token('alice'))));
      assert.equal(auth.ready(), true);
      await auth.verify(domino.token('alice'));
      assert.equal(domino.callsOf('certs'), 1);
    });

    it('of a rotation are picked up at once, by one fetch', async () => {
      await auth.verify(domino.token('alice'));
      const old = domino.token('alice');
      await clock.advance(2000);
      domino.rotateKeys();
      await Promise.all(Array.from({ length: 50 }, () => auth.verify(domino.token('alice'))));
      assert.equal(domino.callsOf('certs'), 2);
      await refused(auth.verify(old), 'unauthenticated', /unknown key/);
    });

    it('that are made up cause one fetch in two seconds at most', async () => {
      await auth.verify(domino.token('alice'));
      for (let attempt = 0; attempt < 40; attempt += 1) {
        const forged = domino.token('alice', { kid: `made-up-${attempt}` });
        await refused(auth.verify(forged), 'unauthenticated', /unknown key/);
        await clock.advance(100);
      }
      assert.equal(domino.callsOf('certs'), 2);
    });

    it('that are gone from the realm stop counting within ten minutes', async () => {
      const token = domino.token('alice', { exp: seconds() + 3600 });
      await auth.verify(token);
      domino.rotateKeys();
      await clock.advance(600_001);
      await refused(auth.verify(token), 'unauthenticated', /unknown key/);
    });

    const failures: [string, () => void][] = [
      ['cuts', () => Object.assign(domino.knobs, { down: true })],
      ['fails', () => Object.assign(domino.knobs, { failStatus: 500 })],
      ['answers HTML', () => Object.assign(domino.knobs, { garbage: true })],
      ['answers something else', () => Object.assign(domino.knobs, { failStatus: 302 })],
      ['hangs', () => Object.assign(domino.knobs, { hang: true })],
    ];
    for (const [what, breakIt] of failures) {
      it(`cannot be had when their server ${what}: 503, and fine again after two seconds`, async () => {
        const impatient = authenticator({ fetchTimeoutMs: 50 });
        breakIt();
        const error = await refused(impatient.verify(domino.token('alice')), 'domino_unavailable', /keys/);
        assert.equal(error.status, 503);
        assert.ok(error.cause instanceof Error);
        await refused(impatient.verify(domino.token('alice')), 'domino_unavailable', /keys/);
        assert.equal(domino.callsOf('certs'), 1, 'a failure has a pause too');
        Object.assign(domino.knobs, { down: false, failStatus: 0, garbage: false, hang: false });
        await clock.advance(2000);
        await impatient.verify(domino.token('alice'));
      });
    }

    it('outlast a server that is away for less than an hour; an unknown key is then nobody’s fault', async () => {
      await auth.verify(domino.token('alice'));
      domino.knobs.down = true;
      await clock.advance(30 * 60_000);
      await auth.verify(domino.token('alice'));
      await refused(auth.verify(domino.token('alice', { kid: 'new' })), 'domino_unavailable', /keys/);
      await clock.advance(31 * 60_000);
      await refused(auth.verify(domino.token('alice')), 'domino_unavailable', /keys/);
    });

    it('that still serve wait half a second for a server that hangs, and no longer', async () => {
      await auth.verify(domino.token('alice'));
      domino.knobs.hang = true;
      await clock.advance(11 * 60_000);
      for (let time = 1; time <= 2; time += 1) {
        const verified = auth.verify(domino.token('alice'));
        await until(() => clock.sleeping === 1);
        await clock.advance(500);
        await verified;
      }
      assert.equal(domino.callsOf('certs'), 2, 'one fetch is under way for all');
    });

    it('are fetched at start until it worked', async () => {
      domino.knobs.down = true;
      const warmed = auth.warm();
      for (const [tries, pause] of [500, 1000, 2000].entries()) {
        await until(() => clock.sleeping === 1);
        assert.equal(domino.callsOf('certs'), tries + 1);
        if (pause === 2000) domino.knobs.down = false;
        await clock.advance(pause);
      }
      await warmed;
      assert.equal(auth.ready(), true);
    });

    it('are given up at start when told to', async () => {
      domino.knobs.down = true;
      const stop = new AbortController();
      const warmed = auth.warm(stop.signal);
      await until(() => clock.sleeping === 1);
      stop.abort();
      await warmed;
      assert.equal(auth.ready(), false);
    });
  });

  describe('a request', () => {
    const both = { allowApiKey: true };
    it('carries a bearer token, its scheme in any case', () => {
      for (const scheme of ['Bearer', 'bearer', 'BEARER']) {
        assert.deepEqual(readCredential({ authorization: `${scheme} a.b.c` }, both), {
          kind: 'bearer',
          token: 'a.b.c',
        });
      }
    });
    it('carries an API key, which gives way to a bearer token', () => {
      assert.deepEqual(readCredential({ 'x-domino-api-key': 'k1' }, both), { kind: 'api-key', key: 'k1' });
      const headers = { authorization: 'Bearer a.b.c', 'x-domino-api-key': 'k1' };
      assert.deepEqual(readCredential(headers, both), { kind: 'bearer', token: 'a.b.c' });
    });
    const garbled = [
      {},
      { authorization: '' },
      { authorization: 'Bearer' },
      { authorization: 'Bearer ' },
      { authorization: 'Basic YTpi' },
      { authorization: 'Basic YTpi', 'x-domino-api-key': 'k1' },
      { authorization: 'Bearer a.b.c, Bearer d.e.f' },
      { authorization: 'Bearer a.b.c d.e.f' },
      { authorization: 'Bearer a.b.c\r\nX: y' },
      { 'x-domino-api-key': '' },
      { 'x-domino-api-key': 'k1, k2' },
      { 'x-domino-api-key': ['k1', 'k2'] },
      { 'x-domino-api-key': 'k'.repeat(513) },
    ];
    for (const headers of garbled) {
      it(`with ${JSON.stringify(headers).slice(0, 60)} is refused`, () => {
        assert.throws(() => readCredential(headers, both), { code: 'unauthenticated', status: 401 });
      });
    }
    it('with just an API key is refused where those are not accepted', () => {
      const read = () => readCredential({ 'x-domino-api-key': 'k1' }, { allowApiKey: false });
      assert.throws(read, { code: 'unauthenticated', message: /not accepted/ });
    });
  });
});

function swapPayload(token: string, other: string): string {
  const [header, , signature] = token.split('.');
  return [header, other.split('.')[1], signature].join('.');
}
