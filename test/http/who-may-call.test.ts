/** Proves who may call what: checked before a body is read, as the contract, HTTP and RFC 6750 require. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import express from 'express';
import supertest from 'supertest';
import { readBody } from '../../src/http/body.ts';
import { readContract } from '../../src/http/contract.ts';
import { callOf, findCall } from '../../src/http/middleware.ts';
import { contract } from '../support/contract.ts';
import { type Replica, startWorld, type World } from '../support/world.ts';

type Operations = Record<string, Record<string, { security?: unknown[]; responses: Record<string, unknown> }>>;

describe('a call', () => {
  let world: World;
  let replica: Replica;

  before(async () => {
    world = await startWorld();
    world.domino.addUser({ name: 'alice', orgs: ['acme'] });
    replica = await world.startReplica();
  });
  after(() => world.stop());

  const calls = Object.entries(contract.paths as unknown as Operations).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, operation]) => ({ path, method: method.toUpperCase(), ...operation })),
  );
  // POST /map_iam_roles_to_pod_sa has a 403 of its own.
  const forbidden = (responses: Record<string, unknown>) => JSON.stringify(responses[403] ?? '').includes('/Forbidden');

  for (const { method, path, responses, security } of calls) {
    const isForAdmins = forbidden(responses);
    if (!isForAdmins) continue;
    it(`${method} ${path} is refused to a user before its body is parsed`, async () => {
      assert.match(JSON.stringify(security), /admin/);
      const options = { as: 'alice', headers: { 'Content-Type': 'application/json' } };
      const body = method === 'GET' ? {} : { body: '{"not":' };
      const verb = method as 'GET' | 'POST' | 'DELETE';
      assert.equal((await replica.call(verb, path, { ...options, ...body })).status, 403);
    });
  }

  it('without the administrator scope in the contract is one of a fixed list', () => {
    const forUsers = calls.filter(({ security }) => !JSON.stringify(security ?? '').includes('admin'));
    const named = forUsers.map(({ method, path }) => `${method} ${path}`);
    assert.deepEqual(named.sort(), [
      'GET /',
      'GET /console',
      'GET /console/config',
      'GET /docs',
      'GET /healthz',
      'GET /my_access',
      'GET /my_pod_identity',
      'GET /my_role_mappings',
      'GET /openapi.yaml',
      'GET /readyz',
      'POST /map_iam_roles_to_pod_sa',
      'POST /role_tokens',
    ]);
  });

  it('with an unsupported method gets 405 and the supported methods', async () => {
    const allow = async (method: 'GET' | 'PUT' | 'POST' | 'DELETE', path: string, as?: string) => {
      const response = await replica.call(method, path, as === undefined ? {} : { as });
      assert.equal(response.status, 405);
      return response.headers.allow;
    };
    assert.equal(await allow('PUT', '/role_mappings', 'alice'), 'GET, HEAD');
    assert.equal(await allow('GET', '/map_iam_roles_to_pod_sa', 'alice'), 'POST');
    assert.equal(await allow('PUT', '/service_account', 'admin'), 'POST, DELETE');
    assert.equal(await allow('POST', '/healthz'), 'GET, HEAD');
    assert.equal((await replica.call('PUT', '/role_mappings')).status, 401);
  });

  it('with HEAD gets the status and headers of GET, without the body', async () => {
    for (const path of ['/healthz', '/readyz', '/docs', '/my_role_mappings', '/my_access?run_id=1', '/role_mappings']) {
      const headers = { Authorization: `Bearer ${world.domino.token('alice')}` };
      const get = await fetch(`${replica.url}${path}`, { headers });
      const head = await fetch(`${replica.url}${path}`, { headers, method: 'HEAD' });
      assert.equal(head.status, get.status, path);
      assert.equal(head.headers.get('content-type'), get.headers.get('content-type'), path);
      assert.equal(head.headers.get('content-length'), String((await get.arrayBuffer()).byteLength), path);
      assert.equal(await head.text(), '');
    }
    const line = replica.log.find(({ route, method }) => route === '/my_role_mappings' && method === 'HEAD');
    assert.equal(line?.status, 200);
  });

  it('with an unknown query parameter gets 400, also on paths without authentication', async () => {
    for (const path of ['/healthz?x=1', '/readyz?x=1', '/docs?x=1', '/openapi.yaml?x=1']) {
      const response = await replica.call('GET', path);
      assert.equal(response.status, 400, path);
      assert.equal(response.body.code, 'invalid_request');
    }
  });

  it('gets a 401 with error="invalid_token" only where a credential was sent', async () => {
    const challenge = async (headers: Record<string, string>) =>
      (await replica.call('GET', '/my_role_mappings', { headers })).headers['www-authenticate'];
    assert.equal(await challenge({}), 'Bearer realm="irsa-svc"');
    assert.equal(await challenge({ Authorization: 'Bearer x' }), 'Bearer realm="irsa-svc", error="invalid_token"');
    assert.equal(await challenge({ 'X-Domino-Api-Key': 'x' }), 'Bearer realm="irsa-svc", error="invalid_token"');
  });

  it('with two Authorization headers is refused, in either order', async () => {
    const tokens = [world.domino.token('alice'), world.domino.token('admin')];
    for (const [first, second] of [tokens, tokens.toReversed()]) {
      const headers = ['Host', 'irsa', 'Authorization', `Bearer ${first}`, 'authorization', `Bearer ${second}`];
      const call = request(`${replica.url}/my_role_mappings`, { headers }).end();
      const [response] = await once(call, 'response');
      assert.equal(response.statusCode, 401);
      response.resume();
    }
  });

  it('gets an answer with no-store, on each GET with authentication and on a grant', async () => {
    for (const { path, method, security } of calls) {
      if (security?.length === 0 || method !== 'GET') continue;
      for (const as of ['admin', 'alice', undefined]) {
        const response = await replica.call('GET', path, as === undefined ? {} : { as });
        assert.equal(response.headers['cache-control'], 'no-store', `${path} ${response.status}`);
      }
    }
    const grant = await replica.call('POST', '/map_iam_roles_to_pod_sa', { as: 'alice', body: { run_id: 'x' } });
    assert.equal(grant.headers['cache-control'], 'no-store');
  });

  it('has one spelling of its content type in the contract’s check', async () => {
    // The validator never frees what it compiles for a spelling.
    const found = readContract();
    const app = express().use(findCall(found), readBody(callOf));
    app.use((req, res) => void res.json({ type: req.headers['content-type'] ?? null }));
    const seen = async (method: 'get' | 'post', path: string, type: string) =>
      (await supertest(app)[method](path).set('Content-Type', type).send('{}')).body.type;
    assert.equal(await seen('get', '/my_access?run_id=1', 'application/json; x=1'), null);
    assert.equal(await seen('get', '/healthz?x=1', 'text/plain; x=1'), null);
    assert.equal(await seen('post', '/allow_run', 'application/JSON ; Charset="UTF-8"'), 'application/json');
  });
});
