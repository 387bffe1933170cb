/** Proves the signature of a call by comparing it with the AWS SDK's for the same call. */
import assert from 'node:assert/strict';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { AssumeRoleCommand, STSClient } from '@aws-sdk/client-sts';
import { sign } from '../../src/sidecar/sigv4.ts';
import { readBody } from '../stack/server.ts';

const session = {
  accessKeyId: 'ASIAEXAMPLE',
  secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY',
  sessionToken: 'IQoJb3JpZ2luX2VjEXAMPLE//////////w==',
};

/** The call as the SDK sends it. */
async function sentBySdk(region: string): Promise<{ request: IncomingMessage; body: string; port: number }> {
  let sent: { request: IncomingMessage; body: string } | undefined;
  const server = createServer(async (request, response) => {
    sent = { request, body: await readBody(request) };
    response.writeHead(400).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const endpoint = `http://127.0.0.1:${port}`;
  const client = new STSClient({ region, endpoint, credentials: session, maxAttempts: 1 });
  const RoleArn = 'arn:aws:iam::222222222222:role/team/acme-read';
  await client.send(new AssumeRoleCommand({ RoleArn, RoleSessionName: 'alice+b=c,d.e@f' })).catch(() => undefined);
  await new Promise((resolve) => server.close(resolve));
  assert.ok(sent);
  return { ...sent, port };
}

describe('the signature of a call to AWS', () => {
  for (const region of ['us-west-2', 'cn-north-1']) {
    it(`equals the AWS SDK's in ${region}`, async () => {
      const { request, body, port } = await sentBySdk(region);
      const given = request.headers.authorization ?? '';
      const names = (/SignedHeaders=([^,]+)/.exec(given)?.[1] ?? '').split(';');
      assert.ok(names.includes('host') && names.includes('x-amz-security-token'), given);
      const headers = Object.fromEntries(
        names.filter((name) => name !== 'host').map((name) => [name, String(request.headers[name])]),
      );
      const time = String(request.headers['x-amz-date']);
      const now = Date.parse(time.replace(/^(....)(..)(..T..)(..)(..)Z$/, '$1-$2-$3:$4:$5Z'));
      const url = new URL(`http://127.0.0.1:${port}/`);
      const signed = sign({ method: 'POST', url, headers, body, region, service: 'sts', now }, session);
      assert.equal(signed.authorization, given);
      const later = sign({ method: 'POST', url, headers, body, region, service: 'sts', now: now + 1000 }, session);
      assert.notEqual(later.authorization, given);
    });
  }
});
