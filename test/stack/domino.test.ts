/** Proves that the Domino stand-in behaves as Domino does where the service depends on it. */
import assert from 'node:assert/strict';
import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from 'jose';
import { type DominoStandIn, startDomino } from './domino.ts';

describe('Domino stand-in', () => {
  let domino: DominoStandIn;
  beforeEach(async () => {
    domino = await startDomino();
    domino.addUser({ name: 'alice', id: '60faf443e43b3c7a6f5f5eea', orgs: ['acme', 'labs'] });
    domino.addUser({ name: 'root', admin: true });
  });
  afterEach(() => domino.close());

  async function get(path: string, headers: Record<string, string> = {}) {
    const response = await fetch(`${domino.url}${path}`, { headers });
    return { status: response.status, body: JSON.parse(await response.text()) };
  }
  const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

  it('identifies a user by token and by API key', async () => {
    const byToken = await get('/v4/auth/principal', bearer(domino.token('alice')));
    assert.equal(byToken.body.canonicalId, '60faf443e43b3c7a6f5f5eea');
    assert.equal(byToken.body.isAdmin, false);
    const byKey = await get('/v4/auth/principal', { 'x-domino-api-key': domino.user('root').apiKey });
    assert.equal(byKey.body.isAdmin, true);
    const orgs = await get('/v4/organizations/self', bearer(domino.token('alice')));
    assert.deepEqual(
      orgs.body.map(({ name }: { name: string }) => name),
      ['acme', 'labs'],
    );
  });

  it('answers a bad credential with 200 and an anonymous principal', async () => {
    const forged = [
      domino.token('alice', { exp: 1 }),
      domino.token('alice', { alg: 'none' }),
      domino.token('alice', { alg: 'HS256' }),
      domino.token('alice', { signer: 'stranger' }),
      'x',
    ];
    for (const token of forged) {
      const { status, body } = await get('/v4/auth/principal', bearer(token));
      assert.deepEqual([status, body.isAnonymous, body.canonicalId], [200, true, undefined]);
    }
    assert.equal((await get('/v4/auth/principal')).body.isAnonymous, true);
  });

  it('issues tokens that last five minutes and are signed with a published key', async () => {
    const keys = createLocalJWKSet((await get(new URL(domino.jwksUrl).pathname)).body as JSONWebKeySet);
    const { exp = 0, iat = 0, iss } = (await jwtVerify(domino.token('alice'), keys)).payload;
    assert.equal(exp - iat, 300);
    assert.equal(iss, 'https://domino.example.com/auth/realms/DominoRealm');
    const forged = domino.token('alice', { signer: 'stranger' });
    await assert.rejects(jwtVerify(forged, keys), { code: 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED' });
  });

  it('accepts a token of an earlier key only where the rotation keeps that key', async () => {
    const old = domino.token('alice');
    domino.rotateKeys({ keepOld: true });
    assert.equal((await get('/v4/auth/principal', bearer(old))).body.isAnonymous, false);
    domino.rotateKeys();
    assert.equal((await get('/v4/auth/principal', bearer(old))).body.isAnonymous, true);
    assert.equal((await get('/v4/auth/principal', bearer(domino.token('alice')))).body.isAnonymous, false);
  });

  it('accepts users and knobs over HTTP, and counts calls', async () => {
    const post = (path: string, body: unknown) => {
      return fetch(`${domino.url}${path}`, { method: 'POST', body: JSON.stringify(body) });
    };
    assert.equal((await post('/__stack/users', { name: 'bob', orgs: ['acme'] })).status, 201);
    const token = await (await fetch(`${domino.url}/__stack/token?user=bob`)).text();
    assert.equal((await get('/v4/auth/principal', bearer(token))).body.canonicalName, 'bob');
    await post('/__stack/knobs', { failStatus: 502 });
    assert.equal((await get('/v4/auth/principal', bearer(token))).status, 502);
    await post('/__stack/knobs', { failStatus: 0, down: true });
    await assert.rejects(get('/v4/auth/principal'));
    assert.equal((await get('/__stack/calls')).body.counts['GET /v4/auth/principal'], 3);
    assert.equal(domino.callsOf('principal'), 3);
  });
});
