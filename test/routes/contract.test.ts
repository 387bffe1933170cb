import assert from 'node:assert/strict';
import supertest from 'supertest';
import { assertConforms, contract } from '../support/contract.ts';
import { type Replica, startWorld, type World } from '../support/world.ts';

interface Layer {
  route?: { path: string; methods: Record<string, boolean> };
  handle: { stack?: Layer[] };
}

function routesOf(layers: readonly Layer[]): string[] {
  return layers.flatMap(({ route, handle }) => {
    if (!route) return handle.stack ? routesOf(handle.stack) : [];
    return Object.keys(route.methods).map((method) => `${method.toUpperCase()} ${route.path}`);
  });
}

describe('the HTTP contract', () => {
  let world: World;
  let replica: Replica;

  before(async () => {
    world = await startWorld();
    world.domino.addUser({ name: 'alice', orgs: ['acme'] });
    replica = await world.startReplica();
  });
  after(() => world.stop());

  it('names exactly the routes that the service has', () => {
    const { stack } = replica.service.app.router as unknown as { stack: Layer[] };
    // The files of the pages are not calls.
    const isCall = (route: string) => !/^GET \/(docs|console)\//.test(route) || route === 'GET /console/config';
    const served = routesOf(stack).filter(isCall);
    const written = Object.entries(contract.paths).flatMap(([path, operations]) =>
      Object.keys(operations).map((method) => `${method.toUpperCase()} ${path}`),
    );
    assert.deepEqual(served.sort(), written.sort());
  });

  it('is served without a token', async () => {
    const response = await replica.call('GET', '/openapi.yaml');
    assert.equal(response.status, 200);
    assert.match(response.text, /^openapi: 3\.1/);
  });

  it('has a page that loads nothing from other servers', async () => {
    const page = await replica.call('GET', '/docs');
    assert.equal(page.status, 200);
    const sources = [...page.text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, url]) => url as string);
    assert.ok(sources.length >= 3);
    for (const source of sources) {
      assert.ok(!/^(?:https?:)?\/\//.test(source), `${source} is on another server`);
      const asset = await supertest(replica.url).get(`/${source}`);
      assert.equal(asset.status, 200, source);
    }
    assert.match(String(page.headers['content-security-policy']), /script-src 'self'/);
  });

  it('lets clients ask for health and readiness without a token', async () => {
    assert.deepEqual((await replica.call('GET', '/healthz')).body, { status: 'Healthy' });
    const ready = await replica.call('GET', '/readyz');
    assert.equal(ready.status, 200);
    assert.ok(Object.values(ready.body.checks).every((check) => check === true));
  });

  it('has an error for unknown paths, methods and query parameters', async () => {
    const unknown = await replica.call('GET', '/nothing', { as: 'alice' });
    assert.equal(unknown.status, 404);
    assert.equal(unknown.body.code, 'not_found');
    const method = await replica.call('PUT', '/role_mappings', { as: 'admin' });
    assert.equal(method.status, 405);
    assert.equal(method.body.code, 'method_not_allowed');
    const get = await replica.call('GET', '/map_iam_roles_to_pod_sa', { as: 'alice' });
    assert.equal(get.status, 405);
    const query = await replica.call('GET', '/role_mappings?verbose=1', { as: 'admin' });
    assert.equal(query.status, 400);
    assert.equal(query.body.code, 'invalid_request');
  });

  it('has 401 for an unknown path without a credential', async () => {
    const response = await replica.call('GET', '/nothing');
    assert.equal(response.status, 401);
    assert.match(String(response.headers['www-authenticate']), /^Bearer/);
  });

  it('has a request id in each answer: the client’s where it is valid, else a new one', async () => {
    const own = await replica.call('GET', '/healthz', { headers: { 'X-Request-Id': 'notebook-12345' } });
    assert.equal(own.headers['x-request-id'], 'notebook-12345');
    const bad = await replica.call('GET', '/healthz', { headers: { 'X-Request-Id': 'a b<script>' } });
    assert.match(String(bad.headers['x-request-id']), /^[0-9a-f-]{36}$/);
  });

  it('has security headers in its answers, and no X-Powered-By', async () => {
    const { headers } = await replica.call('GET', '/healthz');
    assert.equal(headers['x-powered-by'], undefined);
    assert.equal(headers['x-content-type-options'], 'nosniff');
    assert.ok(headers['strict-transport-security']);
  });

  it('has an error for bodies that are too large, not JSON, of another type, or missing', async () => {
    const post = () => supertest(replica.url).post('/map_iam_roles_to_pod_sa').set(authorization('alice'));
    const large = await post()
      .set('Content-Type', 'application/json')
      .send(`{"run_id":"${'a'.repeat(1_000_000)}"}`);
    assert.equal(large.status, 413);
    assert.equal(large.body.code, 'payload_too_large');
    const broken = await post().set('Content-Type', 'application/json').send('{"run_id":');
    assert.equal(broken.status, 400);
    assert.equal(broken.body.code, 'invalid_request');
    const form = await post().type('form').send({ run_id: 'a' });
    assert.equal(form.status, 415);
    assert.equal(form.body.code, 'unsupported_media_type');
    const none = await post();
    assert.equal(none.status, 400);
    assert.deepEqual(none.body.errors, [{ path: '/body', message: 'missing' }]);
    for (const response of [large, broken, form, none]) assertConforms('POST', '/map_iam_roles_to_pod_sa', response);
  });

  it('has 401 for a large body without a credential', async () => {
    const response = await supertest(replica.url)
      .post('/update_role_mapping')
      .set('Content-Type', 'application/json')
      .send(`"${'a'.repeat(100_000)}"`);
    assert.equal(response.status, 401);
  });

  function authorization(user: string) {
    return { Authorization: `Bearer ${world.domino.token(user)}` };
  }
});

describe('the rate limit', () => {
  let world: World;
  after(() => world.stop());

  it('counts requests per caller, and sends Retry-After', async () => {
    world = await startWorld();
    for (const name of ['alice', 'bob']) world.domino.addUser({ name, orgs: [] });
    const replica = await world.startReplica({ RATE_LIMIT_PER_MINUTE: '3' });
    const ask = (as: string) => replica.call('GET', '/my_role_mappings', { as });
    const statuses = [];
    // Another token of the same user counts as the same caller.
    for (let i = 0; i < 4; i += 1) statuses.push((await ask('alice')).status);
    assert.deepEqual(statuses, [200, 200, 200, 429]);
    const refused = await ask('alice');
    assert.equal(refused.body.code, 'too_many_requests');
    assert.ok(Number(refused.headers['retry-after']) > 0);
    assert.equal((await ask('bob')).status, 200);
    assert.equal((await replica.call('GET', '/healthz')).status, 200);
  });
});
