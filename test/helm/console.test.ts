/** Proves how the chart exposes the console, the pods of `helm test`, and the values that add to all objects. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { loadConfig } from '../../src/lib/config.ts';
import { type Container, containerOf, environment, needsHelm, service, type Workload } from './objects.ts';
import { chart, objectNamed, RenderError, type Rendered, renderChart } from './render.ts';
import { root } from './tools.ts';

interface TestPod extends Rendered {
  spec: { serviceAccountName?: string; containers: Container[]; volumes?: { name: string }[] };
}

interface Rules extends Rendered {
  spec: { groups: { rules: { alert: string; annotations: Record<string, string> }[] }[] };
}

/** Of a Service, the labels themselves. */
type Selector = Record<string, string> | { matchLabels?: Record<string, string> };

const host = 'irsa.acme.example';
const testPods = (objects: readonly Rendered[]) => objects.filter(({ kind }) => kind === 'Pod') as TestPod[];

describe('the chart’s console', function () {
  this.timeout(60_000);
  before(needsHelm);

  it('is on by default without a client id; values change both, and the runbook URL', () => {
    const config = (console: object) => loadConfig(environment(containerOf(service(renderChart({ console })))));
    assert.deepEqual([config({}).consoleEnabled, config({}).consoleClientId], [true, undefined]);
    assert.equal(config({ clientId: 'irsa-console' }).consoleClientId, 'irsa-console');
    assert.equal(config({ enabled: false }).consoleEnabled, false);
    const monitoring = { prometheusRule: { runbookUrl: 'https://wiki.acme.example/runbook' } };
    const env = environment(containerOf(service(renderChart({ monitoring }))));
    assert.equal(loadConfig(env).runbookUrl, 'https://wiki.acme.example/runbook');
  });

  it('is exposed by an Ingress that routes to the Service by the name of its port', () => {
    for (const [mode, port] of [
      ['cert-manager', 'https'],
      ['off', 'http'],
    ]) {
      const ingress = {
        enabled: true,
        className: 'nginx',
        host,
        annotations: { a: 'b' },
        tlsSecret: 'irsa-console-tls',
      };
      const objects = renderChart({ ingress, tls: { mode } });
      const { metadata, spec } = objectNamed<Rendered & { spec: object }>(objects, 'Ingress', 'irsa-svc');
      assert.deepEqual(metadata.annotations, { a: 'b' });
      const backend = { service: { name: 'irsa-svc', port: { name: port } } };
      assert.deepEqual(spec, {
        ingressClassName: 'nginx',
        tls: [{ hosts: [host], secretName: 'irsa-console-tls' }],
        rules: [{ host, http: { paths: [{ path: '/', pathType: 'Prefix', backend }] } }],
      });
      const { spec: target } = objectNamed<Rendered & { spec: { ports: { name: string }[] } }>(
        objects,
        'Service',
        'irsa-svc',
      );
      assert.ok(target.ports.some(({ name }) => name === port));
    }
  });

  it('is exposed by an HTTPRoute, with a BackendTLSPolicy for a name in the certificate', () => {
    const parentRefs = [{ name: 'public', namespace: 'gateways', sectionName: 'https' }];
    const httpRoute = { enabled: true, parentRefs, hostnames: [host], backendCaConfigMap: 'irsa-backend-ca' };
    const objects = renderChart({ httpRoute });
    assert.deepEqual(objectNamed<Rendered & { spec: object }>(objects, 'HTTPRoute', 'irsa-svc').spec, {
      ...{ parentRefs, hostnames: [host] },
      rules: [{ backendRefs: [{ name: 'irsa-svc', port: 443 }] }],
    });
    const { spec } = objectNamed<Rendered & { spec: { validation: { hostname: string } } }>(
      objects,
      'BackendTLSPolicy',
      'irsa-svc',
    );
    const certificate = objectNamed<Rendered & { spec: { dnsNames: string[] } }>(objects, 'Certificate', 'irsa-svc');
    assert.ok(certificate.spec.dnsNames.includes(spec.validation.hostname));
  });

  it('has no Ingress and no HTTPRoute by default, and incomplete values for them are refused', () => {
    const kinds = renderChart().map(({ kind }) => kind);
    for (const kind of ['Ingress', 'HTTPRoute', 'BackendTLSPolicy']) assert.ok(!kinds.includes(kind), kind);
    assert.throws(() => renderChart({ ingress: { enabled: true } }), /ingress\.host/);
    assert.throws(() => renderChart({ httpRoute: { enabled: true } }), /httpRoute\.parentRefs/);
    const clear = { httpRoute: { backendCaConfigMap: 'ca' }, tls: { mode: 'off' } };
    assert.throws(() => renderChart(clear), /backendCaConfigMap/);
    assert.throws(() => renderChart({ console: { clientId: 'a b' } }), RenderError);
  });

  it('is linked from the dashboard, beside the runbook', () => {
    const links = (values: object) => {
      const dashboard = { enabled: true };
      const monitoring = { dashboard, prometheusRule: { runbookUrl: 'https://wiki.acme.example/irsa' } };
      const objects = renderChart({ monitoring, ...values });
      const { data } = objectNamed<Rendered & { data: Record<string, string> }>(
        objects,
        'ConfigMap',
        'irsa-svc-dashboard',
      );
      const text = JSON.parse(data['irsa-svc.json'] ?? '') as { links: { url: string }[] };
      return text.links.map(({ url }) => url);
    };
    const runbook = 'https://wiki.acme.example/irsa';
    assert.deepEqual(links({}), ['https://localhost:8443/console', runbook]);
    assert.deepEqual(links({ ingress: { enabled: true, host } }), [`https://${host}/console`, runbook]);
    assert.deepEqual(links({ console: { url: `http://${host}/irsa/console` } }), [
      `http://${host}/irsa/console`,
      runbook,
    ]);
  });

  it('is linked from each alert, with the page for the alert, where its address is known', () => {
    const pagesOf = (values: object) => {
      const monitoring = { prometheusRule: { enabled: true } };
      const { spec } = objectNamed<Rules>(renderChart({ monitoring, ...values }), 'PrometheusRule', 'irsa-svc');
      const rules = spec.groups.flatMap((group) => group.rules);
      assert.ok(rules.length > 20);
      return new Map(rules.map(({ alert, annotations }) => [alert, annotations.console_url]));
    };
    const ofRole = [
      ...['IrsaRunsWaitForRoom', 'IrsaTrustPolicyNearlyFull', 'IrsaProxyRoleError', 'IrsaTrustPolicyContested'],
      ...['IrsaBrakeHolds', 'IrsaRoleTokensNotGiven'],
    ];
    const ofPods = ['IrsaPodIdentityProblem', 'IrsaPodIdentityContested'];
    const route = { enabled: true, parentRefs: [{ name: 'public' }], hostnames: [host, 'second.example'] };
    for (const [values, address] of [
      [{ ingress: { enabled: true, host } }, `https://${host}/console`],
      [{ httpRoute: route }, `https://${host}/console`],
      [{ httpRoute: route, console: { url: `http://${host}/irsa/console` } }, `http://${host}/irsa/console`],
    ] as const) {
      for (const [alert, url] of pagesOf(values)) {
        const page = ofRole.includes(alert)
          ? '{{ with $labels.role }}#/roles?arn={{ urlquery . }}{{ end }}'
          : ofPods.includes(alert)
            ? '#/pod-identity'
            : '';
        assert.equal(url, `${address}${page}`, alert);
      }
    }
    const off = { enabled: false, url: `https://${host}/console` };
    for (const values of [{}, { ingress: { enabled: true, host }, console: off }]) {
      assert.deepEqual(new Set(pagesOf(values).values()), new Set([undefined]));
    }
  });
});

