/** Proves that the load at a steady rate ends and names what went wrong, whatever the answers; against servers that misbehave. */
import assert from 'node:assert/strict';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type PacedJob, paced, pacedLimitMs } from './paced.ts';

const role = 'arn:aws:iam::111111111111:role/bench-1-proxy-1';
const config = `[profile bench]\nsource_profile = src_bench\n\n[profile src_bench]\nrole_arn = ${role}\n`;

describe('the load at a steady rate', () => {
  let server: Server;
  let url: string;
  const assumed: string[] = [];

  async function answer(request: IncomingMessage, response: ServerResponse) {
    const body = (await request.toArray()).join('');
    const send = (status: number, text: string) => response.writeHead(status).end(text);
    if (request.url === '/sts') {
      const asked = new URLSearchParams(body);
      assert.equal(asked.get('RoleArn'), role);
      assumed.push(asked.get('WebIdentityToken') ?? '');
      return asked.get('WebIdentityToken') === 'token of closed' ? send(403, '') : send(200, '<AccessKeyId>x<');
    }
    if (request.url === '/control/trusting')
      return send(200, body.includes('run-closed') ? '[]' : '["bench-1-proxy-1"]');
    const { run_id: run } = JSON.parse(body) as { run_id: string };
    if (run === 'silent') return undefined;
    if (run === 'reset') return request.socket.destroy();
    if (run === 'refused') return send(503, '{"code":"grant_pending"}');
    if (request.url === '/map_iam_roles_to_pod_sa') return send(200, run === 'no-role' ? '# nothing' : config);
    return send(200, JSON.stringify({ tokens: run === 'no-token' ? [] : [{ token: `token of ${run}` }], refused: [] }));
  }

  before(async () => {
    server = createServer((request, response) => void answer(request, response));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  after(() => {
    server.closeAllConnections();
    server.close();
  });

  const job = (byToken: boolean, sample: number, ...runs: string[]): PacedJob => ({
    kind: 'paced',
    asked: runs.map((run) => ({ url, token: 'of a user', run, pod: `${run}-pod` })),
    perSecond: 1_000,
    byToken,
    callMs: 15_000,
    sample,
    stsUrl: `${url}/sts`,
    controlUrl: `${url}/control`,
  });

  it('ends, and counts a call without an answer as failed', async () => {
    const soon = { ...job(true, 9, 'silent', 'silent'), callMs: 50 };
    assert.deepEqual(Object.values((await paced(soon, () => undefined)).failed), [2]);
    const { ms, failed, lost } = await paced(job(true, 9, 'reset', 'refused', 'good'), () => undefined);
    assert.deepEqual([ms.length, lost], [1, []]);
    assert.equal(failed['503 grant_pending'], 1);
    const others = Object.keys(failed).filter((code) => code !== '503 grant_pending');
    assert.equal(others.length, 1);
    assert.match(others[0] ?? '', /^0 \S/);
  });

  it('counts a run without a role, without a token or with a token that STS refuses as lost', async () => {
    const runs = ['no-role', 'no-token', 'closed', 'good'];
    assert.deepEqual((await paced(job(true, 9, ...runs), () => undefined)).lost, ['no-role', 'no-token', 'closed']);
    assert.deepEqual((await paced(job(false, 9, ...runs), () => undefined)).lost, ['no-role', 'closed']);
  });

  it('checks as many different runs with STS as the sample has', async () => {
    assumed.length = 0;
    await paced(job(true, 4, ...Array.from({ length: 40 }, (_, index) => `run ${index}`)), () => undefined);
    assert.equal(new Set(assumed).size, 4);
  });

  it('has a time limit above the time of its pace and its calls', () => {
    const long = { ...job(true, 50), perSecond: 200, callMs: 30_000 };
    const asked = Array.from({ length: 30_000 }, () => ({ url, token: '', run: '', pod: '' }));
    assert.ok(pacedLimitMs({ ...long, asked }) > 150_000 + 2 * 30_000);
  });
});
