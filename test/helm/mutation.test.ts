/** Proves how the rendered Mutations change Domino's pods, by the stack's domsed. */
import assert from 'node:assert/strict';
import { loadSidecarConfig } from '../../src/sidecar/config.ts';
import { applyMutations, type Mutation } from '../stack/domsed.ts';
import { withWebIdentity } from '../stack/pod-webhooks.ts';
import { type Container, environment, needsHelm } from './objects.ts';
import { renderChart, type Values } from './render.ts';

interface Pod {
  metadata: { name: string; labels: Record<string, string> };
  spec: {
    serviceAccountName: string;
    securityContext?: { fsGroup?: number };
    containers: Container[];
    initContainers?: Container[];
    volumes?: { name: string; [kind: string]: unknown }[];
  };
}

const token = '/var/run/secrets/eks.amazonaws.com/serviceaccount/token';
const edge = {
  'dominodatalab.com/workload-type': 'Workspace',
  'dominodatalab.com/starting-user-username': 'svc-user-1',
};

/** A pod with these labels and containers, as it is after the chart's Mutations. */
function mutated(values: Values, labels: Record<string, string> = edge, names = ['run', 'executor']): Pod {
  const mutations = renderChart(values).filter(({ kind }) => kind === 'Mutation') as unknown as Mutation[];
  const containers = names.map((name) => ({ name, image: 'any', env: [] }));
  const pod = { metadata: { name: 'run-1', labels }, spec: { serviceAccountName: 'run-1', containers } };
  return applyMutations(mutations, pod as unknown as Pod);
}

const container = (pod: Pod, name: string) =>
  [...pod.spec.containers, ...(pod.spec.initContainers ?? [])].find((one) => one.name === name);
const sidecar = (pod: Pod) => container(pod, 'aws-config-file-generator') as Container;

/** The paths of all projected tokens that these mounts show. */
function filesAt(pod: Pod, mounts: NonNullable<Container['volumeMounts']>): string[] {
  return mounts.flatMap(({ name, mountPath }) => {
    const volume = pod.spec.volumes?.find((one) => one.name === name);
    const { sources = [] } = (volume?.projected ?? {}) as { sources?: { serviceAccountToken?: { path: string } }[] };
    return sources.flatMap(({ serviceAccountToken: made }) => (made ? [`${mountPath}/${made.path}`] : []));
  });
}

