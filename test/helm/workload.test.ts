/** Proves chart, sidecar and service together: a pod as the rendered Mutations make it, run as processes, has its roles. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hasBoto3, runBoto3 } from '../stack/clients.ts';
import { podWebhooks } from '../stack/pod-webhooks.ts';
import { layOutPod, type PodOnDisk } from '../stack/pod-world.ts';
import { dominoPod } from '../stack/pods.ts';
import { type Child, startChild } from '../stack/process.ts';
import { buildService, makeCertificate } from '../stack/processes.ts';
import { type RunningServer, startServer } from '../stack/server.ts';
import { until } from '../support/clock.ts';
import { freePort } from '../support/free-port.ts';
import { runId, startWorld, type World } from '../support/world.ts';
import { containerOf, environment, needsHelm, service } from './objects.ts';
import { type Rendered, renderChart, type Values } from './render.ts';

const role = 'acme-list-bucket-role';
const sidecar = 'aws-config-file-generator';
const endpoint = 'https://irsa-svc.domino-field/map_iam_roles_to_pod_sa';
const whoAmI = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])";

/** Settings whose values in the chart do not fit this machine. */
const ofThisMachine = ['OIDC_PROVIDER', 'DOMINO_ISSUER', 'DOMINO_JWKS_URL', 'DOMINO_USER_HOST', 'HOST', 'SSL_OFF'];

