/** Proves GET / and GET /console/config, and the policy of the console's page: nothing in it is unsafe or from elsewhere. */
import assert from 'node:assert/strict';
import { type Replica, startWorld, type World } from '../support/world.ts';

describe('the way to the console', () => {
  let world: World;
  let replica: Replica;
  const browser = { Accept: 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8' };

  before(async () => {
    world = await startWorld();
    replica = await world.startReplica();
  });
  after(() => world.stop());

  it('leads a browser to the page, by a relative address, and others to where things are', async () => {
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

  it('tells how to log in, before anybody has', async () => {
    const { body } = await replica.call('GET', '/console/config');
    const { version } = (await replica.call('GET', '/')).body;
    assert.deepEqual(body, { issuer: world.domino.issuer, client_id: null, version, runbook_url: null });
    const settings = { CONSOLE_CLIENT_ID: 'irsa-console', RUNBOOK_URL: 'https://wiki.example.com/runbook' };
    const other = await world.startReplica(settings);
    const configured = (await other.call('GET', '/console/config')).body;
    assert.equal(configured.client_id, 'irsa-console');
    assert.equal(configured.runbook_url, 'https://wiki.example.com/runbook');
  });

  it('lets the page load from here alone, and call the issuer besides', async () => {
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

  it('leads to the contract where the console is turned off', async () => {
    const without = await world.startReplica({ CONSOLE_ENABLED: 'false' });
    assert.equal((await without.call('GET', '/', { headers: browser })).headers.location, 'docs');
    assert.equal('console' in (await without.call('GET', '/')).body, false);
  });

  it('reaches the contract page from whatever address: its calls are relative', async () => {
    const { text } = await replica.call('GET', '/openapi.yaml');
    assert.match(text, /^servers:\n {2}- url: \.\/$/m);
  });
});
