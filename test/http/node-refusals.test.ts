/** Proves that requests which Node itself refuses get a problem answer, and that the time limits of requests hold. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { type Listening, listen, serverLimits } from '../../src/http/server.ts';
import { createLog } from '../../src/lib/log.ts';
import { makeCertificate } from '../stack/processes.ts';
import { until } from '../support/clock.ts';
import { assertConforms } from '../support/contract.ts';
import { connectRaw, type RawAnswer, type RawConnection } from '../support/raw.ts';
import { type Replica, startWorld, type World } from '../support/world.ts';

const log = createLog('silent');
const address = { host: '127.0.0.1', port: 0, maxConnections: 100 };

describe('a request that Node refuses', () => {
  let world: World;
  let replica: Replica;
  let server: Listening;
  let hurried: Listening;

  before(async () => {
    world = await startWorld();
    world.domino.addUser({ name: 'alice', orgs: ['acme'] });
    replica = await world.startReplica();
    server = await listen(replica.service.app, address, undefined, log);
    // A fiftieth of the real limits.
    const limits = { headersTimeout: 200, requestTimeout: 600, connectionsCheckingInterval: 20 };
    hurried = await listen(replica.service.app, { ...address, limits }, undefined, log);
  });
  after(async () => {
    await Promise.all([server.drain(0), hurried.drain(0)]);
    await world.stop();
  });

  function assertProblem({ status, headers, body, text }: RawAnswer, expected: number, code: string) {
    assert.equal(status, expected, text);
    const problem = JSON.parse(body) as Record<string, unknown>;
    assert.equal(problem.code, code);
    assert.equal(problem.status, expected);
    assert.match(String(headers['x-request-id']), /^[0-9a-f-]{36}$/);
    assert.equal(problem.request_id, headers['x-request-id']);
    assert.equal(headers['cache-control'], 'no-store');
    // For an unknown path, the answer must conform to the contract's Problem.
    assertConforms('GET', '/not-there', { status, headers, body: problem, text: body } as never);
  }

  const get = 'GET /healthz HTTP/1.1\r\nHost: irsa\r\n';
  const refused: [string, string, number, string][] = [
    ['another protocol', 'hello\r\n\r\n', 400, 'invalid_request'],
    ['a header without a colon', `${get}oops\r\n\r\n`, 400, 'invalid_request'],
    ['no Host', 'GET /healthz HTTP/1.1\r\n\r\n', 400, 'invalid_request'],
    ['two Hosts', `${get}Host: other\r\n\r\n`, 400, 'invalid_request'],
    ['headers of 33 KiB', `${get}X-Long: ${'x'.repeat(33 * 1024)}\r\n\r\n`, 431, 'headers_too_large'],
    ['another Expect', `${get}Expect: a miracle\r\n\r\n`, 417, 'expectation_failed'],
  ];
  for (const [what, sent, status, code] of refused) {
    it(`with ${what} gets ${status} and a problem`, async () => {
      const { socket, answer, ended } = connectRaw(server.port);
      socket.write(sent);
      assertProblem(await answer(), status, code);
      if (!what.includes('Host')) await until(ended);
      socket.destroy();
    });
  }

  it('with too long chunk extensions gets 413 and a problem', async () => {
    const known = connectRaw(server.port);
    const head = `POST /map_iam_roles_to_pod_sa HTTP/1.1\r\nHost: irsa\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer ${world.domino.token('alice')}\r\n\r\n`;
    known.socket.write(head);
    known.socket.write(`1;${'x'.repeat(17 * 1024)}\r\n`);
    assertProblem(await known.answer(), 413, 'payload_too_large');
    known.socket.destroy();
  });

  it('is not one with the 18 KiB token of a user with 420 realm roles', async () => {
    const roles = Array.from({ length: 420 }, (_, index) => `domino-project-collaborator-${index}-x`);
    const token = world.domino.token('alice', { claims: { realm_access: { roles } } });
    assert.ok(token.length > 18 * 1024, `${token.length}`);
    const { socket, answer } = connectRaw(server.port);
    socket.write(`GET /my_role_mappings HTTP/1.1\r\nHost: irsa\r\nAuthorization: Bearer ${token}\r\n\r\n`);
    const found = await answer();
    assert.equal(found.status, 200, found.text);
    socket.destroy();
  });

  it('whose headers or body do not arrive in time gets 408 and a problem', async () => {
    // How often Node checks the limits decides how well they are kept.
    assert.ok(serverLimits.connectionsCheckingInterval <= 1000);
    assert.equal(serverLimits.headersTimeout, 10_000);
    assert.equal(serverLimits.requestTimeout, 30_000);
    const silent = connectRaw(hurried.port);
    const slow = connectRaw(hurried.port);
    slow.socket.write(get);
    const half = connectRaw(hurried.port);
    const token = world.domino.token('alice');
    half.socket.write(
      `POST /map_iam_roles_to_pod_sa HTTP/1.1\r\nHost: irsa\r\nContent-Type: application/json\r\nAuthorization: Bearer ${token}\r\nContent-Length: 10\r\n\r\n{`,
    );
    const began = performance.now();
    for (const one of [silent, slow, half]) {
      assertProblem(await one.answer(), 408, 'request_timeout');
      await until(one.ended);
    }
    assert.ok(performance.now() - began < 5000);
  });
});

describe('the limit of connections', () => {
  let server: Listening;
  afterEach(() => server.drain(0));

  it('closes the longest idle connection for a new caller', async () => {
    const handler = (_req: unknown, res: { end(text: string): void }) => res.end('ok');
    server = await listen(handler, { ...address, maxConnections: 5 }, undefined, log);
    const idle: RawConnection[] = [];
    for (let count = 0; count < 5; count += 1) {
      const one = connectRaw(server.port);
      await new Promise((resolve) => one.socket.once('connect', resolve));
      idle.push(one);
    }
    for (let count = 0; count < 3; count += 1) {
      const response = await fetch(`http://127.0.0.1:${server.port}/`, { headers: { connection: 'close' } });
      assert.equal(await response.text(), 'ok');
    }
    await until(() => idle[0]?.ended() === true);
    assert.equal(idle[4]?.ended(), false);
    for (const { socket } of idle) socket.destroy();
  });

  it('applies to connections that never finish their TLS handshake, and to idle ones after it', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'irsa-cap-'));
    const { cert, key } = makeCertificate();
    const files = { certFile: join(folder, 'tls.crt'), keyFile: join(folder, 'tls.key'), onReload: () => undefined };
    writeFileSync(files.certFile, cert);
    writeFileSync(files.keyFile, key);
    const handler = (_req: unknown, res: { end(text: string): void }) => res.end('ok');
    server = await listen(handler, { ...address, maxConnections: 4 }, files, log);
    const bare = [connectRaw(server.port), connectRaw(server.port)];
    await Promise.all(bare.map(({ socket }) => new Promise((resolve) => socket.once('connect', resolve))));
    const secure = [1, 2].map(() => connectTls({ port: server.port, host: '127.0.0.1', ca: cert }));
    const cut: number[] = [];
    for (const [index, socket] of secure.entries())
      socket.on('error', () => undefined).on('close', () => cut.push(index));
    await Promise.all(secure.map((socket) => new Promise((resolve) => socket.once('secureConnect', resolve))));
    const ask = async () => {
      const call = request({ host: '127.0.0.1', port: server.port, ca: cert, agent: false }).end();
      const [response] = await once(call, 'response');
      response.resume();
      await once(response, 'close');
    };
    for (let count = 0; count < 2; count += 1) await ask();
    await until(() => bare.some(({ ended }) => ended()));
    // The bare connections also displace the two idle TLS connections.
    for (let count = 0; count < 6; count += 1) {
      const late = connectRaw(server.port);
      await new Promise((resolve) => late.socket.once('connect', resolve));
      bare.push(late);
    }
    await until(() => cut.length === 2);
    await ask();
    for (const { socket } of bare) socket.destroy();
    rmSync(folder, { recursive: true });
  });

  it('closes a new connection where all others have a request under way', async () => {
    const open: { end(text: string): void }[] = [];
    const handler = (_req: unknown, res: { end(text: string): void }) => void open.push(res);
    server = await listen(handler, { ...address, maxConnections: 3 }, undefined, log);
    const busy = Array.from({ length: 3 }, () => connectRaw(server.port));
    for (const { socket } of busy) socket.write('GET / HTTP/1.1\r\nHost: irsa\r\n\r\n');
    await until(() => open.length === 3);
    const late = connectRaw(server.port);
    await until(late.ended);
    for (const res of open) res.end('done');
    for (const one of busy) assert.equal((await one.answer()).body.includes('done'), true);
    for (const { socket } of busy) socket.destroy();
  });
});
