/** Proves the program that copies the CA into the compute namespace, as a process with the flags that the chart gives. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type KubernetesOptions, type KubernetesStandIn, startKubernetes } from '../stack/kubernetes.ts';
import { buildService } from '../stack/processes.ts';
import { until } from '../support/clock.ts';
import { containerOf, needsHelm, service, type Workload } from './objects.ts';
import { accessFrom, userOf } from './rbac.ts';
import { objectNamed, renderChart } from './render.ts';
import { root } from './tools.ts';

const pem = (text: string) => `-----BEGIN CERTIFICATE-----\n${btoa(text)}\n-----END CERTIFICATE-----\n`;
const program = 'dist/src/publish-ca.js';
const flags = ['--jitless', '--single-threaded', '--max-semi-space-size=1'];

describe('the CA publisher', () => {
  let folder: string;
  let kubernetes: KubernetesStandIn;
  const closing: (() => Promise<unknown>)[] = [];
  const file = (name: string) => join(folder, name);
  // As the kubelet does: whole, by a rename.
  const write = (name: string, text: string) => {
    writeFileSync(file(`.${name}`), text);
    renameSync(file(`.${name}`), file(name));
  };
  const published = () =>
    kubernetes.get<{ data?: Record<string, string> }>('configmaps', 'domino-compute', 'irsa-ca')?.data?.['ca.crt'];

  before(async function () {
    // A build starts cold on a busy machine.
    this.timeout(120_000);
    await buildService();
  });
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'irsa-ca-'));
    write('token', `${userOf('domino-field', 'irsa-svc-ca-publisher')}\n`);
    write('issuer.crt', pem('one'));
    write('serving.crt', pem('one'));
  });
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close();
    rmSync(folder, { recursive: true });
  });

  async function start(options: KubernetesOptions = {}) {
    kubernetes = await startKubernetes(options);
    closing.push(() => kubernetes.close());
    kubernetes.put('configmaps', { metadata: { name: 'irsa-ca', namespace: 'domino-compute' } });
    const env = {
      CA_FILES: `${file('issuer.crt')},${file('serving.crt')}`,
      CONFIG_MAP_PATH: '/api/v1/namespaces/domino-compute/configmaps/irsa-ca',
      CONFIG_MAP_KEY: 'ca.crt',
      INTERVAL_SECONDS: '0.05',
      KUBERNETES_API: kubernetes.url,
      KUBERNETES_TOKEN_FILE: file('token'),
    };
    const child = spawn(process.execPath, [...flags, program], { cwd: root, env });
    let output = '';
    child.stdout.on('data', (text) => {
      output += text;
    });
    const ended = once(child, 'exit');
    closing.push(async () => {
      child.kill('SIGTERM');
      const [code] = await ended;
      assert.equal(code, 0, output);
    });
    return { output: () => output };
  }

  it('publishes the CA, both CAs during a rotation, and again after another client changed it', async () => {
    await start();
    await until(() => published() === pem('one'));
    write('issuer.crt', pem('two'));
    await until(() => published() === pem('two') + pem('one'));
    write('serving.crt', pem('two'));
    await until(() => published() === pem('two'));
    const object = kubernetes.get('configmaps', 'domino-compute', 'irsa-ca');
    kubernetes.put('configmaps', { ...object, data: { 'ca.crt': 'other', more: 'stays' } });
    await until(() => published() === pem('two'));
    const { data } = kubernetes.get<{ data: Record<string, string> }>('configmaps', 'domino-compute', 'irsa-ca') ?? {};
    assert.equal(data?.more, 'stays');
  });

  it('waits for certificates, keeps the published CA when the files are empty, and logs the reason', async () => {
    rmSync(file('issuer.crt'));
    const { output } = await start();
    await until(() => output().includes('ENOENT'));
    write('issuer.crt', pem('one'));
    await until(() => published() === pem('one'));
    write('issuer.crt', '');
    write('serving.crt', '');
    await until(() => output().includes('no certificate in'));
    assert.equal(published(), pem('one'));
  });

  it('exits with an error when the interval is not a number', () => {
    const env = { CONFIG_MAP_PATH: '/x', INTERVAL_SECONDS: '30s' };
    const { status, stderr } = spawnSync(process.execPath, [...flags, program], {
      cwd: root,
      env,
      encoding: 'utf8',
      timeout: 15_000,
    });
    assert.equal(status, 1, stderr);
    assert.match(stderr, /INTERVAL_SECONDS: expected a number of seconds, got 30s/);
  });

  it('writes nothing while nothing changes', async () => {
    await start();
    await until(() => (kubernetes.calls.get('get configmaps') ?? 0) > 5);
    assert.equal(kubernetes.calls.get('patch configmaps'), 1);
  });

  it('needs exactly the rights of the chart’s Role, and the chart starts it like this test', async function () {
    this.timeout(30_000);
    needsHelm.call(this);
    const objects = renderChart();
    const container = containerOf(objectNamed<Workload>(objects, 'Deployment', 'irsa-svc-ca-publisher'));
    assert.deepEqual(container.command, ['node', ...flags, program]);
    assert.equal(
      container.image,
      containerOf(service(objects)).image,
      'the program is in the image, not in a ConfigMap',
    );
    assert.deepEqual(
      container.volumeMounts?.map(({ name }) => name),
      ['ca'],
    );
    await start({ rbac: accessFrom(objects) });
    await until(() => published() === pem('one'));
    const role = objectNamed(objects, 'Role', 'irsa-svc-ca-publisher');
    for (const verb of ['get', 'patch']) {
      const [rule] = role.rules as { verbs: string[] }[];
      const less = { ...role, rules: [{ ...rule, verbs: (rule?.verbs ?? []).filter((one) => one !== verb) }] };
      const { output } = await start({ rbac: accessFrom(objects.map((object) => (object === role ? less : object))) });
      await until(() => output().includes('403'));
      assert.equal(published(), undefined);
    }
  });
});