describe('`helm test`', function () {
  this.timeout(60_000);
  before(needsHelm);

  it('has a pod that calls like a workload, and one that reads with the service’s service account', () => {
    const [ready, role, ...others] = testPods(renderChart());
    assert.deepEqual(others, []);
    assert.equal(ready?.metadata.namespace, 'domino-compute');
    assert.deepEqual(containerOfPod(ready).command, [
      'node',
      'dist/src/helm-test.js',
      'ready',
      'https://irsa-svc.domino-field',
    ]);
    assert.equal(environment(containerOfPod(ready)).NODE_EXTRA_CA_CERTS, '/ca/ca.crt');
    assert.equal(role?.metadata.namespace, 'domino-field');
    assert.equal(role?.spec.serviceAccountName, 'irsa-svc');
    assert.ok(loadConfig(environment(containerOfPod(role))));
    for (const { metadata } of [ready, role] as TestPod[]) assert.equal(metadata.annotations?.['helm.sh/hook'], 'test');
    assert.deepEqual(testPods(renderChart({ tests: { enabled: false } })), []);
  });

  it('starts a program that build.ts builds', () => {
    const build = readFileSync(join(root, 'build.ts'), 'utf8');
    for (const pod of testPods(renderChart())) {
      const source =
        containerOfPod(pod)
          .command?.[1]?.replace(/^dist\//, '')
          .replace(/\.js$/, '.ts') ?? '';
      assert.ok(existsSync(join(root, source)) && build.includes(`'${source}'`), source);
    }
  });

  it('has pods that no selector of the replicas matches', () => {
    const objects = renderChart();
    const selectors = objects.flatMap(({ kind, spec = {} }) => {
      const { selector, podSelector = selector } = spec as { selector?: Selector; podSelector?: Selector };
      const labels = kind === 'Service' ? selector : podSelector?.matchLabels;
      return labels ? [{ kind, labels: labels as Record<string, string> }] : [];
    });
    const kinds = selectors.map(({ kind }) => kind);
    for (const kind of ['Deployment', 'NetworkPolicy', 'PodDisruptionBudget', 'Service']) {
      assert.ok(kinds.includes(kind), kind);
    }
    for (const { metadata } of testPods(objects)) {
      for (const { kind, labels } of selectors) {
        const isTaken = Object.entries(labels).every(([name, value]) => metadata.labels?.[name] === value);
        assert.equal(isTaken, false, kind);
      }
    }
  });

  it('mounts no CA with tls.mode off, and mounts a company’s CA where one is given', () => {
    const [ready] = testPods(renderChart({ tls: { mode: 'off' } }));
    assert.equal(containerOfPod(ready).env, undefined);
    assert.equal(ready?.spec.volumes, undefined);
    const [, role] = testPods(renderChart({ ca: { configMap: 'acme-ca' } }));
    assert.deepEqual(
      role?.spec.volumes?.map(({ name }) => name),
      ['irsa-more-cas'],
    );
  });

  const containerOfPod = (pod: TestPod | undefined) => pod?.spec.containers[0] as Container;
});

describe('values of the chart that add to its objects', function () {
  this.timeout(60_000);
  before(needsHelm);

  it('commonLabels are on every object and change no selector', () => {
    const commonLabels = { team: 'data', 'app.kubernetes.io/name': 'other' };
    const all = {
      podIdentity: { enabled: true, clusterName: 'acme' },
      ingress: { enabled: true, host },
      monitoring: {
        serviceMonitor: { enabled: true },
        prometheusRule: { enabled: true },
        dashboard: { enabled: true },
      },
    };
    const objects = renderChart({ ...all, commonLabels });
    const without = objects.filter(({ metadata }) => metadata.labels?.team !== 'data');
    assert.deepEqual(
      without.map(({ kind, metadata }) => `${kind} ${metadata.name}`),
      [],
    );
    const selector = (from: readonly Rendered[]) => service(from).spec.selector;
    assert.deepEqual(selector(objects), selector(renderChart()));
    assert.equal(service(objects).metadata.labels?.['app.kubernetes.io/name'], 'irsa-svc');
  });

  it('security contexts are merged into those of the service, and leave the Mutation unchanged', () => {
    const changed = { podSecurityContext: { fsGroup: 2000 }, securityContext: { runAsUser: 2000, runAsGroup: null } };
    const [before, after] = [service(renderChart()), service(renderChart(changed))];
    const pod = (workload: Workload) => workload.spec.template.spec;
    assert.deepEqual(pod(after).securityContext, { ...pod(before).securityContext, fsGroup: 2000 });
    const { runAsGroup: _, ...own } = containerOf(before).securityContext;
    const { runAsGroup, ...given } = containerOf(after).securityContext;
    assert.deepEqual([given, runAsGroup ?? undefined], [{ ...own, runAsUser: 2000 }, undefined]);
    const mutation = (objects: readonly Rendered[]) => JSON.stringify(objectNamed(objects, 'Mutation', 'irsa'));
    assert.equal(mutation(renderChart(changed)), mutation(renderChart()));
  });

  it('extraObjects are rendered from YAML or text, with template expressions in them', () => {
    const named = (name: string) => ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data: {} });
    const extraObjects = [named('{{ .Release.Name }}-a'), stringify(named('{{ include "irsa.name" . }}-b'))];
    const objects = renderChart({ extraObjects });
    for (const name of ['irsa-a', 'irsa-svc-b']) assert.ok(objectNamed(objects, 'ConfigMap', name));
    assert.equal(objects.length, renderChart().length + 2);
  });

  it('service.annotations are on the Service that workloads call', () => {
    const annotations = { 'acme.example/owner': 'data' };
    const objects = renderChart({ service: { annotations } });
    assert.deepEqual(objectNamed(objects, 'Service', 'irsa-svc').metadata.annotations, annotations);
  });
});

describe('Chart.yaml', () => {
  it('has Artifact Hub’s annotations, and the release workflow adds what depends on the repository', () => {
    const text = readFileSync(join(chart, 'Chart.yaml'), 'utf8');
    const { annotations, version, appVersion } = parse(text) as Record<string, string> & {
      annotations: Record<string, string>;
    };
    assert.equal(annotations['artifacthub.io/category'], 'security');
    assert.equal(annotations['artifacthub.io/license'], 'Apache-2.0');
    assert.equal(version, appVersion);
    const release = readFileSync(join(root, '.github', 'workflows', 'release.yml'), 'utf8');
    for (const field of ['.home', '.sources', '.maintainers', 'artifacthub.io/images'])
      assert.ok(release.includes(field), field);
    const jobs = (parse(release) as { jobs: Record<string, { permissions?: Record<string, string> }> }).jobs;
    assert.deepEqual(Object.keys(jobs), ['check', 'image', 'chart']);
    for (const name of ['image', 'chart']) assert.equal(jobs[name]?.permissions?.attestations, 'write');
    assert.match(release, /provenance: mode=max\n +sbom: true/);
  });
});
