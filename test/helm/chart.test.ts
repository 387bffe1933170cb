/** Proves what the chart renders means: settings, probes, security, certificates, mappings. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { loadConfig } from '../../src/lib/config.ts';
import { settings } from '../../src/lib/settings.ts';
import { section, textOf } from '../support/pages.ts';
import { goldenDifference, valuesFiles } from './golden.ts';
import { type Container, containerOf, environment, needsHelm, service, type Workload } from './objects.ts';
import { chart, objectNamed, type Rendered, renderChart, renderFiles, type Values } from './render.ts';
import { root } from './tools.ts';

interface Mutating extends Rendered {
  rules: {
    insertContainer?: { spec: Container };
    insertVolumes?: { name: string }[];
    insertVolumeMounts?: { volumeMounts: { mountPath: string }[] };
  }[];
}

const mutationOf = (objects: readonly Rendered[]) => objectNamed<Mutating>(objects, 'Mutation', 'irsa');
const sidecarOf = (objects: readonly Rendered[]) =>
  mutationOf(objects).rules.flatMap(({ insertContainer }) => insertContainer?.spec ?? [])[0] as Container;

describe('the chart', function () {
  this.timeout(60_000);
  before(needsHelm);

  for (const name of valuesFiles.keys()) {
    it(`renders ${name} like its golden file`, () => assert.equal(goldenDifference(name), undefined));
  }

  it('gives the service an environment that its configuration accepts', () => {
    for (const file of valuesFiles.values()) {
      const [deployment] = renderFiles(file)
        .filter(({ kind }) => kind === 'Deployment')
        .slice(-1);
      const env = environment(containerOf(deployment as Workload));
      assert.equal(loadConfig(env).awsRegion, env.AWS_REGION);
    }
  });

  it('can set every setting of the service', () => {
    const names = Object.keys(settings.shape);
    assert.ok(names.length > 25, names.join());
    const schema = JSON.parse(readFileSync(join(chart, 'values.schema.json'), 'utf8')) as {
      properties: { settings: { properties: Record<string, unknown> } };
    };
    // Settings with a value of their own in the chart; SSL_OFF is tls.mode off.
    const byOthers = [
      ...['OIDC_PROVIDER', 'OIDC_PROVIDER_AUDIENCE', 'DOMINO_ISSUER', 'AWS_REGION', 'SSL_OFF'],
      ...['CONSOLE_ENABLED', 'CONSOLE_CLIENT_ID', 'RUNBOOK_URL', 'DEPLOYMENT_NAME'],
      ...['DEFAULT_FIELD_NS', 'DEFAULT_COMPUTE_NS', 'DEFAULT_PLATFORM_NS', 'EKS_CLUSTER_NAME'],
    ];
    const inSettings = Object.keys(schema.properties.settings.properties);
    assert.deepEqual([...inSettings, ...byOthers].sort(), [...names].sort());
    const everything = (['mesh', 'native'] as const).flatMap((name) =>
      renderFiles(valuesFiles.get(name) ?? '')
        .filter(({ kind, metadata }) => kind === 'Deployment' && !metadata.name.endsWith('publisher'))
        .flatMap((deployment) => containerOf(deployment as Workload).env.map((variable) => variable.name)),
    );
    assert.deepEqual(
      names.filter((name) => !everything.includes(name)),
      [],
    );
  });

  it('points the service at Domino in the platform namespace, unless `settings` names another address', () => {
    const hostOf = (values: Values) => environment(containerOf(service(renderChart(values)))).DOMINO_USER_HOST;
    const namespace = { platform: 'acme-platform' };
    assert.equal(hostOf({}), 'http://nucleus-frontend.domino-platform:80');
    assert.equal(hostOf({ env: { namespace } }), 'http://nucleus-frontend.acme-platform:80');
    const settings = { DOMINO_USER_HOST: 'https://domino.acme.example' };
    assert.equal(hostOf({ env: { namespace }, settings }), 'https://domino.acme.example');
    assert.equal(hostOf({ env: { namespace }, settings: { DOMINO_USER_HOST: '' } }), hostOf({ env: { namespace } }));
  });

  it('gives the HTTP proxy to the service and the sidecar, by the value names of release 1.8', () => {
    const proxy = { https_proxy: 'http://proxy.acme.example:3128', http_proxy: '', no_proxy: '.acme.example' };
    const objects = renderChart({ env: { proxy } });
    const wanted = { HTTPS_PROXY: proxy.https_proxy, NO_PROXY: proxy.no_proxy };
    const sidecar = sidecarOf(objects);
    for (const env of [environment(containerOf(service(objects))), environment(sidecar)]) {
      assert.deepEqual({ ...env, ...wanted }, env);
      assert.equal('HTTP_PROXY' in env, false);
    }
    assert.doesNotMatch(JSON.stringify(renderChart()), /"(HTTPS?|NO)_PROXY"/);
  });

  it('mounts a company’s CA and extra volumes in the service and the sidecar, but in no user container', () => {
    const file = '/etc/ssl/certs/irsa-ca/ca.crt';
    const more = {
      extraVolumes: [{ name: 'acme', emptyDir: {} }],
      extraVolumeMounts: [{ name: 'acme', mountPath: '/acme' }],
    };
    for (const tls of [{}, { mode: 'off' }]) {
      const objects = renderChart({
        ...more,
        tls,
        ca: { secret: 'acme-ca', key: 'root.pem' },
        irsa_client_sidecar: { ...more, ca: { configMap: 'acme-cas' } },
      });
      const pod = service(objects).spec.template.spec;
      const items = (key: string) => [{ key, path: 'ca.crt' }];
      const named = (volumes: readonly { name: string }[] | undefined, name: string) =>
        volumes?.find((volume) => volume.name === name);
      assert.deepEqual(named(pod.volumes, 'irsa-more-cas'), {
        name: 'irsa-more-cas',
        secret: { secretName: 'acme-ca', items: items('root.pem') },
      });
      const sidecar = sidecarOf(objects);
      const inserted = mutationOf(objects).rules.flatMap((rule) => rule.insertVolumes ?? []);
      assert.deepEqual(named(inserted, 'irsa-more-cas'), {
        name: 'irsa-more-cas',
        configMap: { name: 'acme-cas', optional: true, items: items('ca.crt') },
      });
      for (const [container, volumes] of [
        [containerOf(service(objects)), pod.volumes],
        [sidecar, inserted],
      ] as const) {
        assert.equal(environment(container).NODE_EXTRA_CA_CERTS, file);
        const paths = container.volumeMounts?.map(({ mountPath }) => mountPath) ?? [];
        assert.deepEqual(paths.slice(-2), ['/etc/ssl/certs/irsa-ca', '/acme']);
        for (const { name } of container.volumeMounts ?? []) assert.ok(named(volumes, name), name);
      }
      const users = mutationOf(objects).rules.flatMap((rule) => rule.insertVolumeMounts?.volumeMounts ?? []);
      assert.equal(users.filter(({ mountPath }) => /irsa-ca|acme/.test(mountPath)).length, 0);
    }
  });

  it('uses the global registry and pull secrets of an umbrella chart', () => {
    const global = { imageRegistry: 'mirror.example:5000/', imagePullSecrets: ['one', { name: 'two' }] };
    const image = { repository: 'team/irsa-svc', pullSecrets: [{ name: 'two' }] };
    const objects = renderChart({ global, image });
    for (const name of ['irsa-svc', 'irsa-svc-ca-publisher']) {
      const workload = objectNamed<Workload>(objects, 'Deployment', name);
      assert.equal(containerOf(workload).image, 'mirror.example:5000/team/irsa-svc:2.1.0');
      const { imagePullSecrets } = workload.spec.template.spec as { imagePullSecrets?: { name: string }[] };
      assert.deepEqual(imagePullSecrets?.map((secret) => secret.name).sort(), ['one', 'two']);
    }
    assert.equal(sidecarOf(objects).image, 'mirror.example:5000/team/irsa-svc:2.1.0');
    const own = renderChart({ image: { repository: 'localhost/irsa-svc' } });
    assert.equal(containerOf(service(own)).image, 'localhost/irsa-svc:2.1.0');
  });

  it('links each alert to its section of the runbook', () => {
    const alertsOf = (prometheusRule: Values) =>
      objectNamed<Rendered & { spec: { groups: { rules: { alert: string; annotations: Values }[] }[] } }>(
        renderChart({ monitoring: { prometheusRule: { enabled: true, ...prometheusRule } } }),
        'PrometheusRule',
        'irsa-svc',
      ).spec.groups.flatMap(({ rules }) => rules);
    for (const [runbookUrl, page] of [
      ['https://wiki.acme.example/irsa/runbook', 'https://wiki.acme.example/irsa/runbook'],
      ['', 'docs/runbook.md'],
    ]) {
      const alerts = alertsOf({ runbookUrl });
      assert.ok(alerts.length > 20);
      for (const { alert, annotations } of alerts) {
        assert.equal(annotations.runbook_url, `${page}#${alert.toLowerCase()}`);
      }
    }
  });

  it('names release 1.8’s Deployment to the service, which may read only that one and its own', () => {
    for (const [values, name] of [
      [{}, 'irsa'],
      [{ env: { name: 'acme-irsa' } }, 'acme-irsa'],
      [{ settings: { EARLIER_DEPLOYMENT: 'irsa-svc' } }, 'irsa-svc'],
      [{ env: { name: 'acme-irsa' }, settings: { EARLIER_DEPLOYMENT: 'other' } }, 'other'],
    ] as [Values, string][]) {
      const objects = renderChart(values);
      const own = service(objects);
      const { EARLIER_DEPLOYMENT: earlier, DEPLOYMENT_NAME: named } = environment(containerOf(own));
      assert.deepEqual([earlier, named], [name, own.metadata.name]);
      const roles = objects.filter(({ kind, metadata }) => kind === 'Role' && metadata.name === 'irsa-svc');
      const rules = roles.flatMap((role) => role.rules as { resources: string[]; resourceNames?: string[] }[]);
      const [rule, ...more] = rules.filter(({ resources }) => resources.includes('deployments'));
      assert.deepEqual([rule?.resourceNames, more], [[...new Set([name, own.metadata.name])], []]);
    }
  });

  it('renders the numbers of settings as they were given', () => {
    const env = environment(
      containerOf(service(renderChart({ settings: { RATE_LIMIT_PER_MINUTE: 1_000_000, IAM_READS_PER_SECOND: 0.25 } }))),
    );
    assert.deepEqual([env.RATE_LIMIT_PER_MINUTE, env.IAM_READS_PER_SECOND], ['1000000', '0.25']);
  });

  it('renders strings that look like numbers as strings', () => {
    const objects = renderChart({
      env: { oidc_provider_audience: '7001' },
      priorityClassName: '7002',
      settings: { WEB_IDENTITY_TOKEN_PATH: '/acme/7003', TLS_CERT_FILE: '/acme/7004', TLS_KEY_FILE: '/acme/7005' },
      tls: {
        certManager: { issuerRef: { name: '7006' } },
        ca: { configMap: '7007', key: '7008' },
      },
      irsa_client_sidecar: { logsSizeLimit: '7009' },
    });
    const text = JSON.stringify(objects);
    assert.ok(
      ['7001', '7002', '7003', '7004', '7005', '7006', '7007', '7008', '7009'].every((value) => text.includes(value)),
    );
    assert.deepEqual(text.match(/[:[,]70\d\d\b/g), null);
    const method = (ca: Values) =>
      JSON.stringify(renderChart({ tls: { mode: 'secret', existingSecret: '7010', ca: { key: '7011', ...ca } } }));
    const pem = method({ method: 'pem', pem: '-----BEGIN CERTIFICATE-----' });
    const bundle = method({ method: 'trust-manager', trustManager: { secretName: '7012', secretKey: '7013' } });
    assert.deepEqual([...pem.matchAll(/[:[,]70\d\d\b/g), ...bundle.matchAll(/[:[,]70\d\d\b/g)], []);
  });

  it('lets the labels for Prometheus and Grafana override its own labels', () => {
    const labels = { 'app.kubernetes.io/instance': 'prometheus', release: 'prometheus' };
    const monitoring = { enabled: true, labels };
    const objects = renderChart({
      monitoring: { serviceMonitor: monitoring, prometheusRule: monitoring, dashboard: monitoring },
    });
    for (const [kind, name] of [
      ['ServiceMonitor', 'irsa-svc'],
      ['PrometheusRule', 'irsa-svc'],
      ['ConfigMap', 'irsa-svc-dashboard'],
    ] as const) {
      const found = objectNamed(objects, kind, name).metadata.labels ?? {};
      assert.deepEqual({ ...found, ...labels }, found, kind);
      assert.equal(found['app.kubernetes.io/part-of'], 'irsa');
    }
  });

  it('runs three replicas, spread over nodes, with time to drain', () => {
    const { spec } = service(renderChart());
    const pod = spec.template.spec;
    assert.equal(spec.replicas, 3);
    assert.deepEqual(spec.strategy, { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } });
    assert.equal(pod.topologySpreadConstraints?.[0]?.topologyKey, 'kubernetes.io/hostname');
    // Twenty seconds for requests under way, which src/main.ts gives, and what the hook before it takes.
    const [, drain = ''] = /drainMs = ([\d_]+);/.exec(readFileSync(join(root, 'src', 'process.ts'), 'utf8')) ?? [];
    const hook = containerOf(service(renderChart())).lifecycle?.preStop.sleep.seconds ?? Number.NaN;
    assert.ok(pod.terminationGracePeriodSeconds >= Number(drain.replace('_', '')) / 1000 + hook + 10);
    const budget = objectNamed<Rendered & { spec: { maxUnavailable: number; selector: unknown } }>(
      renderChart(),
      'PodDisruptionBudget',
      'irsa-svc',
    );
    assert.equal(budget.spec.maxUnavailable, 1);
    assert.deepEqual(budget.spec.selector, spec.selector);
  });

  it('probes over HTTPS, and over HTTP where a mesh handles TLS', () => {
    for (const [mode, scheme] of [
      ['cert-manager', 'HTTPS'],
      ['off', 'HTTP'],
      [false, 'HTTP'],
    ]) {
      const container = containerOf(service(renderChart({ tls: { mode } })));
      const at = (path: string) => ({ path, port: 6000, scheme });
      assert.deepEqual(container.startupProbe?.httpGet, at('/healthz'));
      assert.deepEqual(container.livenessProbe?.httpGet, at('/healthz'));
      assert.deepEqual(container.readinessProbe?.httpGet, at('/readyz'));
    }
  });

  it('restricts every container of its Deployments: non-root, read-only, no capabilities, memory limit', () => {
    for (const file of valuesFiles.values()) {
      for (const object of renderFiles(file).filter(({ kind }) => kind === 'Deployment')) {
        const { template } = (object as Workload).spec;
        assert.equal(template.spec.securityContext.runAsNonRoot, true);
        for (const container of template.spec.containers) {
          assert.deepEqual(container.securityContext, {
            allowPrivilegeEscalation: false,
            capabilities: { drop: ['ALL'] },
            readOnlyRootFilesystem: true,
            runAsNonRoot: true,
            runAsUser: 1000,
            runAsGroup: 1000,
            seccompProfile: { type: 'RuntimeDefault' },
          });
          assert.ok(container.resources.requests.cpu && container.resources.requests.memory);
          assert.ok(container.resources.limits.memory);
        }
      }
    }
  });

  it('selects the replicas, but not the CA publisher, in its Services and its NetworkPolicy', () => {
    const objects = renderChart({ monitoring: { serviceMonitor: { enabled: true } } });
    const labels = service(objects).spec.template.metadata.labels;
    const others = objectNamed<Workload>(objects, 'Deployment', 'irsa-svc-ca-publisher').spec.template.metadata.labels;
    const selectors = objects.flatMap(({ kind, spec }) => {
      const { selector, podSelector } = (spec ?? {}) as { selector?: object; podSelector?: { matchLabels: object } };
      if (kind === 'Service') return [selector];
      return kind === 'NetworkPolicy' ? [podSelector?.matchLabels] : [];
    });
    assert.equal(selectors.length, 3);
    for (const selector of selectors as Record<string, string>[]) {
      const fits = (of: Record<string, string>) => Object.entries(selector).every(([key, value]) => of[key] === value);
      assert.deepEqual([fits(labels), fits(others)], [true, false]);
    }
    assert.equal(labels['nucleus-client'], 'true');
    const monitor = objectNamed<Rendered & { spec: { selector: { matchLabels: Record<string, string> } } }>(
      objects,
      'ServiceMonitor',
      'irsa-svc',
    );
    const monitored = objects.filter(
      ({ kind, metadata }) =>
        kind === 'Service' &&
        Object.entries(monitor.spec.selector.matchLabels).every(([key, value]) => metadata.labels?.[key] === value),
    );
    assert.deepEqual(
      monitored.map(({ metadata }) => metadata.name),
      ['irsa-svc-metrics'],
    );
  });

  it('annotates the service account with a role in the region’s partition, a given ARN, or none', () => {
    const arnOf = (values: Values) =>
      objectNamed(renderChart(values), 'ServiceAccount', 'irsa-svc').metadata.annotations?.[
        'eks.amazonaws.com/role-arn'
      ];
    for (const [region, partition] of Object.entries({
      'us-west-2': 'aws',
      'us-gov-east-1': 'aws-us-gov',
      'cn-northwest-1': 'aws-cn',
      'us-iso-east-1': 'aws-iso',
      'us-isob-east-1': 'aws-iso-b',
      'eu-isoe-west-1': 'aws-iso-e',
      'eusc-de-east-1': 'aws-eusc',
    })) {
      assert.equal(arnOf({ env: { aws_region: region } }), `arn:${partition}:iam::111111111111:role/acme-irsa-svc`);
    }
    const roleArn = 'arn:aws:iam::222222222222:role/team/other';
    assert.equal(arnOf({ serviceAccount: { roleArn } }), roleArn);
    assert.equal(arnOf({ env: { eks_service_role_name: '' } }), undefined);
  });

  it('requests the token for its own role with the configured audience', () => {
    const annotations = (values: Values) =>
      objectNamed(renderChart(values), 'ServiceAccount', 'irsa-svc').metadata.annotations;
    const role = { 'eks.amazonaws.com/role-arn': 'arn:aws:iam::111111111111:role/acme-irsa-svc' };
    const audience = 'acme.example';
    assert.deepEqual(annotations({}), role);
    assert.deepEqual(annotations({ env: { oidc_provider_audience: audience } }), {
      ...role,
      'eks.amazonaws.com/audience': audience,
    });
    // EKS Pod Identity gives the role, with a token of its own.
    assert.equal(annotations({ env: { oidc_provider_audience: audience, eks_service_role_name: '' } }), undefined);
  });

  it('keeps the ConfigMap of mappings on uninstall, and renders it without data', () => {
    const kept = objectNamed(renderChart(), 'ConfigMap', 'domino-org-iamrole-mapping');
    assert.equal(kept.metadata.annotations?.['helm.sh/resource-policy'], 'keep');
    // Release 1.8's manifest says `data: {}`: without it, Helm's merge would delete the whole field.
    assert.deepEqual(kept.data, {});
    const rendered = [...valuesFiles.values()].flatMap((file) => renderFiles(file));
    for (const name of ['irsa-revoked-runs', 'domino-pod-identity-mapping']) {
      assert.equal(rendered.filter(({ metadata }) => metadata.name === name).length, 0, `${name} is the service's own`);
    }
  });

  it('names its objects in shared namespaces after the service, and like release 1.8 for irsa-svc', () => {
    const own = ['domino-compute', 'domino-platform'];
    const shared = (service: string, values: Values = {}) =>
      renderChart({
        userbasedserviceaccounts: { enabled: true },
        env: { service },
        ...values,
      }).filter(({ metadata }) => own.includes(metadata.namespace ?? ''));
    const names = (objects: Rendered[]) => objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`).sort();
    assert.deepEqual(names(shared('irsa-next')), [
      'ConfigMap irsa-next-ca',
      'Mutation irsa-next',
      'Mutation irsa-next-cloud-identity',
      'Pod irsa-next-test-ready',
      'Role irsa-next',
      'Role irsa-next-ca-publisher',
      'RoleBinding irsa-next',
      'RoleBinding irsa-next-ca-publisher',
    ]);
    assert.deepEqual(
      names(shared('irsa-svc')).filter((name) => /^(ConfigMap|Mutation)/.test(name)),
      ['ConfigMap irsa-ca', 'Mutation irsa', 'Mutation irsa-cloud-identity'],
    );
    assert.ok(names(shared('irsa-next', { tls: { ca: { configMap: 'acme-ca' } } })).includes('ConfigMap acme-ca'));
    // The same name in each place: the ConfigMap, the right to write it, the publisher's path, the workloads' volume.
    for (const service of ['irsa-svc', 'irsa-next']) {
      const text = JSON.stringify(renderChart({ env: { service } }));
      const name = service === 'irsa-svc' ? 'irsa-ca' : 'irsa-next-ca';
      const places = [
        `"configMap":{"name":"${name}"`,
        `"resourceNames":["${name}"]`,
        `/namespaces/domino-compute/configmaps/${name}"`,
      ];
      for (const place of places) assert.ok(text.includes(place), place);
    }
  });

  it('needs no CRDs by default but those of cert-manager and domsed', () => {
    const groups = new Set(renderChart().map(({ apiVersion }) => apiVersion.replace(/\/?v\w+$/, '')));
    assert.deepEqual([...groups].sort(), [
      '',
      'apps',
      'apps.dominodatalab.com',
      'cert-manager.io',
      'networking.k8s.io',
      'policy',
      'rbac.authorization.k8s.io',
    ]);
  });

  it('admits calls from Domino’s namespaces, and metrics scrapes from the platform, unless values change this', () => {
    const allowed = (values: Values) => {
      const { spec } = objectNamed<Rendered & { spec: { ingress: Ingress[] } }>(
        renderChart(values),
        'NetworkPolicy',
        'irsa-svc',
      );
      return Object.fromEntries(
        spec.ingress.map(({ from, ports }) => [
          ports[0]?.port,
          from.map(({ namespaceSelector }) => namespaceSelector.matchLabels['kubernetes.io/metadata.name']),
        ]),
      );
    };
    interface Ingress {
      from: { namespaceSelector: { matchLabels: Record<string, string> } }[];
      ports: { port: number }[];
    }
    const own = ['domino-compute', 'domino-platform', 'domino-field'];
    assert.deepEqual(allowed({}), { 6000: own, 8080: ['domino-platform'] });
    const namespace = { compute: 'acme-compute', platform: 'acme-platform', field: 'acme-field' };
    const ours = Object.values(namespace);
    assert.deepEqual(allowed({ env: { namespace } }), { 6000: ours, 8080: ['acme-platform'] });
    assert.deepEqual(allowed({ networkPolicy: { extraNamespaces: ['acme'], metricsNamespaces: ['monitoring'] } }), {
      6000: [...own, 'acme'],
      8080: ['monitoring'],
    });
    assert.deepEqual(allowed({ networkPolicy: { metricsNamespaces: [] } }), { 6000: own });
    // Release 1.8 admitted every namespace: the page for upgrades names the change.
    assert.match(
      section(textOf('docs/upgrade.md'), 'What administrators will notice'),
      /`networkPolicy\.extraNamespaces`/,
    );
  });

  it('installs the alerts and the dashboard as they are in their files', () => {
    const objects = renderChart({
      monitoring: { prometheusRule: { enabled: true }, dashboard: { enabled: true, namespace: 'monitoring' } },
    });
    const file = (name: string) => readFileSync(join(chart, 'files', 'monitoring', name), 'utf8');
    const { spec } = parse(file('alerts.yaml')) as { spec: unknown };
    assert.deepEqual(objectNamed(objects, 'PrometheusRule', 'irsa-svc').spec, spec);
    const { metadata, data } = objectNamed<Rendered & { data: Record<string, string> }>(
      objects,
      'ConfigMap',
      'irsa-svc-dashboard',
    );
    assert.deepEqual([metadata.namespace, metadata.labels?.grafana_dashboard], ['monitoring', '1']);
    assert.deepEqual(JSON.parse(data['irsa-svc.json'] ?? ''), JSON.parse(file('grafana-dashboard.json')));
  });

  it('documents every value in its README', () => {
    const readme = readFileSync(join(chart, 'README.md'), 'utf8');
    const values = parse(readFileSync(join(chart, 'values.yaml'), 'utf8')) as Values;
    const missing = leaves(values).filter((path) => !readme.includes(`\`${path}\``));
    assert.deepEqual(missing, []);
  });
});

/** The paths of values that a person sets: maps that are free in form count as one. */
function leaves(values: Values, prefix = ''): string[] {
  const free = ['resources', 'podLabels', 'nodeSelector', 'labels', 'user_mappings'];
  return Object.entries(values).flatMap(([key, value]) => {
    const path = `${prefix}${key}`;
    const isMap = typeof value === 'object' && value !== null && !Array.isArray(value);
    if (!isMap || free.includes(key) || Object.keys(value).length === 0) return [path];
    return leaves(value as Values, `${path}.`);
  });
}
