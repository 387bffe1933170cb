/** Proves the settings: their defaults, their forms, and one message for all problems. */
import assert from 'node:assert/strict';
import { loadConfig } from '../../src/lib/config.ts';
import { ConfigError } from '../../src/lib/config-error.ts';

const required = {
  OIDC_PROVIDER: 'oidc.eks.us-west-2.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE',
  DOMINO_ISSUER: 'https://domino.example.com/auth/realms/DominoRealm',
  AWS_REGION: 'us-west-2',
};

function problems(env: Record<string, string | undefined>): readonly string[] {
  try {
    loadConfig(env);
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    for (const problem of error.problems) assert.ok(error.message.includes(`\n${problem}`));
    return error.problems;
  }
  return [];
}

describe('config', () => {
  it('fills in every default of the contract', () => {
    assert.deepEqual(loadConfig(required), {
      oidcProvider: required.OIDC_PROVIDER,
      oidcAudience: 'sts.amazonaws.com',
      dominoIssuer: required.DOMINO_ISSUER,
      dominoJwksUrl: `${required.DOMINO_ISSUER}/protocol/openid-connect/certs`,
      dominoUserHost: 'http://nucleus-frontend.domino-platform:80',
      allowDominoApiKey: true,
      consoleEnabled: true,
      fieldNamespace: 'domino-field',
      computeNamespace: 'domino-compute',
      awsRegion: 'us-west-2',
      webIdentityTokenPath: '/var/run/secrets/eks.amazonaws.com/serviceaccount/token',
      roleTokenDir: '/var/run/.aws/tokens',
      roleTokenSeconds: 3600,
      trustPolicyMaxChars: 2048,
      iamReadsPerSecond: 10,
      iamWritesPerSecond: 5,
      grantTimeoutSeconds: 25,
      resyncSeconds: 300,
      rateLimitPerMinute: 1200,
      maxConnections: 2000,
      trustedProxies: 0,
      leaseSeconds: 15,
      awsProxy: {},
      earlierDeployment: 'irsa',
      host: '::',
      platformNamespace: 'domino-platform',
      port: 6000,
      tlsCertFile: '/ssl/tls.crt',
      tlsKeyFile: '/ssl/tls.key',
      sslOff: false,
      metricsPort: 8080,
      logLevel: 'info',
    });
  });

  it('is frozen', () => {
    assert.ok(Object.isFrozen(loadConfig(required)));
  });

  it('uses the given values, and treats an empty string as not set', () => {
    const config = loadConfig({
      ...required,
      DOMINO_JWKS_URL: 'http://keycloak-http.domino-platform.svc.cluster.local:80/auth/realms/DominoRealm/certs',
      DOMINO_AUDIENCE: 'domino-platform',
      ALLOW_DOMINO_API_KEY: 'FALSE',
      SSL_OFF: 'True',
      PORT: '0',
      PROMETHEUS_METRICS_PORT: '0',
      IAM_WRITES_PER_SECOND: '2.5',
      RATE_LIMIT_PER_MINUTE: '0',
      LOG_LEVEL: '',
      DEFAULT_FIELD_NS: '',
      UNRELATED: 'ignored',
    });
    assert.equal(config.dominoAudience, 'domino-platform');
    assert.equal(config.allowDominoApiKey, false);
    assert.equal(config.sslOff, true);
    assert.equal(config.port, 0);
    assert.equal(config.iamWritesPerSecond, 2.5);
    assert.equal(config.rateLimitPerMinute, 0);
    assert.equal(config.logLevel, 'info');
    assert.equal(config.fieldNamespace, 'domino-field');
    assert.match(config.dominoJwksUrl, /^http:\/\/keycloak/);
  });

  it('accepts trusted proxies as a number of hops, or as addresses and networks', () => {
    const proxies = (text: string) => loadConfig({ ...required, TRUSTED_PROXIES: text }).trustedProxies;
    assert.equal(proxies('1'), 1);
    assert.deepEqual(proxies('10.0.0.0/8, fd00::/8,127.0.0.6'), ['10.0.0.0/8', 'fd00::/8', '127.0.0.6']);
  });

  it('lists every problem at once, by name and without the value', () => {
    const env = { DOMINO_ISSUER: 'hunter2', AWS_REGION: '', PORT: '70000', SSL_OFF: 'hunter2', LEASE_SECONDS: '2' };
    const found = problems(env);
    assert.deepEqual(
      found.map((line) => line.split(':')[0]),
      ['OIDC_PROVIDER', 'DOMINO_ISSUER', 'AWS_REGION', 'LEASE_SECONDS', 'PORT', 'SSL_OFF'],
    );
    assert.match(found.join('\n'), /OIDC_PROVIDER: required, expected/);
    assert.doesNotMatch(found.join('\n'), /hunter2|70000/);
  });

  it('lists a port that is used twice beside the other problems', () => {
    assert.deepEqual(
      problems({ ...required, PORT: '9000', PROMETHEUS_METRICS_PORT: '9000', LOG_LEVEL: 'loud' }).map(
        (line) => line.split(':')[0],
      ),
      ['LOG_LEVEL', 'PROMETHEUS_METRICS_PORT'],
    );
  });

  const refused: [string, string, RegExp][] = [
    ['OIDC_PROVIDER', 'https://oidc.eks.us-west-2.amazonaws.com/id/A', /leave out https:\/\//],
    ['OIDC_PROVIDER', 'oidc.eks.us-west-2.amazonaws.com/id/A/', /no slash at the end/],
    ['OIDC_PROVIDER', 'oidc.eks.us-west-2.amazonaws.com', /a host and a path/],
    ['OIDC_PROVIDER', 'oidc.eks.us-west-2.amazonaws.com/id/*', /a host and a path/],
    ['OIDC_PROVIDER_AUDIENCE', '*', /without \*/],
    ['OIDC_PROVIDER_AUDIENCE', `\${aws:username}`, /without \*/],
    ['DOMINO_ISSUER', 'https://domino.example.com/auth/realms/DominoRealm/', /without a slash at the end/],
    ['DOMINO_ISSUER', 'ftp://domino.example.com/auth', /expected https/],
    ['DOMINO_USER_HOST', 'http://user:password@host', /expected an http/],
    ['DEFAULT_COMPUTE_NS', 'Domino_Compute', /Kubernetes namespace/],
    ['DEFAULT_FIELD_NS', 'a'.repeat(64), /Kubernetes namespace/],
    ['AWS_REGION', 'us-west-2\nrole_arn = x', /AWS region/],
    ['AWS_REGION', 'oregon', /AWS region/],
    ['WEB_IDENTITY_TOKEN_PATH', '/token\n[profile x]', /absolute path/],
    ['TRUST_POLICY_MAX_CHARS', '8193', /from 512 to 8192/],
    ['LEASE_SECONDS', '61', /from 3 to 60/],
    ['LEASE_SECONDS', '1e1', /whole number/],
    ['RATE_LIMIT_PER_MINUTE', '-1', /whole number/],
    ['MAX_CONNECTIONS', '10', /from 50/],
    ['TRUSTED_PROXIES', 'true', /number of proxies/],
    ['TRUSTED_PROXIES', '10', /number of proxies/],
    ['TRUSTED_PROXIES', '10.0.0.0/33', /number of proxies/],
    ['TRUSTED_PROXIES', '10.0.0.0/8,', /number of proxies/],
    ['TRUSTED_PROXIES', 'fd00::/129', /number of proxies/],
    ['PORT', '8080', /another port than PORT/],
    ['LOG_LEVEL', 'loud', /expected one of/],
    ['ALLOW_DOMINO_API_KEY', 'yes', /true or false/],
  ];
  for (const [name, value, expected] of refused) {
    it(`refuses ${name}=${JSON.stringify(value.slice(0, 50))} in one line`, () => {
      const found = problems({ ...required, [name]: value });
      assert.equal(found.length, 1);
      assert.match(found[0] ?? '', expected);
    });
  }

  for (const region of ['us-gov-west-1', 'cn-north-1', 'eusc-de-east-1', 'us-iso-east-1', 'ap-southeast-12']) {
    it(`accepts the region ${region}`, () => {
      assert.equal(loadConfig({ ...required, AWS_REGION: region }).awsRegion, region);
    });
  }
});
