/** Tests that real clients work with the Kubernetes stand-in: client-node's informer, kubectl. */
import assert from 'node:assert/strict';
import { execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { CoreV1Api, type Informer, KubeConfig, makeInformer, type V1ConfigMap } from '@kubernetes/client-node';
import { type KubernetesStandIn, startKubernetes } from './kubernetes.ts';

const namespace = 'field';
const run = promisify(execFile);

describe("client-node's informer on the Kubernetes stand-in", () => {
  let kubernetes: KubernetesStandIn;
  let informer: Informer<V1ConfigMap>;
  /** The informer's events, oldest first; `wake` ends the wait for the next one. */
  let told: string[];
  let wake: () => void;

  beforeEach(async () => {
    kubernetes = await startKubernetes();
    const config = new KubeConfig();
    config.loadFromString(kubernetes.kubeconfig());
    const core = config.makeApiClient(CoreV1Api);
    const list = () => core.listNamespacedConfigMap({ namespace });
    informer = makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`, list);
    told = [];
    wake = () => undefined;
    for (const verb of ['add', 'update', 'delete'] as const) {
      informer.on(verb, ({ metadata, data }) => tell(`${verb} ${metadata?.name} ${data?.x}`));
    }
  });

  afterEach(async () => {
    await informer.stop();
    await kubernetes.close();
  });

  function tell(what: string): void {
    told.push(what);
    wake();
  }

  async function hears(...expected: string[]): Promise<void> {
    while (told.length < expected.length) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    assert.deepEqual(told.splice(0, expected.length), expected);
  }

  const put = (name: string, x: string) => kubernetes.put('configmaps', { metadata: { name, namespace }, data: { x } });

  it('reports the listed objects, then each change', async () => {
    put('one', '1');
    await informer.start();
    await hears('add one 1');
    put('one', '2');
    put('two', '1');
    kubernetes.remove('configmaps', namespace, 'one');
    await hears('update one 2', 'add two 1', 'delete one 2');
  });

  it('lists again after a 410, and reports the changes that it missed', async () => {
    put('one', '1');
    put('two', '1');
    await informer.start();
    await hears('add one 1', 'add two 1');
    const restarted = new Promise((resolve) => informer.on('error', resolve));
    kubernetes.cutWatches();
    await restarted;
    put('one', '2');
    kubernetes.remove('configmaps', namespace, 'two');
    kubernetes.expire();
    kubernetes.calls.clear();
    await informer.start();
    await hears('delete two 1', 'update one 2');
    assert.equal(kubernetes.calls.get('list configmaps'), 1);
  });
});

describe('kubectl on the Kubernetes stand-in', () => {
  let kubernetes: KubernetesStandIn;
  let home: string;

  before(function () {
    if (spawnSync('kubectl', ['version', '--client']).status === 0) return;
    console.warn('SKIPPED: kubectl is not on this machine; the Kubernetes stand-in is untested with it');
    this.skip();
  });

  beforeEach(async () => {
    kubernetes = await startKubernetes();
    home = await mkdtemp(join(tmpdir(), 'stand-in-kubectl-'));
    await writeFile(join(home, 'config'), kubernetes.kubeconfig());
  });

  afterEach(async () => {
    await kubernetes?.close();
    if (home) await rm(home, { recursive: true });
  });

  const environment = () => ({ ...process.env, HOME: home, KUBECONFIG: join(home, 'config') });

  async function kubectl(...args: string[]): Promise<string> {
    const { stdout } = await run('kubectl', ['-n', namespace, ...args], { env: environment() });
    return stdout.trim();
  }

  async function apply(object: object): Promise<string> {
    const file = join(home, 'object.json');
    await writeFile(file, JSON.stringify({ apiVersion: 'v1', kind: 'ConfigMap', ...object }));
    return kubectl('apply', '--validate=false', '-f', file);
  }

  it('applies, annotates, labels, gets and deletes an object', async () => {
    const metadata = { name: 'one' };
    assert.equal(await apply({ metadata, data: { x: '1', y: '1' } }), 'configmap/one created');
    assert.equal(await apply({ metadata, data: { x: '1', y: '1' } }), 'configmap/one unchanged');
    assert.equal(await apply({ metadata, data: { x: '2' } }), 'configmap/one configured');
    assert.deepEqual(kubernetes.get('configmaps', namespace, 'one')?.data, { x: '2' });
    await kubectl('annotate', 'cm/one', 'a/b=c');
    await kubectl('label', 'cm', 'one', 'app=x');
    assert.equal(await kubectl('get', 'cm', '-l', 'app=x', '-o', 'jsonpath={.items[*].metadata.annotations.a/b}'), 'c');
    assert.match(await kubectl('get', 'cm'), /^NAME +(DATA +)?AGE\none /);
    assert.match(await kubectl('delete', 'cm', 'one'), /configmap "one" deleted/);
    await assert.rejects(kubectl('get', 'cm', 'one'), /NotFound/);
  });

  it('creates an object, and lists custom resources and leases', async () => {
    const file = join(home, 'account.json');
    await writeFile(file, JSON.stringify({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'svc' } }));
    await kubectl('create', '--validate=false', '-f', file);
    await assert.rejects(kubectl('create', '--validate=false', '-f', file), /AlreadyExists/);
    kubernetes.put('configmaps', { metadata: { name: 'one', namespace } });
    await apply({
      apiVersion: 'apps.dominodatalab.com/v1alpha1',
      kind: 'Mutation',
      metadata: { name: 'm' },
      rules: [],
    });
    const mutation = { apiVersion: 'apps.dominodatalab.com/v1alpha1', kind: 'Mutation', metadata: { name: 'm' } };
    assert.match(await apply({ ...mutation, rules: [{}] }), /configured/);
    kubernetes.put('leases', { metadata: { name: 'writer', namespace } });
    const names = await kubectl('get', 'sa,cm,mutations,leases', '-o', 'name');
    assert.deepEqual(names.split('\n'), [
      'serviceaccount/svc',
      'configmap/one',
      'mutation.apps.dominodatalab.com/m',
      'lease.coordination.k8s.io/writer',
    ]);
    await kubectl('delete', 'pods,cm', '--all');
    assert.deepEqual(kubernetes.list('configmaps'), []);
  });

  it('applies an object on the server side', async () => {
    const file = join(home, 'object.json');
    const object = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'one' }, data: { x: '1' } };
    await writeFile(file, JSON.stringify(object));
    await kubectl('apply', '--server-side', '--validate=false', '-f', file);
    assert.deepEqual(kubernetes.get('configmaps', namespace, 'one')?.data, { x: '1' });
  });

  it('watches an object and prints its change', async () => {
    kubernetes.put('configmaps', { metadata: { name: 'one', namespace }, data: { x: '1' } });
    const columns = 'custom-columns=N:.metadata.name,X:.data.x';
    const args = ['-n', namespace, 'get', 'cm', '--watch', '--no-headers', '-o', columns];
    const child = spawn('kubectl', args, { env: environment(), stdio: ['ignore', 'pipe', 'inherit'] });
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    const line = async () => (await lines.next()).value?.replace(/ +/g, ' ');
    assert.equal(await line(), 'one 1');
    kubernetes.put('configmaps', { metadata: { name: 'one', namespace }, data: { x: '2' } });
    assert.equal(await line(), 'one 2');
    child.kill();
    await once(child, 'exit');
  });
});
