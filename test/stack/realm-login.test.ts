/** Proves that the stand-in realm's login refuses what Keycloak refuses, so that tests find errors of the console. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { FakeClock } from '../support/clock.ts';
import { consoleClientId, type DominoStandIn, startDomino } from './domino.ts';

const redirectUri = 'https://localhost:8443/console';

describe('the login of the stand-in realm', () => {
  let domino: DominoStandIn;
  let clock: FakeClock;
  let paths: { authorization_endpoint: string; token_endpoint: string };
  const verifier = randomBytes(32).toString('base64url');

  beforeEach(async () => {
    clock = new FakeClock();
    domino = await startDomino({ clock, isReachable: true });
    domino.addUser({ name: 'alice' });
    paths = (await (await fetch(`${domino.issuer}/.well-known/openid-configuration`)).json()) as typeof paths;
  });
  afterEach(() => domino.close());

  /** The address to which the browser is redirected. */
  async function authorize(changes: Record<string, string> = {}) {
    const url = new URL(paths.authorization_endpoint);
    url.search = new URLSearchParams({
      client_id: consoleClientId,
      response_type: 'code',
      redirect_uri: redirectUri,
      state: 'a-state',
      code_challenge: createHash('sha256').update(verifier).digest('base64url'),
      code_challenge_method: 'S256',
      username: 'alice',
      ...changes,
    }).toString();
    const response = await fetch(url, { redirect: 'manual' });
    const location = response.headers.get('location');
    return { status: response.status, answer: location === null ? undefined : new URL(location).searchParams };
  }
  const newCode = async () => (await authorize()).answer?.get('code') ?? '';

  async function redeem(code: string, changes: Record<string, string> = {}) {
    const form = {
      grant_type: 'authorization_code',
      client_id: consoleClientId,
      redirect_uri: redirectUri,
      code,
      code_verifier: verifier,
      ...changes,
    };
    return answerTo(form);
  }
  async function answerTo(form: Record<string, string>, headers: Record<string, string> = {}) {
    const response = await fetch(paths.token_endpoint, { method: 'POST', body: new URLSearchParams(form), headers });
    const cors = response.headers.get('access-control-allow-origin');
    return { status: response.status, body: (await response.json()) as Record<string, string>, cors };
  }
  const assertRefused = ({ status, body }: Awaited<ReturnType<typeof redeem>>) => {
    assert.deepEqual([status, body.error], [400, 'invalid_grant']);
    assert.equal(body.access_token, undefined);
  };

  it('gives a token for a code with the verifier of its challenge', async () => {
    const { answer } = await authorize();
    assert.equal(answer?.get('state'), 'a-state');
    const { status, body } = await redeem(answer?.get('code') ?? '');
    assert.deepEqual([status, body.token_type], [200, 'Bearer']);
  });

  for (const [what, changes] of [
    ['another verifier', { code_verifier: randomBytes(32).toString('base64url') }],
    ['no verifier', { code_verifier: '' }],
    ['another redirect_uri', { redirect_uri: `${redirectUri}/` }],
    ['another client', { client_id: 'domino-play' }],
  ] as const) {
    it(`refuses a code with ${what}, and invalidates the code`, async () => {
      const code = await newCode();
      assertRefused(await redeem(code, changes));
      assertRefused(await redeem(code));
    });
  }

  it('refuses another grant', async () => {
    assertRefused(await redeem(await newCode(), { grant_type: 'password' }));
  });

  it('refuses a used code, a code that is a minute old, and an unknown code', async () => {
    const code = await newCode();
    assert.equal((await redeem(code)).status, 200);
    assertRefused(await redeem(code));
    const late = await newCode();
    await clock.advance(60_000);
    assertRefused(await redeem(late));
    assertRefused(await redeem('made-up'));
  });

  const renew = (refresh = '', client = consoleClientId) =>
    answerTo({ grant_type: 'refresh_token', client_id: client, refresh_token: refresh });
  const begin = async () => (await redeem(await newCode())).body.refresh_token;

  it('renews a token only for the client that got it', async () => {
    const first = await begin();
    assertRefused(await renew(first, 'domino-play'));
    assertRefused(await renew('made-up'));
    assert.equal((await renew(first)).status, 200);
  });

  it('accepts a refresh token once, and ends the login when it is used again', async () => {
    const first = await begin();
    const next = await renew(first);
    assert.equal(next.status, 200);
    const again = await renew(first);
    assertRefused(again);
    assert.equal(again.body.error_description, 'Maximum allowed refresh token reuse exceeded');
    const late = await renew(next.body.refresh_token);
    assertRefused(late);
    assert.equal(late.body.error_description, "Session doesn't have required client");
    assert.equal((await renew(await begin())).status, 200, 'a new login is another one');
  });

  it('accepts a refresh token repeatedly where revokeRefreshToken is off', async () => {
    domino.knobs.revokeRefreshToken = false;
    const first = await begin();
    for (let round = 0; round < 3; round += 1) assert.equal((await renew(first)).status, 200);
  });

  it('ends a login after 30 minutes without renewal, and after ten hours in any case', async () => {
    const minutes = (number: number) => clock.advance(number * 60_000);
    const idle = await begin();
    await minutes(30);
    const late = await renew(idle);
    assertRefused(late);
    assert.equal(late.body.error_description, 'Token is not active');
    let token = await begin();
    for (let elapsed = 0; elapsed < 575; elapsed += 25) {
      await minutes(25);
      const { status, body } = await renew(token);
      assert.equal(status, 200, `${elapsed} minutes`);
      token = body.refresh_token;
    }
    const last = await renew(token);
    assert.equal(Number(last.body.refresh_expires_in), 25 * 60, 'the rest of the ten hours');
    await minutes(25);
    assertRefused(await renew(last.body.refresh_token));
  });

  it('allows only the client’s web origins to read answers, also those that are errors', async () => {
    const [own, other] = ['https://localhost:8443', 'https://evil.example'];
    const form = { grant_type: 'refresh_token', client_id: consoleClientId };
    const seen = async (origin: string, more: Record<string, string>) =>
      (await answerTo({ ...form, ...more }, { origin })).cors;
    assert.equal(await seen(own, { refresh_token: String(await begin()) }), own);
    assert.equal(await seen(own, { refresh_token: 'made-up' }), own);
    for (const origin of [other, 'null', `${own}.evil.example`, 'https://localhost.evil.example']) {
      assert.equal(await seen(origin, { refresh_token: String(await begin()) }), null, origin);
    }
    assert.equal(await seen(own, { client_id: 'domino-play' }), null, 'this client does not list that web origin');
  });

  it('answers 400, without a redirect, for an unregistered redirect_uri or another client', async () => {
    const wrong = ['https://evil.example/console', 'https://localhost:8443@evil.example/console'];
    for (const changes of [...wrong.map((uri) => ({ redirect_uri: uri })), { client_id: 'domino-play' }]) {
      assert.deepEqual(await authorize(changes), { status: 400, answer: undefined });
    }
  });

  it('redirects with an error and no code for a missing or plain challenge, or for response_type token', async () => {
    for (const changes of [{ code_challenge: '' }, { code_challenge_method: 'plain' }, { response_type: 'token' }]) {
      const { status, answer } = await authorize(changes);
      assert.deepEqual([status, answer?.get('error'), answer?.get('code')], [302, 'invalid_request', null]);
    }
  });
});