describe('the chart’s Mutations', function () {
  this.timeout(60_000);
  before(needsHelm);

  it('label workloads, cluster workers and cluster heads, also those of Spark and Dask', () => {
    const labelOf = (labels: Record<string, string>) =>
      mutated({}, labels).metadata.labels['dominodatalab.com/irsa-workload-type'];
    const cluster = (name: string, component: string) =>
      labelOf({ ...edge, 'app.kubernetes.io/name': name, 'app.kubernetes.io/component': component });
    for (const type of ['Workspace', 'Batch', 'Scheduled']) {
      assert.equal(labelOf({ 'dominodatalab.com/workload-type': type }), 'edge-workload');
    }
    assert.equal(labelOf({ 'dominodatalab.com/workload-type': 'App' }), undefined);
    for (const name of ['ray', 'spark', 'dask', 'mpi']) assert.equal(cluster(name, 'worker'), 'cluster-worker');
    assert.equal(cluster('ray', 'head'), 'cluster-master');
    assert.equal(cluster('spark', 'master'), 'cluster-master');
    assert.equal(cluster('dask', 'scheduler'), 'cluster-master');
  });

  it('add the sidecar with settings that its configuration accepts', () => {
    const pod = mutated({});
    assert.equal(pod.spec.initContainers, undefined);
    const { command, env, restartPolicy, startupProbe } = sidecar(pod);
    assert.deepEqual([restartPolicy, startupProbe], [undefined, undefined]);
    assert.equal(
      command?.join(' '),
      'node --jitless --single-threaded --max-semi-space-size=1 --expose-gc dist/src/sidecar/main.js',
    );
    const config = loadSidecarConfig(environment({ env }));
    assert.deepEqual(
      [config.endpoint, config.certFile, config.tlsVerify, config.configFile, config.tokenFile, config.region],
      [
        'https://irsa-svc.domino-field/map_iam_roles_to_pod_sa',
        '/etc/ssl/certs/irsa/ca.crt',
        true,
        '/var/run/.aws/config',
        token,
        'us-west-2',
      ],
    );
    assert.equal(pod.spec.securityContext?.fsGroup, 12574);
  });

  it('mount the same volumes in the sidecar and the user’s container, and none in other containers', () => {
    const pod = mutated({});
    const writable = (mount: object) => ({ ...mount, readOnly: undefined });
    assert.deepEqual(container(pod, 'run')?.volumeMounts?.map(writable), sidecar(pod).volumeMounts?.map(writable));
    assert.equal(container(pod, 'executor')?.volumeMounts, undefined);
    assert.deepEqual(container(pod, 'executor')?.env, []);
    const volumes = new Map(pod.spec.volumes?.map((volume) => [volume.name, volume]));
    for (const { name } of sidecar(pod).volumeMounts ?? []) assert.ok(volumes.has(name), name);
    assert.equal(volumes.size, sidecar(pod).volumeMounts?.length);
    assert.deepEqual(volumes.get('aws-iam-token'), {
      name: 'aws-iam-token',
      projected: {
        sources: [{ serviceAccountToken: { path: 'token', audience: 'sts.amazonaws.com', expirationSeconds: 86_400 } }],
      },
    });
    // A workload must not wait for a ConfigMap that is not there yet.
    assert.deepEqual(volumes.get('irsa-ssl-certs')?.configMap, {
      name: 'irsa-ca',
      optional: true,
      items: ['ca.crt', 'tls.crt'].map((path) => ({ key: 'ca.crt', path })),
    });
  });

  it('mount role tokens read-only in the workload, and writable where there is no sidecar', () => {
    const mountIn = (pod: Pod, name: string) =>
      container(pod, name)?.volumeMounts?.find((mount) => mount.name === 'irsa-role-tokens');
    for (const mode of ['container', 'native', 'none']) {
      const pod = mutated({ roleTokens: { enabled: true }, irsa_client_sidecar: { mode } });
      const mount = { name: 'irsa-role-tokens', mountPath: '/var/run/.aws/tokens' };
      assert.deepEqual(mountIn(pod, 'run'), { ...mount, readOnly: mode !== 'none' }, mode);
      assert.deepEqual(mountIn(pod, 'aws-config-file-generator'), mode === 'none' ? undefined : mount, mode);
      const volume = pod.spec.volumes?.find(({ name }) => name === 'irsa-role-tokens');
      assert.deepEqual(volume?.emptyDir, { medium: 'Memory', sizeLimit: '1Mi' });
    }
    assert.equal(mountIn(mutated({}), 'run'), undefined);
  });

  it('start a native sidecar before the workload, with a startup probe that ends after maxWaitSeconds', () => {
    const pod = mutated({ irsa_client_sidecar: { mode: 'native' } });
    assert.equal(pod.spec.containers.length, 2);
    assert.equal(pod.spec.initContainers?.length, 1);
    const { restartPolicy, startupProbe } = sidecar(pod);
    assert.equal(restartPolicy, 'Always');
    assert.match(startupProbe?.exec?.command.join(' ') ?? '', /main\.js probe \|\| test .* -ge 120$/);
    // The kubelet must not give up, and end the sidecar, before the probe itself does.
    assert.ok((startupProbe?.periodSeconds ?? 0) * (startupProbe?.failureThreshold ?? 0) > 120);
    const long = mutated({ irsa_client_sidecar: { mode: 'native', native: { maxWaitSeconds: 1200 } } });
    const { periodSeconds = 0, failureThreshold = 0 } = sidecar(long).startupProbe ?? {};
    assert.ok(periodSeconds * failureThreshold > 1200);
  });

  it('add no sidecar in mode none, but the variables and volumes to fetch the config file', () => {
    const pod = mutated({ irsa_client_sidecar: { mode: 'none' } });
    assert.equal(sidecar(pod), undefined);
    const env = environment(container(pod, 'run') as Container);
    assert.equal(env.AWS_CONFIG_FILE, '/var/run/.aws/config');
    assert.equal(env.DOMINO_IRSA_SSL_CERT, '/etc/ssl/certs/irsa/ca.crt');
    assert.equal(env.DOMINO_IRSA_PROXY, undefined);
    const mount = container(pod, 'run')?.volumeMounts?.find(({ name }) => name === 'aws-config-file');
    assert.equal(mount?.readOnly, undefined, 'the user writes the file');
  });

  it('set AWS_WEB_IDENTITY_TOKEN_FILE in the user’s container only with exposeTokenVariable', () => {
    const variable = (values: Values) =>
      environment(container(mutated(values), 'run') as Container).AWS_WEB_IDENTITY_TOKEN_FILE;
    const podIdentity = { enabled: true, clusterName: 'acme' };
    assert.equal(variable({}), undefined);
    assert.equal(variable({ irsa_client_sidecar: { exposeTokenVariable: true } }), token);
    assert.equal(variable({ podIdentity }), undefined);
    assert.equal(variable({ podIdentity, irsa_client_sidecar: { exposeTokenVariable: true } }), token);
    assert.equal(variable({ irsa_client_sidecar: { mode: 'none' } }), undefined);
    // The sidecar proves profiles with the token; the profiles themselves name its path.
    assert.equal(environment(sidecar(mutated({ podIdentity }))).AWS_WEB_IDENTITY_TOKEN_FILE, token);
  });

  it('keep sessions in memory, writable for the sidecar and read-only for the user', () => {
    const pod = mutated({});
    const volume = pod.spec.volumes?.find(({ name }) => name === 'irsa-credentials');
    assert.deepEqual(volume?.emptyDir, { medium: 'Memory', sizeLimit: '16Mi' });
    const mountOf = (name: string) =>
      container(pod, name)?.volumeMounts?.find((mount) => mount.name === 'irsa-credentials');
    const config = loadSidecarConfig(environment(sidecar(pod)));
    assert.deepEqual([config.credentials, config.credentialsDir], ['process', mountOf('run')?.mountPath]);
    assert.equal(mountOf('run')?.readOnly, true);
    assert.equal(mountOf('aws-config-file-generator')?.readOnly, undefined);
    assert.equal(mountOf('aws-config-file-generator')?.mountPath, config.credentialsDir);
    assert.equal(mountOf('executor'), undefined, 'only the user’s container has the sessions');
  });

  it('point default credentials at the sidecar on request, except with Pod Identity or without a sidecar', () => {
    const pod = mutated({ irsa_client_sidecar: { defaultCredentials: true } });
    const run = environment(container(pod, 'run') as Container);
    const config = loadSidecarConfig(environment(sidecar(pod)));
    assert.equal(config.defaultCredentials, true);
    assert.equal(run.AWS_CONTAINER_CREDENTIALS_FULL_URI, 'http://127.0.0.1:6003/default/credentials');
    assert.equal(run.AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE, `${config.credentialsDir}/default-token`);
    assert.doesNotMatch(JSON.stringify(mutated({})), /AWS_CONTAINER|IRSA_DEFAULT/);
    const podIdentity = { enabled: true, clusterName: 'acme' };
    const asked = { defaultCredentials: true };
    assert.throws(() => mutated({ podIdentity, irsa_client_sidecar: asked }), /Pod Identity gives the default/);
    assert.throws(
      () => mutated({ irsa_client_sidecar: { ...asked, mode: 'none' } }),
      /needs irsa_client_sidecar\.credentials/,
    );
  });

  it('have no volume for sessions with credentials=chain or without a sidecar', () => {
    for (const form of [{ credentials: 'chain' }, { mode: 'none' }, { mode: 'none', credentials: 'process' }]) {
      const pod = mutated({ irsa_client_sidecar: form });
      assert.doesNotMatch(JSON.stringify(pod), /irsa-credentials|IRSA_CREDENTIALS/, JSON.stringify(form));
    }
  });

  it('mount the token at WEB_IDENTITY_TOKEN_PATH', () => {
    const path = '/var/run/secrets/acme/web-identity';
    const pod = mutated({ settings: { WEB_IDENTITY_TOKEN_PATH: path } });
    const mount = sidecar(pod).volumeMounts?.find(({ name }) => name === 'aws-user-token');
    assert.equal(mount?.mountPath, '/var/run/secrets/acme');
    assert.equal(environment(sidecar(pod)).AWS_WEB_IDENTITY_TOKEN_FILE, path);
  });

  it('never mount two volumes at one path, also where the service account has EKS’s role annotation', () => {
    const alice = 'arn:aws:iam::111111111111:role/alice';
    const podIdentity = { enabled: true, clusterName: 'acme' };
    const path = '/var/run/secrets/eks.amazonaws.com/serviceaccount';
    for (const mode of ['container', 'native', 'none']) {
      for (const exposed of [{}, { exposeTokenVariable: true }, { exposeTokenVariable: false }]) {
        for (const more of [{}, { podIdentity }, { settings: { WEB_IDENTITY_TOKEN_PATH: `${path}/acme` } }]) {
          const values = { ...more, irsa_client_sidecar: { mode, ...exposed } };
          const pod = withWebIdentity(mutated(values), alice);
          const told = JSON.stringify(values);
          const volumes = pod.spec.volumes?.map(({ name }) => name) ?? [];
          assert.equal(new Set(volumes).size, volumes.length, told);
          for (const { name, env, volumeMounts = [] } of [...pod.spec.containers, ...(pod.spec.initContainers ?? [])]) {
            const paths = volumeMounts.map(({ mountPath }) => mountPath);
            assert.equal(new Set(paths).size, paths.length, `${told}: ${name} has ${paths}`);
            assert.ok(paths.includes(path), `${told}: ${name} has the token`);
            assert.ok(
              volumeMounts.every((mount) => volumes.includes(mount.name)),
              told,
            );
            const variables = environment({ env });
            // A container with AWS_ROLE_ARN also has the token file that it names.
            const file = variables.AWS_ROLE_ARN && variables.AWS_WEB_IDENTITY_TOKEN_FILE;
            if (file) assert.ok(filesAt(pod, volumeMounts).includes(file), `${told}: ${name} has ${file}`);
          }
        }
      }
    }
  });

  it('leave the role of EKS’s annotation to the user’s container unless exposeTokenVariable is on', () => {
    const alice = 'arn:aws:iam::111111111111:role/alice';
    const pod = withWebIdentity(mutated({}), alice);
    const run = environment(container(pod, 'run') as Container);
    assert.deepEqual([run.AWS_ROLE_ARN, run.AWS_WEB_IDENTITY_TOKEN_FILE], [alice, token]);
    const shown = withWebIdentity(mutated({ irsa_client_sidecar: { exposeTokenVariable: true } }), alice);
    assert.equal(environment(container(shown, 'run') as Container).AWS_ROLE_ARN, undefined, 'as in 1.8');
    assert.equal(environment(sidecar(shown)).AWS_ROLE_ARN, undefined);
  });

  it('make the sidecar use plain HTTP where a mesh handles TLS', () => {
    const config = loadSidecarConfig(environment(sidecar(mutated({ tls: { mode: 'off' } }))));
    assert.deepEqual(
      [config.endpoint, config.tlsVerify, config.certFile],
      ['http://irsa-svc.domino-field/map_iam_roles_to_pod_sa', false, undefined],
    );
  });

  it('give a user’s pods that user’s service account with userbasedserviceaccounts', () => {
    const account = (values: Values) =>
      mutated({ userbasedserviceaccounts: { enabled: true, ...values } }).spec.serviceAccountName;
    assert.equal(account({}), 'svc-user-1');
    assert.equal(account({ user_mappings: { 'svc-user-1': 'svc-user-1-sa' } }), 'svc-user-1-sa');
    assert.equal(account({ assume_sa_mapping: false }), 'run-1');
    assert.equal(mutated({}).spec.serviceAccountName, 'run-1');
  });

  it('are not rendered when the sidecar is disabled', () => {
    const objects = renderChart({ irsa_client_sidecar: { enabled: false } });
    assert.equal(objects.filter(({ kind }) => kind === 'Mutation').length, 0);
  });
});
