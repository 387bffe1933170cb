/** Proves GET / and GET /console/config, and that the console's content security policy is strict. */
import assert from 'node:assert/strict';
import { type Replica, startWorld, type World } from '../support/world.ts';

describe('the console’s routes', () => {
  let world: World;
  let replica: Replica;
  const browser = { Accept: 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8' };

  before(async () => {
    world = await startWorld();
    replica = await world.startReplica();
  });
  after(() => world.stop());

  it('redirect a browser from / to the console by a relative URL, and give other clients JSON', async () => {
    const sent = await replica.call('GET', '/', { headers: browser });
    assert.equal(sent.status, 302);
    assert.equal(sent.headers.location, 'console');
    assert.match(String(sent.headers.vary), /Accept/);
    for (const headers of [{ Accept: '*/*' }, { Accept: 'application/json' }]) {
      const told = await replica.call('GET', '/', { headers });
      assert.equal(told.status, 200);
      assert.equal(told.body.console, 'console');
      assert.match(told.body.version, /^\d+\.\d+\.\d+$/);
    }
  });

  it('give the login settings without a token', async () => {
    const { body } = await replica.call('GET', '/console/config');
    const { version } = (await replica.call('GET', '/')).body;
    assert.deepEqual(body, { issuer: world.domino.issuer, client_id: null, version, runbook_url: null });
    const settings = { CONSOLE_CLIENT_ID: 'irsa-console', RUNBOOK_URL: 'https://wiki.example.com/runbook' };
    const other = await world.startReplica(settings);
    const configured = (await other.call('GET', '/console/config')).body;
    assert.equal(configured.client_id, 'irsa-console');
    assert.equal(configured.runbook_url, 'https://wiki.example.com/runbook');
  });

  it('allow the page to load from its own origin only, and to call the issuer', async () => {
    for (const path of ['/console/config', '/console/any.js', '/CONSOLE/any.js', '/console']) {
      const response = await fetch(`${replica.url}${path}`);
      const policy = String(response.headers.get('content-security-policy'));
      assert.doesNotMatch(policy, /unsafe-|https:(?!\/\/)|data:|\*/, path);
      const directives = new Map(policy.split('; ').map((part) => [part.split(' ')[0], part.split(' ').slice(1)]));
      assert.deepEqual(directives.get('default-src'), ["'self'"]);
      assert.deepEqual(directives.get('connect-src'), ["'self'", new URL(world.domino.issuer).origin]);
      assert.equal(directives.has('script-src'), false);
    }
  });

  it('redirect / to the contract page where the console is off', async () => {
    const without = await world.startReplica({ CONSOLE_ENABLED: 'false' });
    assert.equal((await without.call('GET', '/', { headers: browser })).headers.location, 'docs');
    assert.equal('console' in (await without.call('GET', '/')).body, false);
  });

  it('include a contract with a relative server URL', async () => {
    const { text } = await replica.call('GET', '/openapi.yaml');
    assert.match(text, /^servers:\n {2}- url: \.\/$/m);
  });
});
