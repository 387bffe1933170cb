/** Proves that helm itself, installing, upgrading and removing, never loses a mapping or a published CA. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { section, textOf } from '../support/pages.ts';
import { type Cluster, startCluster } from './cluster.ts';
import { valuesFiles } from './golden.ts';
import { needsHelm } from './objects.ts';
import { chart } from './render.ts';

const configMap = (namespace: string, name: string) => `/api/v1/namespaces/${namespace}/configmaps/${name}`;
const mapping = configMap('domino-field', 'domino-org-iamrole-mapping');
const entry = { acme: '[{"iam_role_arn":"a","proxy_iam_role_arn":"b"}]' };
const values = ['-f', valuesFiles.get('container') ?? ''];

describe('helm, with the chart', function () {
  this.timeout(60_000);
  let folder: string;
  let cluster: Cluster;
  before(needsHelm);
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'irsa-lifecycle-'));
    cluster = await startCluster();
  });
  afterEach(async () => {
    await cluster.close();
    rmSync(folder, { recursive: true });
  });

  const install = (...more: string[]) => cluster.helm('install', 'irsa', chart, ...values, ...checked, ...more);
  const upgrade = (...more: string[]) => cluster.helm('upgrade', 'irsa', chart, ...values, ...checked, ...more);
  /** kubeconform checks the schemas. */
  const checked = ['--disable-openapi-validation'];

  const namesIn = (path: string) =>
    [...cluster.objects.keys()].flatMap((key) => (key.startsWith(path) ? [key.slice(path.length)] : [])).sort();

  /** What the service does with a mapping; every other field stays. */
  function write(path: string, data: Record<string, string>): void {
    const object = cluster.objects.get(path) ?? { metadata: { name: path.slice(path.lastIndexOf('/') + 1) } };
    cluster.objects.set(path, { ...object, data: { ...object.data, ...data } });
  }

  /** Release 1.8 as far as it matters: objects with names that this chart could use too, and a mapping. */
  async function install18(): Promise<void> {
    mkdirSync(join(folder, 'templates'));
    writeFileSync(join(folder, 'Chart.yaml'), 'apiVersion: v1\nname: irsa\nversion: 1.8.0\n');
    const objects = [
      { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'domino-org-iamrole-mapping' }, data: {} },
      { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'irsa-config' }, data: { workers: '4' } },
      { apiVersion: 'v1', kind: 'Service', metadata: { name: 'irsa-svc' }, spec: {} },
      { ...ofDomsed, metadata: { name: 'irsa', namespace: 'domino-platform' }, rules: [{ matchBuilds: false }] },
    ];
    writeFileSync(
      join(folder, 'templates', 'all.yaml'),
      objects.map((object) => JSON.stringify(object)).join('\n---\n'),
    );
    await cluster.helm('install', 'irsa', folder, ...checked);
    write(mapping, entry);
  }
  const ofDomsed = { apiVersion: 'apps.dominodatalab.com/v1alpha1', kind: 'Mutation' };

  it('keeps the mappings in the upgrade from 1.8 and in later upgrades', async () => {
    await install18();
    await upgrade();
    assert.deepEqual(cluster.objects.get(mapping)?.data, entry);
    await upgrade('--set', 'replicas=2');
    assert.deepEqual(cluster.objects.get(mapping)?.data, entry);
  });

  it('new installations get credentials=process; upgrades from 1.8 keep chain until a value changes that', async () => {
    const mutation = '/apis/apps.dominodatalab.com/v1alpha1/namespaces/domino-platform/mutations/irsa';
    const form = () =>
      JSON.stringify(cluster.objects.get(mutation)).includes('irsa-credentials') ? 'process' : 'chain';
    await install18();
    let asked = false;
    for (const more of [[], [], ['--set', 'irsa_client_sidecar.credentials=process'], []]) {
      await upgrade(...more);
      assert.equal(form(), more.length > 0 || asked ? 'process' : 'chain');
      asked ||= more.length > 0;
    }
    await cluster.helm('uninstall', 'irsa');
    await install();
    assert.equal(form(), 'process');
    await upgrade();
    assert.equal(form(), 'process');
  });

  it('loses the mappings in the upgrade when their ConfigMap is not in the manifest', async () => {
    await install18();
    await upgrade('--set', 'mappings.keep=false');
    assert.equal(cluster.objects.has(mapping), false);
  });

  it('keeps the mappings in a rollback to 1.8', async () => {
    await install18();
    await upgrade();
    await cluster.helm('rollback', 'irsa', '1');
    assert.deepEqual(cluster.objects.get(mapping)?.data, entry);
  });

  it('a rollback to 1.8 deletes the published CA, unless it was annotated as docs/upgrade.md says', async () => {
    const [steps = ''] = /(?<=```sh\n)[\s\S]*?helm rollback/.exec(section(textOf('docs/upgrade.md'), 'Back')) ?? [];
    const command = /^kubectl -n (\S+) annotate configmap (\S+) ([^\s=]+)=(\S+)/m.exec(steps);
    const [, namespace = '', name = '', annotation = '', value = ''] = command ?? [];
    const copy = configMap(namespace, name);
    await install18();
    for (const kept of [false, true]) {
      await upgrade();
      write(copy, { 'ca.crt': 'PEM' });
      const object = cluster.objects.get(copy);
      if (object && kept) object.metadata.annotations = { ...object.metadata.annotations, [annotation]: value };
      await cluster.helm('rollback', 'irsa', '1');
      assert.deepEqual(cluster.objects.get(copy)?.data, kept ? { 'ca.crt': 'PEM' } : undefined);
    }
    await upgrade();
    assert.deepEqual(cluster.objects.get(copy)?.data, { 'ca.crt': 'PEM' });
  });

  it('loses the mappings with --force in an upgrade and in a rollback, as both pages warn', async () => {
    await install18();
    await upgrade();
    await upgrade('--force');
    assert.deepEqual(cluster.objects.get(mapping)?.data, {});
    write(mapping, entry);
    await cluster.helm('rollback', 'irsa', '2', '--force');
    assert.deepEqual(cluster.objects.get(mapping)?.data, {});
    assert.match(textOf('docs/upgrade.md'), /domino-org-iamrole-mapping[^\n]*unless[^\n]*`--force`/);
    assert.match(section(textOf('deploy/helm/irsa/README.md'), 'Mappings are kept'), /Never `--force`/);
  });

  it('keeps the mappings on uninstall, and uses them again after a new installation', async () => {
    await install();
    assert.deepEqual(cluster.objects.get(mapping)?.data, {});
    write(mapping, entry);
    write(configMap('domino-field', 'irsa-revoked-runs'), { run: '{}' });
    await cluster.helm('uninstall', 'irsa');
    assert.deepEqual(
      [...cluster.objects.keys()],
      [mapping, configMap('domino-field', 'irsa-revoked-runs')],
      'all other objects are gone',
    );
    await install();
    assert.deepEqual(cluster.objects.get(mapping)?.data, entry);
    await upgrade();
    assert.deepEqual(cluster.objects.get(mapping)?.data, entry);
  });

  it('does not change a ConfigMap of mappings that the service or another release made', async () => {
    for (const annotations of [undefined, { 'meta.helm.sh/release-name': 'irsa-old' }]) {
      const metadata = { name: 'domino-org-iamrole-mapping', ...(annotations ? { annotations } : {}) };
      const made = { apiVersion: 'v1', kind: 'ConfigMap', metadata, data: entry };
      cluster.objects.set(mapping, made);
      await install();
      await upgrade();
      await cluster.helm('uninstall', 'irsa');
      assert.deepEqual(cluster.objects.get(mapping), made);
    }
  });

  it('keeps the published CA in an upgrade', async () => {
    await install();
    const copy = configMap('domino-compute', 'irsa-ca');
    write(copy, { 'ca.crt': 'PEM' });
    await upgrade('--set', 'image.tag=2.0.1');
    assert.deepEqual(cluster.objects.get(copy)?.data, { 'ca.crt': 'PEM' });
  });

  it('runs beside 1.8 and another installation with a field namespace and a service name of its own', async () => {
    await install18();
    const of18 = structuredClone([...cluster.objects]);
    const beside = (name: string) => [
      name,
      chart,
      ...values,
      ...checked,
      '-n',
      `field-${name}`,
      '--set',
      ownNames(name),
    ];
    const ownNames = (name: string) =>
      `env.service=${name},env.namespace.field=field-${name},userbasedserviceaccounts.enabled=true`;
    await cluster.helm('install', ...beside('irsa-next'));
    await cluster.helm('install', ...beside('irsa-trial'));
    await cluster.helm('upgrade', ...beside('irsa-next'), '--set', 'replicas=2');
    const mutations = namesIn('/apis/apps.dominodatalab.com/v1alpha1/namespaces/domino-platform/mutations/');
    assert.deepEqual(mutations, [
      'irsa',
      'irsa-next',
      'irsa-next-cloud-identity',
      'irsa-trial',
      'irsa-trial-cloud-identity',
    ]);
    assert.deepEqual(namesIn(configMap('domino-compute', '')), ['irsa-next-ca', 'irsa-trial-ca']);
    await cluster.helm('uninstall', 'irsa-trial', '-n', 'field-irsa-trial');
    for (const [path, object] of of18) assert.deepEqual(cluster.objects.get(path), object, path);

    // When all organizations have moved, uninstalling 1.8 removes nothing of the new installation.
    await cluster.helm('uninstall', 'irsa');
    await cluster.helm('upgrade', ...beside('irsa-next'));
    assert.deepEqual(namesIn('/apis/apps.dominodatalab.com/v1alpha1/namespaces/domino-platform/mutations/'), [
      'irsa-next',
      'irsa-next-cloud-identity',
    ]);
    assert.ok(cluster.objects.has(configMap('field-irsa-next', 'domino-org-iamrole-mapping')));
  });

  it('an installation beside 1.8 under the same name fails: Helm names the conflict and changes nothing', async () => {
    await install18();
    const before = [...cluster.objects.keys()].filter((path) => !path.includes('/secrets/'));
    const elsewhere = ['-n', 'field-next', '--set', 'env.namespace.field=field-next'];
    await assert.rejects(
      cluster.helm('install', 'irsa-next', chart, ...values, ...checked, ...elsewhere),
      /Mutation "irsa" in namespace "domino-platform" exists and cannot be imported/,
    );
    assert.deepEqual(
      [...cluster.objects.keys()].filter((path) => !path.includes('/secrets/')),
      before,
    );
  });

  it('prints which labels an existing field namespace lacks', async () => {
    const path = '/api/v1/namespaces/domino-field';
    const label = (labels: Record<string, string>) =>
      cluster.objects.set(path, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'domino-field', labels } });
    assert.doesNotMatch(await install(), /LACKS/);
    label({ 'kubernetes.io/metadata.name': 'domino-field' });
    const both =
      /LACKS LABELS[^\n]*\n\n +kubectl label --overwrite namespace domino-field domino-compute=true domino-platform=true\n/;
    assert.match(await upgrade(), both);
    label({ 'domino-compute': 'false', 'domino-platform': 'true' });
    assert.match(await upgrade(), /LACKS A LABEL[^\n]*\n\n +kubectl label [^\n]* domino-compute=true\n/);
    label({ 'domino-compute': 'true', 'domino-platform': 'true' });
    assert.doesNotMatch(await upgrade(), /LACKS/);
  });

  it('refuses a missing namespace before it creates any object', async () => {
    const add = (name: string) =>
      cluster.objects.set(`/api/v1/namespaces/${name}`, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
    const made = () => [...cluster.objects.keys()].filter((path) => path.split('/').length > 5);
    const lacks = (path: string, name: string) => new RegExp(`${path}: there is no namespace ${name} in this cluster`);
    add('default');
    // Helm creates the release's own namespace, where it is asked to, after it has rendered the chart.
    await assert.rejects(install(), lacks('env.namespace.compute', 'domino-compute'));
    for (const name of ['domino-field', 'domino-compute']) add(name);
    await assert.rejects(install(), lacks('env.namespace.platform', 'domino-platform'));
    await assert.rejects(
      install('--set', 'env.namespace.field=domino-feild'),
      lacks('env.namespace.field', 'domino-feild'),
    );
    assert.deepEqual(made(), [], 'no object, and no failed release');
    const dashboard = 'monitoring.dashboard.enabled=true,monitoring.dashboard.namespace=grafana';
    add('domino-platform');
    await assert.rejects(install('--set', dashboard), lacks('monitoring.dashboard.namespace', 'grafana'));
    await install();
    const wrong = ['--set', 'env.namespace.compute=domino-compute-2'];
    await assert.rejects(upgrade(...wrong), lacks('env.namespace.compute', 'domino-compute-2'));
    // A dry run asks the cluster for nothing by name, so it cannot tell.
    await upgrade(...wrong, '--dry-run');
  });

  it('names the missing CRDs of cert-manager, domsed and Prometheus', async () => {
    const bare = await startCluster(['cert-manager.io/v1', 'apps.dominodatalab.com/v1alpha1']);
    try {
      const monitoring = ['--set', 'monitoring.serviceMonitor.enabled=true,monitoring.prometheusRule.enabled=true'];
      await assert.rejects(
        bare.helm('install', 'irsa', chart, ...values, ...checked, ...monitoring),
        ({ message }: Error) =>
          ['cert-manager is not', 'domsed is not', 'serviceMonitor.enabled: the', 'prometheusRule.enabled: the'].every(
            (part) => message.includes(part),
          ),
      );
      const less = ['--set', 'irsa_client_sidecar.enabled=false,tls.mode=secret,tls.existingSecret=mine'];
      await bare.helm('install', 'irsa', chart, ...values, ...checked, ...less);
    } finally {
      await bare.close();
    }
  });

  it('prints the notes after an installation', async () => {
    assert.match(await install(), /NOTES:\nirsa-svc [\d.]+ is being installed in domino-field/);
  });
});
