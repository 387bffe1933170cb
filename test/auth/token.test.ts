/** Proves that a bearer token is accepted only if Domino's realm issued it, for this audience, and it is valid now. */
import assert from 'node:assert/strict';
import { otherIssuer } from '../../src/auth/realm-issuer.ts';
import {
  type Authenticator,
  type AuthenticatorOptions,
  createAuthenticator,
  readCredential,
} from '../../src/auth/token.ts';
import { ApiError } from '../../src/lib/errors.ts';
import { createLog } from '../../src/lib/log.ts';
import { type DominoStandIn, startDomino } from '../stack/domino.ts';
import { FakeClock, until } from '../support/clock.ts';

/** Asserts an ApiError of `code` with `reason` in its public sentence, and returns it. */
async function refused(promise: Promise<unknown>, code: string, reason: RegExp): Promise<ApiError> {
  const error = await promise.then(
    () => assert.fail('the token was accepted'),
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
    it('of the realm is accepted', async () => {
      assert.deepEqual(await auth.verify(domino.token('alice')), {
        subject: domino.user('alice').subject,
        expiresAt: (seconds() + 300) * 1000,
        issuedAt: seconds() * 1000,
        username: 'alice',
      });
    });

    it('needs an audience only where one is configured, as a list or a string', async () => {
      const strict = authenticator({ audience: 'domino-platform' });
      await strict.verify(domino.token('alice'));
      await strict.verify(domino.token('alice', { aud: 'domino-platform' }));
      await refused(strict.verify(domino.token('alice', { aud: 'other' })), 'unauthenticated', /another audience/);
      await refused(strict.verify(domino.token('alice', { claims: { aud: undefined } })), 'unauthenticated', /"aud"/);
      await auth.verify(domino.token('alice', { claims: { aud: undefined } }));
    });

    it('may be off by up to five seconds in exp and nbf', async () => {
      await auth.verify(domino.token('alice', { exp: seconds() - 4 }));
      await refused(auth.verify(domino.token('alice', { exp: seconds() - 5 })), 'unauthenticated', /expired/);
      await auth.verify(domino.token('alice', { nbf: seconds() + 5 }));
      await refused(auth.verify(domino.token('alice', { nbf: seconds() + 6 })), 'unauthenticated', /not yet valid/);
    });

    it('expires by the given clock', async () => {
      const token = domino.token('alice');
      await auth.verify(token);
      await clock.advance(306_000);
      await refused(auth.verify(token), 'unauthenticated', /expired/);
    });

    it('is accepted with any spelling of the access token type', async () => {
      for (const typ of ['JWT', 'jwt', 'at+jwt', 'application/at+jwt'])
        await auth.verify(domino.token('alice', { typ }));
      for (const typ of ['Bearer', 'bearer', undefined]) await auth.verify(domino.token('alice', { claims: { typ } }));
    });

    it('of Keycloak’s lightweight kind is accepted where it has a subject', async () => {
      const without = ['preferred_username', 'email', 'given_name', 'realm_access', 'user_groups', 'aud'];
      const claims = Object.fromEntries(without.map((name) => [name, undefined]));
      assert.equal((await auth.verify(domino.token('alice', { claims }))).subject, domino.user('alice').subject);
      const bare = domino.token('alice', { claims: { ...claims, sub: undefined } });
      await refused(auth.verify(bare), 'unauthenticated', /"sub"/);
    });

    const bad: [string, () => string, RegExp][] = [
      ['of a single word', () => 'nonsense', /malformed/],
      ['of three empty parts', () => '..', /malformed/],
      ['with a header that is not JSON', () => `xx${domino.token('alice')}`, /malformed/],
      ['of another issuer', () => domino.token('alice', { iss: 'https://evil.example.com' }), /another issuer/],
      ['of the same issuer with a slash', () => domino.token('alice', { iss: `${domino.issuer}/` }), /another issuer/],
      ['with no issuer', () => domino.token('alice', { claims: { iss: undefined } }), /"iss"/],
      ['with alg none', () => domino.token('alice', { alg: 'none' }), /algorithm/],
      ['with an HMAC by the public key', () => domino.token('alice', { alg: 'HS256' }), /algorithm/],
      ['of an unknown key', () => domino.token('alice', { signer: 'stranger', kid: 'made-up' }), /unknown key/],
      [
        'signed by a stranger under the realm’s key id',
        () => domino.token('alice', { signer: 'stranger' }),
        /bad signature/,
      ],
      ['without exp', () => domino.token('alice', { claims: { exp: undefined } }), /"exp"/],
      ['with exp as text', () => domino.token('alice', { claims: { exp: '2999-01-01' } }), /"exp"/],
      ['without sub', () => domino.token('alice', { claims: { sub: undefined } }), /"sub"/],
      ['with an empty sub', () => domino.token('alice', { claims: { sub: '' } }), /malformed/],
      ['with sub as a number', () => domino.token('alice', { claims: { sub: 7 } }), /malformed/],
      [
        'with the claims of another token',
        () => swapPayload(domino.token('alice'), domino.token('mallory')),
        /bad signature/,
      ],
      ['that is an ID token', () => domino.token('alice', { claims: { typ: 'ID' } }), /not an access token/],
      ['that is a refresh token', () => domino.token('alice', { claims: { typ: 'Refresh' } }), /not an access token/],
      ['that is a logout token', () => domino.token('alice', { claims: { typ: 'Logout' } }), /not an access token/],
      ['with a list as typ', () => domino.token('alice', { claims: { typ: ['Bearer'] } }), /not an access token/],
      ['with the header of a logout token', () => domino.token('alice', { typ: 'logout+jwt' }), /not an access token/],
      ['with the header of a DPoP proof', () => domino.token('alice', { typ: 'dpop+jwt' }), /not an access token/],
      ['that is bound by DPoP', () => domino.token('alice', { claims: { cnf: { jkt: 'x' } } }), /bound to a key/],
      ['of Keycloak’s type DPoP', () => domino.token('alice', { claims: { typ: 'DPoP' } }), /bound to a key/],
      [
        'that is bound by mutual TLS',
        () => domino.token('alice', { claims: { cnf: { 'x5t#S256': 'x' } } }),
        /bound to/,
      ],
      ['of 28 KiB and more', () => domino.token('alice', { claims: { x: 'x'.repeat(21_504) } }), /longer than/],
    ];
    for (const [what, make, reason] of bad) {
      it(`${what} is refused, and the error shows no part of it`, async () => {
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
    it('are fetched once for 50 simultaneous verifications, and cached', async () => {
      assert.equal(auth.ready(), false);
      await Promise.all(Array.from({ length: 50 }, () => auth.verify(domino.token('alice'))));
      assert.equal(auth.ready(), true);
      await auth.verify(domino.token('alice'));
      assert.equal(domino.callsOf('certs'), 1);
    });

    it('are fetched once right after a rotation, and tokens of old keys are refused', async () => {
      await auth.verify(domino.token('alice'));
      const old = domino.token('alice');
      await clock.advance(2000);
      domino.rotateKeys();
      await Promise.all(Array.from({ length: 50 }, () => auth.verify(domino.token('alice'))));
      assert.equal(domino.callsOf('certs'), 2);
      const withdrawn = refused(auth.verify(old), 'unauthenticated', /unknown key/);
      await until(() => clock.sleeping === 1);
      await clock.advance(2000);
      await withdrawn;
    });

    it('are fetched at most every two seconds for made-up key ids', async () => {
      await auth.verify(domino.token('alice'));
      const start = clock.monotonic();
      let settled = 0;
      for (let attempt = 0; attempt < 40; attempt += 1) {
        const forged = domino.token('alice', { kid: `made-up-${attempt}` });
        void refused(auth.verify(forged), 'unauthenticated', /unknown key/).then(() => {
          settled += 1;
        });
        await clock.advance(100);
      }
      await until(async () => {
        await clock.advance(100);
        return settled === 40;
      });
      const most = 1 + Math.ceil((clock.monotonic() - start) / 2000);
      assert.ok(domino.callsOf('certs') <= most, `${domino.callsOf('certs')} fetches, ${most} are allowed`);
    });

    it('of a rotation are awaited when a made-up key id has just caused a fetch', async () => {
      await auth.verify(domino.token('alice'));
      await clock.advance(2000);
      await refused(auth.verify(domino.token('alice', { kid: 'made-up' })), 'unauthenticated', /unknown key/);
      domino.rotateKeys();
      const before = domino.callsOf('certs');
      const waiting = Array.from({ length: 50 }, () => auth.verify(domino.token('alice')));
      await until(() => clock.sleeping > 0);
      await clock.advance(1999);
      assert.equal(domino.callsOf('certs'), before, 'no fetch before the two seconds have passed');
      await clock.advance(1);
      assert.equal((await Promise.all(waiting)).length, 50);
      assert.equal(domino.callsOf('certs'), before + 1);
    });

    it('of a rotation just after a fetch are found by the next fetch', async () => {
      await auth.verify(domino.token('alice'));
      await clock.advance(2000);
      domino.knobs.latencyMs = 100;
      const stranger = refused(
        auth.verify(domino.token('alice', { kid: 'made-up' })),
        'unauthenticated',
        /unknown key/,
      );
      await until(() => domino.callsOf('certs') === 2);
      await stranger;
      domino.rotateKeys();
      const verified = auth.verify(domino.token('alice'));
      await until(() => clock.sleeping > 0);
      await clock.advance(2000);
      await verified;
    });

    it('of a rotation while their server fails are fetched two seconds later', async () => {
      await auth.verify(domino.token('alice'));
      await clock.advance(2000);
      domino.rotateKeys();
      domino.knobs.failStatus = 500;
      await refused(auth.verify(domino.token('alice')), 'domino_unavailable', /keys/);
      const before = domino.callsOf('certs');
      await refused(auth.verify(domino.token('alice')), 'domino_unavailable', /keys/);
      assert.equal(domino.callsOf('certs'), before, 'the next fetch waits after a failure too');
      domino.knobs.failStatus = 0;
      await clock.advance(2000);
      await auth.verify(domino.token('alice'));
    });

    it('are awaited by at most 500 of 600 tokens with made-up key ids, for at most two seconds', async () => {
      await auth.verify(domino.token('alice'));
      let settled = 0;
      const all = Array.from({ length: 600 }, (_, n) => {
        const forged = domino
          .token('alice', { kid: `made-up-${n}`, alg: 'none' })
          .replace(/^[^.]+/, headerOf(`k-${n}`));
        return refused(auth.verify(forged), 'unauthenticated', /unknown key/).then(() => {
          settled += 1;
        });
      });
      await until(() => settled === 100);
      await clock.advance(2000);
      await Promise.all(all);
      assert.equal(domino.callsOf('certs'), 2);
    });

    it('that the realm removed are refused after ten minutes', async () => {
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
      it(`are unavailable when their server ${what}: 503, and a new fetch after two seconds`, async () => {
        const impatient = authenticator({ fetchTimeoutMs: 50 });
        breakIt();
        const error = await refused(impatient.verify(domino.token('alice')), 'domino_unavailable', /keys/);
        assert.equal(error.status, 503);
        assert.ok(error.cause instanceof Error);
        await refused(impatient.verify(domino.token('alice')), 'domino_unavailable', /keys/);
        assert.equal(domino.callsOf('certs'), 1, 'the next fetch waits after a failure too');
        Object.assign(domino.knobs, { down: false, failStatus: 0, garbage: false, hang: false });
        await clock.advance(2000);
        await impatient.verify(domino.token('alice'));
      });
    }

    it('are used for up to an hour while their server is down; an unknown key then gets 503', async () => {
      await auth.verify(domino.token('alice'));
      domino.knobs.down = true;
      await clock.advance(30 * 60_000);
      await auth.verify(domino.token('alice'));
      await refused(auth.verify(domino.token('alice', { kid: 'new' })), 'domino_unavailable', /keys/);
      await clock.advance(31 * 60_000);
      await refused(auth.verify(domino.token('alice')), 'domino_unavailable', /keys/);
    });

    it('from the cache are used after half a second when their server hangs', async () => {
      await auth.verify(domino.token('alice'));
      domino.knobs.hang = true;
      await clock.advance(11 * 60_000);
      for (let time = 1; time <= 2; time += 1) {
        const verified = auth.verify(domino.token('alice'));
        await until(() => clock.sleeping === 1);
        await clock.advance(500);
        await verified;
      }
      assert.equal(domino.callsOf('certs'), 2, 'all verifications share one fetch');
    });

    it('are fetched at the start until a fetch succeeds', async () => {
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

    it('are no longer fetched at the start once the signal is aborted', async () => {
      domino.knobs.down = true;
      const stop = new AbortController();
      const warmed = auth.warm(stop.signal);
      await until(() => clock.sleeping === 1);
      stop.abort();
      await warmed;
      assert.equal(auth.ready(), false);
    });
  });

  describe('a problem', () => {
    let lines: Record<string, unknown>[];
    let reasons: string[];
    const watched = (more: Partial<AuthenticatorOptions> = {}) => {
      lines = [];
      reasons = [];
      const log = createLog('debug', { write: (line: string) => void lines.push(JSON.parse(line)) });
      return authenticator({ log, onRefused: (reason) => reasons.push(reason), ...more });
    };

    it('with tokens is logged once a minute for each reason, and counted each time', async () => {
      const one = watched();
      for (let time = 0; time < 5; time += 1) {
        await refused(
          one.verify(domino.token('alice', { iss: 'https://old.example.com' })),
          'unauthenticated',
          /issuer/,
        );
        await refused(one.verify(domino.token('alice', { claims: { typ: 'ID' } })), 'unauthenticated', /access token/);
      }
      assert.deepEqual(reasons.length, 10);
      const warned = lines.filter(({ level, msg }) => level === 'warn' && msg === 'a token was refused');
      assert.deepEqual(
        warned.map(({ reason, token_issuer: named }) => [reason, named]),
        [
          ['issuer', 'https://old.example.com'],
          ['type', undefined],
        ],
      );
      await clock.advance(60_000);
      await refused(one.verify(domino.token('alice', { claims: { typ: 'ID' } })), 'unauthenticated', /access token/);
      assert.equal(lines.at(-1)?.not_logged_before, 4);
    });

    it('with the fetch of the keys is logged with the status and a redirect’s target, without its query', async () => {
      const one = watched();
      Object.assign(domino.knobs, { failStatus: 302, location: '/login?session=secret' });
      await refused(one.verify(domino.token('alice')), 'domino_unavailable', /keys/);
      const [line] = lines.filter(({ level }) => level === 'warn');
      assert.deepEqual([line?.status, line?.location], [302, `${domino.url}/login`]);
      assert.ok(!JSON.stringify(lines).includes('secret'));
    });

    it('of a 2 MB answer of the keys’ server is a 503', async () => {
      const one = watched();
      domino.knobs.bodies = { [new URL(domino.jwksUrl).pathname]: { keys: [], padding: 'x'.repeat(2_000_000) } };
      await refused(one.verify(domino.token('alice')), 'domino_unavailable', /keys/);
    });

    it('with DOMINO_ISSUER is logged once as an error, until a token of that issuer is accepted', async () => {
      const one = watched({ issuer: 'https://wrong.example.com/auth/realms/DominoRealm' });
      const stop = new AbortController();
      let isWarm = false;
      const warmed = one.warm(stop.signal).then(() => {
        isWarm = true;
      });
      await until(() => clock.sleeping === 1);
      assert.deepEqual([one.ready(), one.issuerFits(), isWarm], [true, false, false]);
      const errors = () => lines.filter(({ level }) => level === 'error');
      assert.deepEqual([errors().length, errors()[0]?.realm_issuer], [1, domino.issuer]);
      await clock.advance(1000);
      await until(() => clock.sleeping === 1);
      assert.equal(errors().length, 1);
      // An accepted token shows that the settings fit, even against the realm's document.
      await one.verify(domino.token('alice', { iss: 'https://wrong.example.com/auth/realms/DominoRealm' }));
      assert.equal(one.issuerFits(), true);
      await clock.advance(2000);
      await warmed;
      stop.abort();
    });

    it('with tokens of another issuer keeps the replica ready', async () => {
      const one = watched();
      await one.warm();
      for (let time = 0; time < 20; time += 1) {
        await refused(
          one.verify(domino.token('alice', { iss: 'https://evil.example.com' })),
          'unauthenticated',
          /issuer/,
        );
      }
      assert.deepEqual([one.ready(), one.issuerFits()], [true, true]);
    });

    const inner = 'http://keycloak-http.domino-platform.svc.cluster.local/auth/realms/DominoRealm/.well-known/x';
    const outer = 'https://domino.example.com/auth/realms/DominoRealm';
    const verdicts: [string, string, 'same' | 'other' | 'unknown'][] = [
      ['the configured name', outer, 'same'],
      ['another host', 'https://other.example.com/auth/realms/DominoRealm', 'other'],
      ['a slash at the end', `${outer}/`, 'other'],
      ['http for https', outer.replace('https', 'http'), 'other'],
      [
        'the host of the request',
        'http://keycloak-http.domino-platform.svc.cluster.local:80/auth/realms/DominoRealm',
        'unknown',
      ],
      [
        'that host with another realm',
        'http://keycloak-http.domino-platform.svc.cluster.local/auth/realms/master',
        'other',
      ],
      ['a word that is not a URL', 'realm', 'other'],
    ];
    for (const [what, said, expected] of verdicts) {
      it(`with a realm that names ${what} as its issuer: ${expected}`, () => {
        assert.equal(otherIssuer(said, outer, inner), expected === 'other' ? said : undefined);
      });
    }
  });

  describe('a request', () => {
    const both = { allowApiKey: true };
    it('carries a bearer token, with the scheme in any case', () => {
      for (const scheme of ['Bearer', 'bearer', 'BEARER']) {
        assert.deepEqual(readCredential({ authorization: `${scheme} a.b.c` }, both), {
          kind: 'bearer',
          token: 'a.b.c',
        });
      }
    });
    it('carries an API key, over which a bearer token takes precedence', () => {
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
    it('with only an API key is refused where those are not accepted', () => {
      const read = () => readCredential({ 'x-domino-api-key': 'k1' }, { allowApiKey: false });
      assert.throws(read, { code: 'unauthenticated', message: /not accepted/ });
    });
  });
});

function headerOf(kid: string): string {
  return Buffer.from(JSON.stringify({ alg: 'RS256', typ: 'JWT', kid })).toString('base64url');
}

function swapPayload(token: string, other: string): string {
  const [header, , signature] = token.split('.');
  return [header, other.split('.')[1], signature].join('.');
}