describe('a workload of the chart, run as processes', function () {
  // A build, sidecars and Pythons start cold on a busy machine.
  this.timeout(120_000);
  let world: World;
  let proxy: RunningServer;
  let secure: Server;
  let folder: string;
  let certificate: { cert: string; key: string };
  let serviceUrl: string;
  let next = 1;

  before(async function () {
    needsHelm.call(this);
    if (!(await hasBoto3())) {
      process.stdout.write('SKIPPED, workloads of the chart: there is no Python with boto3\n');
      this.skip();
    }
    await buildService();
    folder = mkdtempSync(join(tmpdir(), 'irsa-chart-'));
    certificate = makeCertificate();
    world = await startWorld();
    world.domino.addUser({ name: 'alice', orgs: ['acme'] });
    proxy = await startServer(async (_request, response) => void response.end(world.domino.token('alice')));
    world.kubernetes.admit(podWebhooks());

    // The service with the environment that the chart gives it, but for what is elsewhere on this machine.
    const given = Object.entries(environment(containerOf(service(renderChart()))));
    const settings = Object.fromEntries(given.filter(([name]) => !ofThisMachine.includes(name)));
    // The config file names the token's path, which has to exist on this machine.
    const token = join(folder, 'pod', 'aws-iam-token', 'token');
    const replica = await world.startReplica({ ...settings, WEB_IDENTITY_TOKEN_PATH: token });
    secure = createServer(certificate, replica.service.app);
    await new Promise<void>((resolve) => secure.listen(0, '127.0.0.1', resolve));
    serviceUrl = `https://localhost:${(secure.address() as AddressInfo).port}/map_iam_roles_to_pod_sa`;
    await world.map(replica, 'acme', world.addRolePair(role));
  });
  after(async () => {
    secure?.close();
    await proxy?.close();
    await world?.stop();
    if (folder) rmSync(folder, { recursive: true, force: true });
  });

  /** A run's pod as the chart's Mutations make it, with its volumes laid out where the service says. */
  async function startPod(values: Values): Promise<{ onDisk: PodOnDisk; run: string }> {
    const { kubernetes, issuer, domino } = world;
    for (const { metadata } of kubernetes.list<Rendered>('mutations')) {
      kubernetes.remove('mutations', metadata.namespace ?? '', metadata.name);
    }
    const objects = renderChart(values);
    const mutations = objects.filter(({ kind }) => kind === 'Mutation');
    assert.ok(mutations.length > 0);
    for (const mutation of mutations) kubernetes.put('mutations', mutation);
    // As the chart's publisher, or cert-manager's trust bundle, puts it there.
    const ca = { name: 'irsa-ca', namespace: 'domino-compute' };
    kubernetes.put('configmaps', { metadata: ca, data: { 'ca.crt': certificate.cert } });
    const run = runId(next++);
    const { id, name } = domino.user('alice');
    const pod = kubernetes.put('pods', dominoPod({ runId: run, userId: id, userName: name, plain: true }));
    kubernetes.put('serviceaccounts', { metadata: { name: `run-${run}`, namespace: 'domino-compute' } });
    rmSync(join(folder, 'pod'), { recursive: true, force: true });
    return { onDisk: await layOutPod(pod, join(folder, 'pod'), { podToken: issuer.podToken, kubernetes }), run };
  }

  const replace = () => ({ 'http://localhost:8899': proxy.url, [endpoint]: serviceUrl });

  /** Starts the sidecar by the command of its container, on a port of its own. */
  function startSidecar(onDisk: PodOnDisk, port: number): { child: Child; variables: Record<string, string> } {
    const { environment: own, command } = onDisk.container(sidecar, { replace: replace() });
    const [program, ...words] = command;
    assert.equal(program, 'node');
    const variables = { ...own, ...world.aws.environment(), IRSA_SIDECAR_PORT: String(port) };
    return { child: startChild(process.execPath, words, { environment: variables }), variables };
  }

  async function assumes(onDisk: PodOnDisk, run: string): Promise<void> {
    const main = onDisk.container('run', { replace: replace() }).environment;
    const answer = await runBoto3(whoAmI, { ...main, ...world.aws.environment(), AWS_PROFILE: role });
    assert.equal(answer.stdout.trim(), `arn:aws:sts::222222222222:assumed-role/${role}/alice-${run}`, answer.stderr);
  }

  for (const mode of ['container', 'native']) {
    it(`gets its roles with a sidecar in mode ${mode}`, async () => {
      const { onDisk, run } = await startPod({ irsa_client_sidecar: { mode } });
      const port = await freePort();
      const { child, variables } = startSidecar(onDisk, port);
      try {
        if (mode === 'native') {
          // The kubelet starts the workload when this has exited with 0.
          const probe = () => {
            const words = ['dist/src/sidecar/main.js', 'probe'];
            return startChild(process.execPath, words, { environment: variables }).exited;
          };
          await until(async () => (await probe()) === 0, 30_000);
        } else {
          const ready = () => fetch(`http://127.0.0.1:${port}/readyz`).then(({ status }) => status === 200);
          await until(() => ready().catch(() => false), 30_000);
        }
        await assumes(onDisk, run);
        const log = readFileSync(join(onDisk.folder, 'irsa-logs', 'app.log'), 'utf8');
        assert.match(log, /"level"/);
      } finally {
        child.kill('SIGTERM');
      }
      assert.equal(await child.exited, 0, child.output.join('\n'));
    });
  }

  it('can fetch its config file itself without a sidecar', async () => {
    const { onDisk, run } = await startPod({ irsa_client_sidecar: { mode: 'none' } });
    const { environment: main } = onDisk.container('run', { replace: replace() });
    const script = `
import os, ssl, urllib.request, json
token = urllib.request.urlopen('${proxy.url}/access-token').read().decode()
request = urllib.request.Request(
    os.environ['DOMINO_IRSA_ENDPOINT'],
    data=json.dumps({'run_id': os.environ['DOMINO_RUN_ID']}).encode(),
    headers={'Authorization': 'Bearer ' + token, 'Content-Type': 'application/json'})
trust = ssl.create_default_context(cafile=os.environ['DOMINO_IRSA_SSL_CERT'])
open(os.environ['AWS_CONFIG_FILE'], 'w').write(urllib.request.urlopen(request, context=trust).read().decode())
${whoAmI.replace("boto3.client('sts')", `boto3.Session(profile_name='${role}').client('sts')`)}`;
    const answer = await runBoto3(script, { ...main, DOMINO_RUN_ID: run, ...world.aws.environment() });
    assert.equal(answer.stdout.trim(), `arn:aws:sts::222222222222:assumed-role/${role}/alice-${run}`, answer.stderr);
  });

  it('leaves default credentials to Pod Identity where it is enabled', async () => {
    const { onDisk } = await startPod({ podIdentity: { enabled: true, clusterName: 'acme' } });
    const main = onDisk.container('run').environment;
    assert.equal(main.AWS_WEB_IDENTITY_TOKEN_FILE, undefined);
    assert.ok(onDisk.container(sidecar).environment.AWS_WEB_IDENTITY_TOKEN_FILE);
  });
});
