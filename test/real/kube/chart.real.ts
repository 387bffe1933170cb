/** Proves that a real API server accepts all that the chart renders: strictly, without a warning, and unchanged. */
import assert from 'node:assert/strict';
import { valuesFiles } from '../../helm/golden.ts';
import { chart, type Rendered, renderFiles } from '../../helm/render.ts';
import { applyMutations, type Mutation } from '../../stack/domsed.ts';
import { dominoPod, dominoServiceAccount } from '../../stack/pods.ts';
import { goTool, orSkip } from '../tools.ts';
import { type RealCluster, startRealCluster } from './cluster.ts';
import { defineResources } from './definitions.ts';
import { createNamespaces } from './namespaces.ts';
import { compute, field, type Helm, helmOn } from './world.ts';

const helm4 = 'v4.3.2';
const strict = 'fieldManager=test&fieldValidation=Strict';

describe('the chart on kube-apiserver', function () {
  this.timeout(30 * 60_000);
  let cluster: RealCluster;
  const paths = new Map<string, string>();

  before(async function () {
    cluster = await orSkip(this, () => startRealCluster());
    await orSkip(this, () => defineResources(cluster));
  });
  after(() => cluster?.stop());

  /** Where the API server serves a kind, by its discovery. */
  async function pathOf({ apiVersion, kind, metadata }: Rendered): Promise<string> {
    const root = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
    if (!paths.has(`${root} ${kind}`)) {
      const { resources } = (await cluster.must('GET', root)) as unknown as {
        resources: { kind: string; name: string; namespaced: boolean }[];
      };
      for (const { kind: served, name, namespaced } of resources) {
        if (!name.includes('/')) paths.set(`${root} ${served}`, `${namespaced ? 'namespaces/' : ''} ${name}`);
      }
    }
    const [scope, plural] = (paths.get(`${root} ${kind}`) ?? assert.fail(`no ${kind} is served`)).split(' ');
    const namespace = scope === '' ? '' : `${scope}${metadata.namespace ?? 'domino-field'}/`;
    return `${root}/${namespace}${plural}/${metadata.name}`;
  }

  /** Server-side apply, with what the API server warns of. */
  async function apply(object: Rendered, query = strict) {
    const response = await fetch(`${cluster.url}${await pathOf(object)}?${query}`, {
      method: 'PATCH',
      headers: { 'content-type': 'application/apply-patch+yaml' },
      body: JSON.stringify(object),
    });
    const body = (await response.json()) as Rendered & { message?: string };
    const name = `${object.kind} ${object.metadata.name}`;
    assert.ok(response.ok, `${name}: ${body.message}`);
    assert.equal(response.headers.get('warning'), null, name);
    return body;
  }

  /** Without what the API server says of the write itself. */
  function plain(object: Rendered): unknown {
    const {
      managedFields: _,
      resourceVersion: __,
      generation: ___,
      ...metadata
    } = object.metadata as Record<string, unknown>;
    return { ...object, metadata };
  }

  for (const [name, file] of valuesFiles) {
    it(`accepts every object of ${name}.yaml strictly, without a warning and without a difference after`, async () => {
      // Helm makes the Pods of `helm test` when it is asked to, and they need a controller's service accounts.
      const objects = renderFiles(file).filter(({ metadata }) => !metadata.annotations?.['helm.sh/hook']);
      assert.ok(objects.length > 5);
      const spaces = new Set(objects.flatMap(({ metadata }) => metadata.namespace ?? 'domino-field'));
      for (const space of spaces) {
        const answer = await fetch(`${cluster.url}/api/v1/namespaces/${space}`);
        if (answer.status === 404) await createNamespaces(cluster, space);
      }
      for (const object of objects) {
        const stored = await apply(object);
        assertHolds(stored, object, `${object.kind} ${object.metadata.name}`);
        // As `kubectl diff --server-side` finds out.
        const again = await apply(object, `${strict}&dryRun=All`);
        assert.deepEqual(plain(again), plain(stored));
      }
      for (const object of objects) await cluster.must('DELETE', await pathOf(object));
    });

    it(`accepts the pods that the Mutations of ${name}.yaml change`, async function () {
      const mutations = renderFiles(file).filter(({ kind }) => kind === 'Mutation') as unknown as Mutation[];
      if (mutations.length === 0) return void assert.ok(['trust-manager', 'none'].includes(name) || this.skip());
      const space = `pods-of-${name.replaceAll('.', '-')}`;
      await createNamespaces(cluster, space);
      const made = dominoPod({
        runId: '646d27b817c28b5ea4b5b0c1',
        userId: 'u',
        userName: 'svc-user-1',
        plain: true,
        namespace: space,
      });
      const pod = applyMutations(mutations, made);
      assert.notDeepEqual(pod, made);
      const accounts = new Set([made.spec?.serviceAccountName, pod.spec?.serviceAccountName]);
      for (const account of accounts) {
        await cluster.must(
          'POST',
          `/api/v1/namespaces/${space}/serviceaccounts`,
          dominoServiceAccount(account ?? '', space),
        );
      }
      const { status: _, ...sent } = JSON.parse(JSON.stringify(pod)) as Rendered;
      const stored = await cluster.must('POST', `/api/v1/namespaces/${space}/pods?fieldValidation=Strict`, sent);
      assertHolds(stored, sent, 'the pod');
    });
  }

  it('is installed, upgraded, rolled back and removed by Helm 3, and the mappings stay', async function () {
    await helmCycle(await orSkip(this, () => helmOn(cluster)));
  });

  it('is installed, upgraded, rolled back and removed by Helm 4, and the mappings stay', async function () {
    await helmCycle(await orSkip(this, () => helmOn(cluster, goTool('helm', 'helm.sh/helm/v4/cmd/helm', helm4))));
  });

  it('is upgraded from Helm 3 to Helm 4, and back', async function () {
    const three = await orSkip(this, () => helmOn(cluster));
    const four = await orSkip(this, () => helmOn(cluster, goTool('helm', 'helm.sh/helm/v4/cmd/helm', helm4)));
    const values = ['-f', valuesFiles.get('native') ?? ''];
    await helmNamespaces();
    three('install', 'irsa', chart, ...values);
    const before = await replicas();
    assert.doesNotMatch(four('upgrade', 'irsa', chart, ...values, '--set', `replicas=${before + 1}`), /warning/i);
    assert.equal(await replicas(), before + 1);
    three('upgrade', 'irsa', chart, ...values, '--set', `replicas=${before + 2}`);
    assert.equal(await replicas(), before + 2);
    four('rollback', 'irsa', '1');
    assert.equal(await replicas(), before);
    four('uninstall', 'irsa');
  });

  const replicas = async () => {
    const { spec } = await cluster.must('GET', '/apis/apps/v1/namespaces/domino-field/deployments/irsa-svc');
    return (spec as { replicas: number }).replicas;
  };

  async function helmNamespaces(): Promise<void> {
    for (const space of ['domino-field', 'domino-compute', 'domino-platform']) {
      const answer = await fetch(`${cluster.url}/api/v1/namespaces/${space}`);
      if (answer.status === 404) await createNamespaces(cluster, space);
    }
  }

  async function helmCycle(helm: Helm): Promise<void> {
    const values = ['-f', valuesFiles.get('native') ?? ''];
    await helmNamespaces();
    assert.doesNotMatch(helm('install', 'irsa', chart, ...values), /warning/i);
    const mapping = `${field}/configmaps/domino-org-iamrole-mapping`;
    const data = { acme: '[]' };
    await cluster.must('PATCH', mapping, { data }, { 'content-type': 'application/merge-patch+json' });
    assert.doesNotMatch(helm('upgrade', 'irsa', chart, ...values, '--set', 'admissionPolicy.enabled=true'), /warning/i);
    const before = await replicas();
    helm('upgrade', 'irsa', chart, ...values, '--set', `replicas=${before + 1}`);
    assert.equal(await replicas(), before + 1);
    helm('rollback', 'irsa', '2');
    assert.equal(await replicas(), before);
    helm('uninstall', 'irsa');
    assert.deepEqual((await cluster.must('GET', mapping)).data, data);
    const left = async (path: string) =>
      ((await cluster.must('GET', path)).items ?? []).map(({ metadata }) => metadata?.name);
    const rbac = '/apis/rbac.authorization.k8s.io/v1/namespaces';
    assert.deepEqual(await left('/apis/apps/v1/namespaces/domino-field/deployments'), []);
    for (const space of ['domino-field', 'domino-compute', 'domino-platform']) {
      assert.deepEqual(await left(`${rbac}/${space}/roles`), []);
    }
    assert.deepEqual(await left(`${compute}/serviceaccounts`), []);
  }
});

/** Each field that was sent is stored as it was sent; the API server adds its defaults. Empty and absent are the same. */
function assertHolds(stored: unknown, sent: unknown, where: string): void {
  if (Array.isArray(sent)) {
    assert.ok(Array.isArray(stored) && stored.length === sent.length, `${where}: ${JSON.stringify(stored)}`);
    for (const [index, item] of sent.entries()) assertHolds(stored[index], item, `${where}[${index}]`);
    return;
  }
  if (typeof sent !== 'object' || sent === null) {
    assert.deepEqual(stored, sent, where);
    return;
  }
  for (const [key, value] of Object.entries(sent)) {
    const kept = (stored as Record<string, unknown> | undefined)?.[key];
    const isEmpty = value === null || value === '' || value === 0 || value === false;
    if (kept === undefined && (isEmpty || (typeof value === 'object' && Object.keys(value).length === 0))) continue;
    assertHolds(kept, value, `${where}.${key}`);
  }
}
