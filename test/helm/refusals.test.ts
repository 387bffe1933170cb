/** Proves that values which cannot be used are refused, all at once, with sentences that say what to do. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { needsHelm } from './objects.ts';
import { chart, RenderError, renderChart, type Values } from './render.ts';

/** The refusal of these values, as helm's user reads it. */
function refusal(values: Values): string {
  try {
    renderChart(values);
  } catch (error) {
    if (error instanceof RenderError) return error.message;
    throw error;
  }
  assert.fail(`rendered with ${JSON.stringify(values)}`);
}

describe('the chart refuses', function () {
  this.timeout(60_000);
  before(needsHelm);

  for (const [what, values, sentence] of [
    ['a missing image', { image: { repository: '' } }, 'image.repository: name the image'],
    ['release 1.8’s image', { image: { serverAppVersion: 'v1.8.0' } }, 'image.serverAppVersion: this is release 1.8'],
    [
      'release 1.8’s version of memcached',
      { image: { memcachedVersion: '1.6' } },
      'image.memcachedVersion: this is release 1.8',
    ],
    [
      'release 1.8’s memcached',
      { image: { memcachedContainer: 'memcached' } },
      'image.memcachedContainer: this is release 1.8',
    ],
    ['an issuer with a scheme', { env: { oidc_provider: 'https://oidc.example.com/id/A' } }, 'leave out https://'],
    ['an issuer with a slash', { env: { oidc_provider: 'oidc.example.com/id/' } }, 'without a slash at the end'],
    [
      'a placeholder for the AWS account',
      { env: { eks_aws_account: '<EKS_ACCOUNT_NO>' } },
      'expected the twelve digits',
    ],
    ['an AWS account that is a number', { env: { eks_aws_account: 111111111111 } }, 'in quotes, or YAML takes it'],
    ['a role name without an AWS account', { env: { eks_aws_account: '' } }, "give the cluster's AWS account"],
    ['a missing Domino issuer', { env: { domino_issuer: '' } }, 'give https://<domino>/auth/realms/DominoRealm'],
    ['an invalid region', { env: { aws_region: 'Oregon' } }, 'expected the name of an AWS region'],
    [
      'a role of another partition',
      { serviceAccount: { roleArn: 'arn:aws-cn:iam::111111111111:role/a' } },
      'expected a role of partition aws, which region us-west-2 is in',
    ],
    ['govcloud in a region of another partition', { env: { govcloud: true } }, 'says another partition'],
    ['an invalid proxy', { env: { proxy: { https_proxy: 'http://proxy/path' } } }, 'env.proxy.https_proxy: expected'],
    ['NODE_USE_ENV_PROXY', { extraEnv: [{ name: 'NODE_USE_ENV_PROXY', value: '1' }] }, 'would send calls inside the'],
    [
      'a proxy that is set twice',
      { env: { proxy: { https_proxy: 'p.example:3128' } }, extraEnv: [{ name: 'HTTPS_PROXY', value: 'http://p' }] },
      'HTTPS_PROXY is set by a value of the chart already',
    ],
    ['an image with a tag', { image: { repository: 'r.example:5000/irsa-svc:2.0.0' } }, 'goes to image.tag'],
    ['an image with a digest', { image: { repository: 'r.example/irsa-svc@sha256:0' } }, "give the image's name alone"],
    ['an image with a scheme', { image: { repository: 'https://r.example/irsa-svc' } }, "give the image's name alone"],
    ['an invalid tag', { image: { tag: '2.0.0 ' } }, 'image.tag: expected'],
    [
      'a global registry beside another one',
      { global: { imageRegistry: 'mirror.example' } },
      'image.repository names another registry, registry.example.com',
    ],
    [
      'a global value that has no effect',
      { global: { storageClass: 'x' } },
      'global.storageClass: this chart does not',
    ],
    ['a CA from two places', { ca: { configMap: 'a', secret: 'b' } }, 'ca: give a ConfigMap or a Secret, and not both'],
    [
      'a CA of the sidecar that is set twice',
      { irsa_client_sidecar: { ca: { configMap: 'a' }, settings: { NODE_EXTRA_CA_CERTS: '/x' } } },
      'irsa_client_sidecar.ca sets it',
    ],
    [
      'a toleration with a value for operator Exists',
      { tolerations: [{ operator: 'Exists', value: 'x' }] },
      'takes no value',
    ],
    ['a toleration without a key', { tolerations: [{ value: 'x' }] }, 'needs operator Exists'],
    [
      'a console URL without a scheme',
      { console: { url: 'irsa.acme.example' } },
      'console.url: expected the address of the console',
    ],
    [
      'a runbook URL that is a path',
      { monitoring: { prometheusRule: { runbookUrl: 'docs/runbook.md' } } },
      'runbookUrl: expected the URL of a page',
    ],
    ['release 1.8’s istio.enabled', { istio: { enabled: true } }, 'set tls.mode to off'],
    ['release 1.8’s istio as a boolean', { istio: true }, 'set tls.mode to off'],
    [
      'a certificate that is renewed as soon as it is issued',
      { tls: { certManager: { duration: '24h', renewBefore: '1440m' } } },
      'tls.certManager.renewBefore: expected less than tls.certManager.duration (24h)',
    ],
    [
      'a certificate that outlives its CA',
      { tls: { certManager: { caDuration: '2160h' } } },
      'tls.certManager.caDuration: expected more than',
    ],
    ...['/token', '/var/run/.aws/token', '/var/run/podinfo/x', '/etc/ssl/certs/irsa/x', '/etc/x'].map((path) => [
      `a token at ${path}`,
      { settings: { WEB_IDENTITY_TOKEN_PATH: path } },
      'settings.WEB_IDENTITY_TOKEN_PATH: expected a file in a folder of its own',
    ]),
    ...['/app', '/app/dist', '/etc', '/var/run/secrets/kubernetes.io/serviceaccount'].map((folder) => [
      `a certificate in ${folder}`,
      { settings: { TLS_CERT_FILE: `${folder}/tls.crt`, TLS_KEY_FILE: `${folder}/tls.key` } },
      'settings.TLS_CERT_FILE: expected a file in a folder of its own',
    ]),
    [
      'a certificate and its key in one file',
      { settings: { TLS_CERT_FILE: '/ssl/tls.pem', TLS_KEY_FILE: '/ssl/tls.pem' } },
      'settings.TLS_KEY_FILE: expected another file',
    ],
    [
      'an invalid size limit',
      { irsa_client_sidecar: { logsSizeLimit: '64MB' } },
      'irsa_client_sidecar.logsSizeLimit: expected an amount as Kubernetes writes it, such as 64Mi, which 64MB is not',
    ],
    [
      'an invalid amount of memory',
      { irsa_client_sidecar: { resources: { limits: { memory: '128 Mi' } } } },
      'irsa_client_sidecar.resources.limits.memory: expected an amount',
    ],
    [
      'a pod label that the chart sets',
      { podLabels: { 'app.kubernetes.io/name': 'x' } },
      'podLabels: app.kubernetes.io/name is the',
    ],
    [
      'a role annotation that the chart sets',
      { serviceAccount: { annotations: { 'eks.amazonaws.com/role-arn': 'x' } } },
      'serviceAccount.annotations: eks.amazonaws.com/role-arn follows from',
    ],
    [
      'the compute namespace as the field namespace',
      { env: { namespace: { field: 'domino-compute' } } },
      "where users' code runs",
    ],
    ['one port for calls and metrics', { settings: { PORT: 8080 } }, 'expected another port than settings.PORT'],
    [
      'a setting that is set twice',
      { extraEnv: [{ name: 'AWS_REGION', value: 'x' }] },
      'AWS_REGION is set by a value of the',
    ],
    ['tls.mode secret without the name of a Secret', { tls: { mode: 'secret' } }, 'name the Secret in domino-field'],
    ['method pem without PEM text', { tls: { ca: { method: 'pem' } } }, "give the CA's certificate as PEM text"],
    [
      'a private key in the CA’s PEM text',
      { tls: { ca: { method: 'pem', pem: '-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----' } } },
      'it holds a private key',
    ],
    [
      'trust-manager with the chart’s CA',
      { tls: { ca: { method: 'trust-manager' } } },
      'where trust-manager does not look',
    ],
    [
      'trust-manager with the chart’s CA and a Secret',
      { tls: { ca: { method: 'trust-manager', trustManager: { secretName: 'irsa-svc-ca' } } } },
      'no workload gets the CA that the chart makes',
    ],
    [
      'trust-manager without a CA',
      { tls: { certManager: { issuerRef: { name: 'acme-ca' } }, ca: { method: 'trust-manager' } } },
      "name the Secret in trust-manager's own namespace",
    ],
    ['the chart’s CA with method none', { tls: { ca: { method: 'none' } } }, 'with none no workload gets the CA'],
    ['an egress policy without rules', { networkPolicy: { egress: { enabled: true } } }, 'let the API server, IAM'],
    ['Pod Identity without a cluster', { podIdentity: { enabled: true } }, 'give the name of the EKS cluster'],
    [
      'both Pod Identity and userbasedserviceaccounts',
      { podIdentity: { enabled: true, clusterName: 'acme' }, userbasedserviceaccounts: { enabled: true } },
      'would contradict each other',
    ],
    [
      'a grant timeout beyond the sidecar’s',
      { settings: { GRANT_TIMEOUT_SECONDS: 60 } },
      'hangs up before the service answers',
    ],
    [
      'an empty list of label selectors',
      { irsa_client_sidecar: { labelSelectors: [] } },
      'or every pod in domino-compute gets',
    ],
    // These are Helm's own sentences, from the schema.
    [
      'an unknown mode',
      { tls: { mode: 'of' } },
      "at '/tls/mode': value must be one of 'cert-manager', 'secret', 'off'",
    ],
    [
      'an unknown operator of a toleration',
      { tolerations: [{ key: 'a', operator: 'Equals', value: 'b' }] },
      "at '/tolerations/0/operator': value must be one of 'Exists', 'Equal'",
    ],
    [
      'an unknown effect of a toleration',
      { tolerations: [{ key: 'a', operator: 'Exists', effect: 'NoSchedul' }] },
      "at '/tolerations/0/effect': value must be one of",
    ],
    ['an unknown value', { replicaCount: 2 }, "additional properties 'replicaCount' not allowed"],
    ['an unknown setting', { settings: { RESYNC: 1 } }, "at '/settings': additional properties 'RESYNC' not allowed"],
    [
      'a number out of range',
      { settings: { LEASE_SECONDS: 90 } },
      "at '/settings/LEASE_SECONDS': maximum: got 90, want 60",
    ],
    ['too little time to drain', { terminationGracePeriodSeconds: 10 }, 'minimum: got 10, want 30'],
  ] as [string, Values, string][]) {
    it(what, () => assert.ok(refusal(values).includes(sentence), refusal(values)));
  }

  it('extraEnv variables for settings that its templates read', () => {
    const folder = join(chart, 'templates');
    const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) =>
      /\.(yaml|tpl)$/.test(name),
    );
    const templates = files.map((name) => readFileSync(join(folder, name), 'utf8'));
    const read = templates.flatMap((text) =>
      [...text.matchAll(/"irsa\.setting" \(list \S+ "(\w+)"/g)].map(([, name]) => name),
    );
    assert.ok(read.length > 5);
    const names = [...new Set([...read, 'SSL_OFF', 'EKS_CLUSTER_NAME', 'DEFAULT_PLATFORM_NS'])];
    const text = refusal({ extraEnv: names.map((name) => ({ name, value: '1' })) });
    assert.deepEqual(
      names.filter((name) => !text.includes(`  - extraEnv: ${name} is `)),
      [],
    );
    assert.ok(
      text.includes('Use settings.PORT.') && text.includes('Use tls.mode.') && text.includes('Use podIdentity.'),
      text,
    );
    assert.doesNotThrow(() =>
      renderChart({ extraEnv: [{ name: 'AWS_ENDPOINT_URL_STS', value: 'https://sts.acme.example' }] }),
    );
  });

  it('no valid amounts, durations and folders', () => {
    const resources = { requests: { cpu: 1, memory: '0.5Gi' }, limits: { memory: 1_000_000_000 } };
    assert.doesNotThrow(() => renderChart({ resources, irsa_client_sidecar: { resources, configSizeLimit: '1500k' } }));
    const certManager = { duration: '1h30m', renewBefore: '89m', caDuration: '2h' };
    assert.doesNotThrow(() => renderChart({ tls: { certManager } }));
    const settings = {
      WEB_IDENTITY_TOKEN_PATH: '/var/run/acme/token',
      TLS_CERT_FILE: '/application/a.crt',
      TLS_KEY_FILE: '/application/a.key',
    };
    assert.doesNotThrow(() => renderChart({ settings }));
  });

  it('neither method none with an own issuer or Secret, nor trust-manager with an own issuer', () => {
    const issuerRef = { name: 'acme-ca', kind: 'ClusterIssuer' };
    assert.doesNotThrow(() => renderChart({ tls: { certManager: { issuerRef }, ca: { method: 'none' } } }));
    assert.doesNotThrow(() =>
      renderChart({ tls: { mode: 'secret', existingSecret: 'acme-tls', ca: { method: 'none' } } }),
    );
    const trustManager = { secretName: 'acme-ca' };
    assert.doesNotThrow(() =>
      renderChart({ tls: { certManager: { issuerRef }, ca: { method: 'trust-manager', trustManager } } }),
    );
  });

  it('several invalid values in one message', () => {
    const text = refusal({ image: { repository: '' }, env: { aws_region: '', domino_issuer: 'x' } });
    assert.equal(text.match(/^ {2}- /gm)?.length, 3, text);
  });
});
