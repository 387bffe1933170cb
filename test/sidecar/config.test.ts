/** Proves the sidecar's settings: Domino's own values as defaults, their forms, and one message for all problems. */
import assert from 'node:assert/strict';
import { ConfigError } from '../../src/lib/config-error.ts';
import { loadSidecarConfig } from '../../src/sidecar/config.ts';

function problems(env: Record<string, string>): readonly string[] {
  try {
    loadSidecarConfig(env);
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    for (const problem of error.problems) assert.ok(error.message.includes(`\n${problem}`));
    return error.problems;
  }
  return [];
}

describe("the sidecar's settings", () => {
  it('default to those of a Domino workload, also where a variable is empty', () => {
    const expected = {
      podInfoPath: '/var/run/podinfo/labels',
      runId: undefined,
      apiProxy: 'http://localhost:8899',
      endpoint: 'https://irsa-svc.domino-field/map_iam_roles_to_pod_sa',
      certFile: undefined,
      tlsVerify: true,
      requestTimeoutMs: 60_000,
      configFile: '/var/run/.aws/config',
      tokenFile: '/var/run/secrets/eks.amazonaws.com/serviceaccount/token',
      roleTokenDir: undefined,
      podName: '',
      credentials: 'chain' as const,
      credentialsDir: '/var/run/irsa-credentials',
      defaultCredentials: false,
      region: undefined,
      stsEndpoint: undefined,
      proxyEnv: {},
      prove: true,
      recheckMs: 60_000,
      port: 6003,
      refreshMs: 900_000,
      once: false,
      onceTimeoutMs: 120_000,
      logFile: undefined,
      logFileMaxBytes: 1_048_576,
      logLevel: 'info',
    };
    assert.deepEqual(loadSidecarConfig({}), expected);
    assert.deepEqual(loadSidecarConfig({ IRSA_SIDECAR_PORT: '', AWS_REGION: '' }), expected);
    assert.ok(Object.isFrozen(loadSidecarConfig({})));
  });

  it('accept IRSA_CREDENTIALS=process only with a folder that is safe in a shell, and not with IRSA_ONCE', () => {
    const { credentials, credentialsDir } = loadSidecarConfig({
      IRSA_CREDENTIALS: 'process',
      IRSA_CREDENTIALS_DIR: '/s',
    });
    assert.deepEqual([credentials, credentialsDir], ['process', '/s']);
    assert.match(problems({ IRSA_CREDENTIALS: 'files' }).join(), /^IRSA_CREDENTIALS: expected process or chain$/);
    assert.match(
      problems({ IRSA_CREDENTIALS_DIR: '/a b' }).join(),
      /^IRSA_CREDENTIALS_DIR: expected an absolute path of/,
    );
    const once = problems({ IRSA_CREDENTIALS: 'process', IRSA_ONCE: 'true' });
    assert.match(once.join(), /^IRSA_CREDENTIALS: process needs a sidecar that goes on/);
    assert.deepEqual(problems({ IRSA_ONCE: 'true' }), []);
    assert.match(
      problems({ IRSA_DEFAULT_CREDENTIALS: 'true' }).join(),
      /^IRSA_DEFAULT_CREDENTIALS: .* IRSA_CREDENTIALS=process$/,
    );
  });

  it('are read in the forms that people use', () => {
    const config = loadSidecarConfig({
      DOMINO_API_PROXY: 'http://localhost:8899/',
      DOMINO_IRSA_SSL_CERT: '/etc/ssl/certs/irsa/ca.crt',
      AWS_DEFAULT_REGION: 'us-gov-west-1',
      AWS_ENDPOINT_URL: 'http://127.0.0.1:4566',
      IRSA_PROVE: 'False',
      IRSA_ONCE: 'TRUE',
      IRSA_REFRESH_SECONDS: '0',
    });
    assert.equal(config.apiProxy, 'http://localhost:8899');
    assert.equal(config.certFile, '/etc/ssl/certs/irsa/ca.crt');
    assert.equal(config.region, 'us-gov-west-1');
    assert.equal(config.stsEndpoint, 'http://127.0.0.1:4566');
    assert.deepEqual([config.prove, config.once, config.refreshMs], [false, true, 0]);
    const both = { AWS_ENDPOINT_URL: 'http://a.example', AWS_ENDPOINT_URL_STS: 'http://b.example' };
    assert.equal(loadSidecarConfig(both).stsEndpoint, 'http://b.example');
    const regions = { AWS_REGION: 'eu-west-1', AWS_DEFAULT_REGION: 'eu-west-2' };
    assert.equal(loadSidecarConfig(regions).region, 'eu-west-1');
  });

  it('list every problem at once, without values', () => {
    const secret = 'https://user:hunter2@irsa-svc.domino-field/map_iam_roles_to_pod_sa';
    const found = problems({
      DOMINO_IRSA_ENDPOINT: secret,
      POD_INFO_PATH: 'labels',
      IRSA_TLS_VERIFY: 'no',
      IRSA_SIDECAR_PORT: '70000',
      IRSA_REFRESH_SECONDS: '15m',
      AWS_REGION: 'Oregon',
      LOG_LEVEL: 'loud',
    });
    assert.deepEqual(
      found.map((problem) => problem.split(':')[0]),
      [
        'POD_INFO_PATH',
        'DOMINO_IRSA_ENDPOINT',
        'IRSA_TLS_VERIFY',
        'AWS_REGION',
        'IRSA_SIDECAR_PORT',
        'IRSA_REFRESH_SECONDS',
        'LOG_LEVEL',
      ],
    );
    assert.ok(!found.join('\n').includes('hunter2'));
  });

  it('allow http to an address outside the pod only with IRSA_TLS_VERIFY=false', () => {
    const mesh = { DOMINO_IRSA_ENDPOINT: 'http://irsa-svc.domino-field/map_iam_roles_to_pod_sa' };
    assert.match(problems(mesh).join(), /^DOMINO_IRSA_ENDPOINT: expected https;.*IRSA_TLS_VERIFY=false$/);
    assert.deepEqual(problems({ ...mesh, IRSA_TLS_VERIFY: 'false' }), []);
    for (const host of ['127.0.0.1:6000', 'localhost', '[::1]:6000']) {
      assert.deepEqual(problems({ DOMINO_IRSA_ENDPOINT: `http://${host}/map` }), []);
    }
  });
});
