/** Proves over the wire that calls to AWS, and no others, go through the forward proxy of the environment. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createEks } from '../../src/aws/eks.ts';
import { awsRequestHandler } from '../../src/aws/forward-proxy.ts';
import { createIam } from '../../src/aws/iam.ts';
import { type AwsStandIn, startAws } from '../stack/aws.ts';
import { type ForwardProxy, startForwardProxy } from '../stack/forward-proxy.ts';
import { createIssuer } from '../stack/issuer.ts';
import { buildService, makeCertificate, type StackProcess, startReplica, startStack } from '../stack/processes.ts';

const endpoints = ['', '_IAM', '_STS', '_EKS'].map((service) => `AWS_ENDPOINT_URL${service}`);
const signal = new AbortController().signal;
const common = { region: 'us-west-2', monotonic: () => performance.now(), onCall: () => undefined };

describe('the AWS clients behind a forward proxy', () => {
  let aws: AwsStandIn;
  let proxy: ForwardProxy;
  let folder: string;
  let saved: NodeJS.ProcessEnv;

  beforeEach(async () => {
    saved = { ...process.env };
    folder = mkdtempSync(join(tmpdir(), 'irsa-proxy-'));
    aws = await startAws();
    proxy = await startForwardProxy({ 'aws.acme.example:80': new URL(aws.environment().AWS_ENDPOINT_URL ?? '').host });
    Object.assign(process.env, aws.environment(), aws.credentials);
    for (const name of endpoints) process.env[name] = 'http://aws.acme.example';
  });
  afterEach(async () => {
    for (const name of Object.keys(process.env)) if (!(name in saved)) delete process.env[name];
    Object.assign(process.env, saved);
    await proxy.close();
    await aws.close();
    rmSync(folder, { recursive: true });
  });

  it('call IAM, STS and EKS through the proxy, which alone resolves their host', async () => {
    const requestHandler = awsRequestHandler({ HTTP_PROXY: proxy.url });
    const { arn } = aws.addRole({ name: 'reader', trust: { Version: '2012-10-17', Statement: [] } });
    const iam = createIam({ ...common, requestHandler });
    assert.equal((await iam.identity(signal)).account, '111111111111');
    assert.match(await iam.getTrustPolicy(arn, signal), /2012-10-17/);
    const eks = await createEks({ ...common, cluster: 'acme', namespace: 'domino-compute', requestHandler });
    assert.deepEqual((await eks.list({}, signal)).found, []);
    assert.equal(proxy.seen.length, 3);
    const alone = createIam({ ...common, requestHandler: awsRequestHandler({ http_proxy: '' }) });
    await assert.rejects(alone.identity(signal), { code: 'unavailable' });
  });

  it('exchange the service’s own web identity token through the proxy', async () => {
    const issuer = await createIssuer();
    aws.trustIssuer(issuer.issuer, issuer.jwks);
    const role = aws.addRole({
      name: 'acme-irsa-svc',
      trust: {
        Version: '2012-10-17',
        Statement: [
          {
            Effect: 'Allow',
            Principal: { Federated: `arn:aws:iam::111111111111:oidc-provider/${issuer.issuer}` },
            Action: 'sts:AssumeRoleWithWebIdentity',
            Condition: { StringEquals: { [`${issuer.issuer}:aud`]: 'sts.amazonaws.com' } },
          },
        ],
      },
    });
    writeFileSync(join(folder, 'token'), await issuer.podToken({ serviceAccount: 'irsa-svc' }));
    for (const name of Object.keys(aws.credentials)) delete process.env[name];
    process.env.AWS_ROLE_ARN = role.arn;
    process.env.AWS_WEB_IDENTITY_TOKEN_FILE = join(folder, 'token');
    const iam = createIam({ ...common, requestHandler: awsRequestHandler({ HTTP_PROXY: proxy.url }) });
    assert.match((await iam.identity(signal)).arn, /assumed-role\/acme-irsa-svc\//);
    assert.equal(proxy.seen.length, 2, 'the exchange, and GetCallerIdentity');
  });

  it('connect directly to hosts that NO_PROXY names', async () => {
    for (const name of endpoints) process.env[name] = aws.environment()[name];
    const requestHandler = awsRequestHandler({ HTTP_PROXY: proxy.url, NO_PROXY: '127.0.0.0/8' });
    await createIam({ ...common, requestHandler }).identity(signal);
    assert.deepEqual(proxy.seen, []);
  });
});

describe('the service behind a forward proxy', function () {
  // The build and the processes start cold on a busy machine.
  this.timeout(180_000);
  let stack: StackProcess;
  const closing: (() => Promise<unknown>)[] = [];

  before(async () => {
    await buildService();
    stack = await startStack();
    closing.push(() => stack.stop());
  });
  after(async () => {
    for (const close of closing.reverse()) await close();
  });

  for (const [what, more] of [
    ['with the proxy variables alone', {}],
    ['with NODE_USE_ENV_PROXY', { NODE_USE_ENV_PROXY: '1' }],
    ['with Node’s option --use-env-proxy', { NODE_OPTIONS: '--use-env-proxy' }],
  ] as [string, Record<string, string>][]) {
    it(`becomes ready ${what}, and uses the proxy only for AWS, with CONNECT`, async () => {
      const secure = createServer(makeCertificate());
      const { host, port } = { host: '127.0.0.1', port: Number(new URL(stack.awsUrl).port) };
      secure.on('secureConnection', (socket) => {
        const upstream = connect({ host, port });
        socket.pipe(upstream).pipe(socket);
        for (const end of [socket, upstream])
          end.on('error', () => [socket, upstream].forEach((one) => void one.destroy()));
      });
      await new Promise<void>((resolve) => secure.listen(0, '127.0.0.1', resolve));
      const proxy = await startForwardProxy({
        'aws.acme.example:443': `127.0.0.1:${(secure.address() as AddressInfo).port}`,
      });
      const settings = {
        ...Object.fromEntries(endpoints.map((name) => [name, 'https://aws.acme.example'])),
        HTTPS_PROXY: proxy.url,
        HTTP_PROXY: proxy.url,
        // The certificate is for another host.
        NODE_TLS_REJECT_UNAUTHORIZED: '0',
        ...more,
      };
      const replica = await startReplica(stack, { settings });
      try {
        await replica.ready;
        assert.ok(proxy.seen.length > 0);
        assert.deepEqual([...new Set(proxy.seen)], ['CONNECT aws.acme.example:443']);
      } finally {
        await replica.stop();
        await proxy.close();
        secure.close();
      }
    });
  }
});
