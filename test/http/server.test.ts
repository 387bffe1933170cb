import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { type Listening, listen } from '../../src/http/server.ts';
import { createLog } from '../../src/lib/log.ts';
import { makeCertificate } from '../stack/processes.ts';
import { until } from '../support/clock.ts';

describe('the HTTPS server', () => {
  const log = createLog('silent');
  const address = { host: '127.0.0.1', port: 0, maxConnections: 100 };
  let folder: string;
  let server: Listening | undefined;
  let outcomes: string[];

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'irsa-tls-'));
    outcomes = [];
  });
  afterEach(async () => {
    await server?.drain(0);
    server = undefined;
    rmSync(folder, { recursive: true });
  });

  const files = () => ({
    certFile: join(folder, 'tls.crt'),
    keyFile: join(folder, 'tls.key'),
    onReload: (outcome: string) => void outcomes.push(outcome),
  });
  function write(into: string, { cert, key }: { cert: string; key: string }) {
    writeFileSync(join(into, 'tls.crt'), cert);
    writeFileSync(join(into, 'tls.key'), key);
  }

  /** The serial number of the server's certificate, for a client that trusts only `ca`. */
  async function serial(ca: string, port: number): Promise<string> {
    const call = request({ host: '127.0.0.1', port, ca, agent: new Agent() }).end();
    const [response] = await once(call, 'response');
    response.resume();
    return (response.socket as TLSSocket).getPeerCertificate().serialNumber;
  }

  it('uses a new certificate without a restart when Kubernetes replaces the mounted secret', async () => {
    const [first, second] = [makeCertificate(new Date(Date.now() - 5_000)), makeCertificate()];
    // A mounted secret: the files are links into a folder that is itself a link, which Kubernetes replaces.
    for (const [name, pair] of [
      ['one', first],
      ['two', second],
    ] as const) {
      mkdirSync(join(folder, name));
      write(join(folder, name), pair);
    }
    symlinkSync('one', join(folder, '..data'));
    for (const name of ['tls.crt', 'tls.key']) symlinkSync(`..data/${name}`, join(folder, name));
    server = await listen((_req, res) => void res.end('ok'), address, files(), log);
    const before = await serial(first.cert, server.port);
    symlinkSync('two', join(folder, '..data_tmp'));
    renameSync(join(folder, '..data_tmp'), join(folder, '..data'));
    await until(() => outcomes.includes('ok'));
    assert.notEqual(await serial(second.cert, server.port), before);
    await assert.rejects(serial(first.cert, server.port));
  });

  it('keeps the old certificate while the new one is unusable', async () => {
    const pair = makeCertificate();
    write(folder, pair);
    server = await listen((_req, res) => void res.end('ok'), address, files(), log);
    // The key of another certificate, as halfway through a replacement.
    writeFileSync(join(folder, 'tls.key'), makeCertificate().key);
    await until(() => outcomes.includes('failed'));
    assert.ok(await serial(pair.cert, server.port));
  });

  it('does not start where files are missing or do not match', async () => {
    await assert.rejects(
      listen(() => undefined, address, files(), log),
      /ENOENT/,
    );
    write(folder, { cert: makeCertificate().cert, key: makeCertificate().key });
    await assert.rejects(
      listen(() => undefined, address, files(), log),
      /mismatch/,
    );
  });

  it('finishes requests under way while draining, and accepts no new connections', async () => {
    const pair = makeCertificate();
    write(folder, pair);
    const asked = Promise.withResolvers<ServerResponse>();
    const listening = await listen((_req, res) => asked.resolve(res), address, files(), log);
    const call = request({ host: '127.0.0.1', port: listening.port, ca: pair.cert, agent: new Agent() }).end();
    const answered = once(call, 'response');
    const answer = await asked.promise;
    const drained = listening.drain(10_000);
    await assert.rejects(serial(pair.cert, listening.port), /ECONNREFUSED/);
    answer.end('done');
    const [response] = await answered;
    assert.equal(response.statusCode, 200);
    response.resume();
    await drained;
  });
});
