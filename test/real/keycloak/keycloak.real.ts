/** Proves which tokens of a real Keycloak the service accepts, also when keys change or Keycloak is unreachable. */
import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { startTcpGate, type TcpGate } from '../../stack/tcp-gate.ts';
import { until } from '../../support/clock.ts';
import { freePort } from '../../support/free-port.ts';
import { type Replica, startWorld, type World } from '../../support/world.ts';
import { skipLoudly, Unavailable } from '../tools.ts';
import { type Keycloak, startKeycloak } from './keycloak.ts';
import { type KeycloakRealm, makeRealm } from './realms.ts';

describe('Keycloak 26.7.3', function () {
  this.timeout(600_000);
  let keycloak: Keycloak;
  let world: World;
  let logouts: Server;
  let told: string[];
  let logoutUrl: string;
  let main: KeycloakRealm;
  let replica: Replica;

  before(async function () {
    try {
      keycloak = await startKeycloak();
    } catch (error) {
      if (error instanceof Unavailable) skipLoudly(this, error.message);
      throw error;
    }
    told = [];
    logouts = createServer((request, response) => {
      let body = '';
      request.setEncoding('utf8').on('data', (chunk: string) => {
        body += chunk;
      });
      request.on('end', () => {
        told.push(new URLSearchParams(body).get('logout_token') ?? '');
        response.end();
      });
    });
    await new Promise<void>((resolve) => logouts.listen(0, '127.0.0.1', resolve));
    logoutUrl = `http://127.0.0.1:${(logouts.address() as AddressInfo).port}/logout`;
    world = await startWorld();
    // Domino's own part: it answers each token with alice.
    const { id } = world.domino.addUser({ name: 'alice', orgs: ['acme'] });
    const principal = { isAnonymous: false, isAdmin: false, canonicalId: id, canonicalName: 'alice', mode: 'Bearer' };
    world.domino.knobs.bodies['/v4/auth/principal'] = { ...principal, allowedSystemOperations: [] };
    world.domino.knobs.bodies['/v4/organizations/self'] = [];
    main = await makeRealm(keycloak, 'main', logoutUrl);
    replica = await believing(main);
  });
  after(async () => {
    await world?.stop();
    logouts?.close();
    await keycloak?.stop();
  });

  const certs = (realm: KeycloakRealm, port = keycloak.port) =>
    `http://127.0.0.1:${port}/realms/${realm.name}/protocol/openid-connect/certs`;
  /** A replica that accepts this realm's tokens. */
  const believing = (realm: KeycloakRealm, more: Record<string, string> = {}) =>
    world.startReplica({ DOMINO_ISSUER: realm.issuer, DOMINO_JWKS_URL: certs(realm), ...more });
  /** The service's answer to the token: `ok`, or the status and detail of the refusal. */
  async function verdict(token: string, of = replica): Promise<string> {
    const answer = await of.call('GET', '/my_role_mappings', { headers: { Authorization: `Bearer ${token}` } });
    if (answer.status === 200) return 'ok';
    return `${answer.status} ${(answer.body as { detail: string }).detail}`;
  }
  const headerOf = (token: string) =>
    JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString()) as { alg: string; kid: string };
  const claimsOf = (token: string) =>
    JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as Record<string, unknown>;
  const notAccess = '401 The token is not an access token: send the one that Domino gives as access token.';

  it('an access token of a user and one of a service account are accepted', async () => {
    const { access_token: token } = await main.login();
    assert.equal(headerOf(token).alg, 'RS256');
    assert.equal(await verdict(token), 'ok');
    assert.equal(await verdict(await main.robot()), 'ok');
  });

  it('an ID token, a refresh token and a logout token are refused', async () => {
    const tokens = await main.login('told');
    assert.equal(await verdict(tokens.access_token), 'ok');
    assert.equal(await verdict(tokens.id_token), notAccess);
    assert.equal(headerOf(tokens.refresh_token).alg, 'HS512');
    assert.match(await verdict(tokens.refresh_token), /^401 The token is signed with an algorithm that is not allowed/);
    await main.logout(tokens);
    await until(() => told.length > 0, 30_000);
    assert.match(await verdict(told[0] ?? ''), /^401 The token (is not an access token|carries no valid)/);
  });

  it('a lightweight access token is accepted where it names its subject', async () => {
    const { access_token: token } = await main.login('lightweight');
    const claims = claimsOf(token);
    assert.equal(claims.preferred_username, undefined);
    assert.equal(await verdict(token), claims.sub === undefined ? '401 The token carries no valid "sub" claim.' : 'ok');
  });

  for (const algorithm of ['ES256', 'PS256']) {
    it(`an access token signed with ${algorithm} is accepted for its own realm, and an ID token is not`, async () => {
      const realm = await makeRealm(keycloak, algorithm.toLowerCase(), logoutUrl, { algorithm });
      const { access_token: token, id_token: id } = await realm.login();
      assert.equal(headerOf(token).alg, algorithm);
      const own = await believing(realm);
      assert.equal(await verdict(token, own), 'ok');
      assert.equal(await verdict(id, own), notAccess);
      assert.match(await verdict(token), /^401 The token is signed with an unknown key/);
      await own.stop();
    });
  }

  it('tokens of new and passive keys are accepted, and those of disabled keys are refused', async () => {
    const realm = await makeRealm(keycloak, 'rotating', logoutUrl);
    await realm.rotateKeys('first');
    const own = await believing(realm);
    const old = (await realm.login()).access_token;
    assert.equal(await verdict(old, own), 'ok');
    await realm.rotateKeys('second');
    await realm.setKey('first', 'passive');
    world.clock.skip(3_000);
    const fresh = (await realm.login()).access_token;
    assert.notEqual(headerOf(fresh).kid, headerOf(old).kid);
    assert.equal(await verdict(fresh, own), 'ok');
    world.clock.skip(40_000);
    assert.equal(await verdict(old, own), 'ok');
    await realm.setKey('first', 'disabled');
    // The keys are fetched anew when they are ten minutes old.
    world.clock.skip(11 * 60_000);
    await until(async () => (await verdict(old, own)) !== 'ok', 30_000);
    assert.match(await verdict(old, own), /^401 The token is signed with an unknown key/);
    assert.equal(await verdict((await realm.login()).access_token, own), 'ok');
    await own.stop();
  });

  it('the frontend URL is the issuer, and a replica with another DOMINO_ISSUER logs the realm’s issuer', async () => {
    const frontendUrl = 'https://domino.example.com/auth';
    const realm = await makeRealm(keycloak, 'fronted', logoutUrl, { frontendUrl });
    const { access_token: token } = await realm.login();
    assert.equal(claimsOf(token).iss, `${frontendUrl}/realms/fronted`);
    const own = await believing(realm);
    assert.equal(await verdict(token, own), 'ok');
    await own.stop();
    const inner = `${keycloak.url}/realms/fronted`;
    const count = world.replicas.length;
    void believing(realm, { DOMINO_ISSUER: inner }).catch(() => undefined);
    await until(() => world.replicas.length > count);
    const wrong = world.replicas[count] as Replica;
    const isFoundOut = () => wrong.log.some(({ realm_issuer: issuer }) => issuer === realm.issuer);
    await until(isFoundOut, 30_000);
    assert.match(await verdict(token, wrong), /^401 The token comes from another issuer/);
    await wrong.stop();
  });

  it('while Keycloak is unreachable, fetched keys remain valid and tokens of unknown keys get a 503', async () => {
    const frontendUrl = 'https://domino.example.com/auth';
    const realm = await makeRealm(keycloak, 'away', logoutUrl, { frontendUrl });
    await realm.rotateKeys('first');
    const old = (await realm.login()).access_token;
    const port = await freePort();
    const count = world.replicas.length;
    const starting = believing(realm, { DOMINO_JWKS_URL: certs(realm, port) });
    await until(() => world.replicas.length > count);
    const own = world.replicas[count] as Replica;
    assert.equal((await own.call('GET', '/readyz')).status, 503);
    assert.match(await verdict(old, own), /^503 Domino's token keys cannot be had/);
    let gate: TcpGate = await startTcpGate(keycloak.port, port);
    await starting;
    world.clock.skip(3_000);
    assert.equal(await verdict(old, own), 'ok');
    await gate.close();
    world.clock.skip(3_000);
    assert.equal(await verdict(old, own), 'ok');
    await realm.rotateKeys('second');
    const fresh = (await realm.login()).access_token;
    assert.notEqual(headerOf(fresh).kid, headerOf(old).kid);
    assert.match(await verdict(fresh, own), /^503 Domino's token keys cannot be had/);
    gate = await startTcpGate(keycloak.port, port);
    world.clock.skip(3_000);
    assert.equal(await verdict(fresh, own), 'ok');
    await gate.close();
    await own.stop();
  });
});
