/** Proves that bodies are read only for permitted callers, and only up to the call's limit. */
import assert from 'node:assert/strict';
import { metricsHandler } from '../../src/http/metrics.ts';
import { type Listening, listen } from '../../src/http/server.ts';
import { createLog } from '../../src/lib/log.ts';
import { until } from '../support/clock.ts';
import { contract } from '../support/contract.ts';
import { connectRaw } from '../support/raw.ts';
import { type Replica, startWorld, type World } from '../support/world.ts';

const gigabytes = 4 * 1024 ** 3;
const arn = (name: string) => `arn:aws:iam::111111111111:role/${'p'.repeat(510)}/${name.padEnd(64, 'x')}`;

describe('the body of a request', () => {
  let world: World;
  let replica: Replica;
  let server: Listening;

  before(async () => {
    world = await startWorld();
    world.domino.addUser({ name: 'alice', orgs: ['acme'] });
    replica = await world.startReplica();
    const address = { host: '127.0.0.1', port: 0, maxConnections: 100 };
    server = await listen(replica.service.app, address, undefined, createLog('silent'));
  });
  after(async () => {
    await server.drain(0);
    await world.stop();
  });

  /** Sends a request whose body continues as long as the server accepts it. @returns the answer, and the bytes sent. */
  async function flood(path: string, headers: Record<string, string>, method = 'POST', port = server.port) {
    const { socket, answer, ended } = connectRaw(port);
    const lines = Object.entries({ Host: 'irsa', 'Content-Type': 'application/json', ...headers });
    socket.write(`${method} ${path} HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`);
    const piece = Buffer.alloc(64 * 1024, ' ');
    const chunked = 'Transfer-Encoding' in headers;
    const more = () => {
      while (!ended() && socket.writable) {
        const isTaken = chunked ? socket.write(`${piece.length.toString(16)}\r\n${piece}\r\n`) : socket.write(piece);
        if (!isTaken) return;
      }
    };
    socket.on('drain', more);
    more();
    const found = await answer();
    await until(ended);
    socket.destroy();
    return { ...found, sent: socket.bytesWritten };
  }
  const bearer = (user: string) => ({ Authorization: `Bearer ${world.domino.token(user)}` });
  const chunked = { 'Transfer-Encoding': 'chunked' };
  const declared = { 'Content-Length': String(gigabytes) };

  const floods: [string, string, () => Record<string, string>, number][] = [
    ['without a credential', '/update_multirole_mapping', () => declared, 401],
    ['without a credential, in chunks', '/update_multirole_mapping', () => chunked, 401],
    [
      'from a user for an administrator’s call',
      '/update_multirole_mapping',
      () => ({ ...declared, ...bearer('alice') }),
      403,
    ],
    ['from a user', '/map_iam_roles_to_pod_sa', () => ({ ...declared, ...bearer('alice') }), 413],
    ['from a user, in chunks', '/map_iam_roles_to_pod_sa', () => ({ ...chunked, ...bearer('alice') }), 413],
    ['from an administrator, in chunks', '/update_multirole_mapping', () => ({ ...chunked, ...bearer('admin') }), 413],
    ['for an unknown path', '/nothing', () => ({ ...declared, ...bearer('alice') }), 404],
    ['for a path without POST', '/healthz', () => declared, 405],
  ];
  for (const [what, path, headers, status] of floods) {
    it(`of gigabytes ${what} gets ${status}, and its connection ends`, async () => {
      const found = await flood(path, headers());
      assert.equal(found.status, status, found.text);
      assert.equal(found.headers.connection, 'close');
      assert.equal(JSON.parse(found.body).status, status);
      assert.ok(found.sent < 64 * 1024 ** 2, `${found.sent} bytes were accepted`);
    });
  }

  it('of gigabytes to a GET is cut after the answer', async () => {
    const found = await flood('/healthz', declared, 'GET');
    assert.equal(found.status, 200);
    assert.ok(found.sent < 64 * 1024 ** 2, `${found.sent} bytes were accepted`);
  });

  it('of gigabytes to the metrics server is cut as well', async () => {
    const address = { host: '127.0.0.1', port: 0, maxConnections: 100 };
    const metrics = await listen(metricsHandler(replica.metrics), address, undefined, createLog('silent'));
    for (const [path, method, status] of [
      ['/metrics', 'POST', 404],
      ['/metrics', 'GET', 200],
      ['/other', 'GET', 404],
    ] as const) {
      const found = await flood(path, declared, method, metrics.port);
      assert.equal(found.status, status);
      assert.ok(found.sent < 64 * 1024 ** 2, `${found.sent} bytes were accepted`);
    }
    await metrics.drain(0);
  });

  it('gets 100 Continue only with a valid credential', async () => {
    const text = JSON.stringify({ run_id: 'x' });
    const head = (more: string) =>
      `POST /map_iam_roles_to_pod_sa HTTP/1.1\r\nHost: irsa\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: ${text.length}\r\n${more}\r\n`;
    const stranger = connectRaw(server.port);
    stranger.socket.write(head(''));
    assert.equal((await stranger.answer()).status, 401);
    const known = connectRaw(server.port);
    known.socket.write(head(`Authorization: Bearer ${world.domino.token('alice')}\r\n`));
    await until(() => known.received() === 'HTTP/1.1 100 Continue\r\n\r\n');
    known.socket.write(text);
    await until(() => known.received().includes('HTTP/1.1 400 Bad Request'));
    for (const { socket } of [stranger, known]) socket.destroy();
  });

  it('that was sent completely and refused keeps the connection open', async () => {
    const { socket, answer, ended } = connectRaw(server.port);
    const head = 'POST /map_iam_roles_to_pod_sa HTTP/1.1\r\nHost: irsa\r\nContent-Type: application/json\r\n';
    socket.write(`${head}Content-Length: 2\r\n\r\n{}`);
    const { status, headers } = await answer();
    assert.equal(status, 401);
    assert.equal(headers.connection, 'keep-alive');
    assert.equal(ended(), false);
    socket.destroy();
  });

  it('is limited to 2 KiB for a call that takes only a run id', async () => {
    const ask = (bytes: number) =>
      replica.call('POST', '/map_iam_roles_to_pod_sa', {
        as: 'alice',
        body: { run_id: 'x'.repeat(bytes - '{"run_id":""}'.length) },
      });
    assert.equal((await ask(2048)).status, 400);
    assert.equal((await ask(2049)).status, 413);
  });

  it('may be a hundred mappings of the longest names', async () => {
    const domino_org = 'o'.repeat(253);
    const entry = (index: number) => ({
      domino_org,
      iam_role_arn: arn(`t${index}`),
      proxy_iam_role_arn: arn(`p${index}`),
      update_iam_role_trust_policy: 'false',
    });
    const body = { domino_org, role_data: Array.from({ length: 100 }, (_, index) => entry(index)) };
    // Indented like a hand-edited file, and with escaped slashes, as some programs write them.
    const text = JSON.stringify(body, null, 4).replaceAll('/', '\\/');
    const response = await fetch(`${replica.url}/update_multirole_mapping?dry_run=true`, {
      method: 'POST',
      headers: { ...bearer('admin'), 'Content-Type': 'application/json; charset=utf-8' },
      body: text,
    });
    assert.equal(response.status, 200, await response.text());
  });

  const numbered = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, index) => [`k${index}`, 0]));
  const oversized: [string, object][] = [
    ['a far too long list', { role_data: Array.from({ length: 50_000 }, () => ({})) }],
    ['far too many fields', numbered(20_000)],
    ['an entry with far too many fields', { role_data: [numbered(20_000)] }],
    ['lists in lists', { role_data: Array.from({ length: 3000 }, () => ['"', ',\\', []]) }],
  ];
  for (const [what, body] of oversized) {
    it(`with ${what} is refused with one error`, async () => {
      const response = await replica.call('POST', '/update_multirole_mapping', { as: 'admin', body });
      assert.equal(response.status, 400);
      const errors = [{ path: '/body', message: 'must NOT have more than 2000 values' }];
      assert.deepEqual(response.body.errors, errors);
    });
  }

  it('is limited by its number of values, in which brackets and commas within strings do not count', async () => {
    const { target, proxies } = world.addRolePair('acme');
    const reason = `${'\\",{[,'.repeat(40)}x`;
    const body = { domino_org: 'acme', role_data: [{ iam_role_arn: target, proxy_iam_role_arn: proxies[0] }] };
    const dry = await replica.call('POST', '/update_multirole_mapping?dry_run=true', { as: 'admin', body });
    assert.equal(dry.status, 200);
    const revoked = { run_id: '6'.repeat(24), reason };
    assert.equal((await replica.call('POST', '/revoke_run', { as: 'admin', body: revoked })).status, 404);
    const strings = { domino_org: 'acme', role_data: [{ iam_role_arn: '[,{\\"'.repeat(5000) }] };
    const response = await replica.call('POST', '/update_multirole_mapping', { as: 'admin', body: strings });
    assert.ok(response.body.errors.length > 1);
  });

  it('of a valid size gets an error for each wrong field', async () => {
    const body = { domino_org: 'a b', role_data: [{}, { misspelt: 1 }] };
    const response = await replica.call('POST', '/update_multirole_mapping', { as: 'admin', body });
    assert.equal(response.body.errors.length, 6);
  });

  for (const type of ['application/json; charset=utf-16', `application/json${';'.repeat(10_000)}`, 'text/json']) {
    it(`of the type ${type.slice(0, 40)} is refused`, async () => {
      const headers = { 'Content-Type': type };
      const call = { as: 'alice', headers, body: '{}' };
      const began = performance.now();
      assert.equal((await replica.call('POST', '/map_iam_roles_to_pod_sa', call)).status, 415);
      assert.ok(performance.now() - began < 5000);
    });
  }

  it('that is compressed is refused', async () => {
    const headers = { 'Content-Type': 'application/json', 'Content-Encoding': 'gzip' };
    const response = await replica.call('POST', '/map_iam_roles_to_pod_sa', { as: 'alice', headers, body: '{}' });
    assert.equal(response.status, 415);
  });

  it('has a maximum length for each list in the contract', () => {
    const text = JSON.stringify(contract.components);
    const { schemas } = JSON.parse(text) as { schemas: Record<string, unknown> };
    const lists = (value: unknown): object[] => {
      if (typeof value !== 'object' || value === null) return [];
      const own = (value as { type?: unknown }).type === 'array' ? [value] : [];
      return [...own, ...Object.values(value).flatMap(lists)];
    };
    const requests = Object.keys(schemas).filter((name) => /(Update|Request|Reference|Deletion|Release)$/.test(name));
    assert.ok(requests.length >= 7);
    for (const name of requests) {
      for (const list of lists(schemas[name])) assert.ok('maxItems' in list, `${name}: ${JSON.stringify(list)}`);
    }
  });
});
