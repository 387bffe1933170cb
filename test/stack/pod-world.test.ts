/** Tests a pod's world on disk: its volumes, its variables, and the processes of a pod that a Mutation changed. */
import assert from 'node:assert/strict';
import { existsSync, lstatSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decodeJwt } from 'jose';
import { startWorld, type World } from '../support/world.ts';
import { hasBoto3, runBoto3 } from './clients.ts';
import type { Mutation } from './domsed.ts';
import { type ClusterIssuer, createIssuer } from './issuer.ts';
import { type KubernetesStandIn, startKubernetes } from './kubernetes.ts';
import { podIdentityTokenFile, podIdentityUri, podWebhooks, withPodIdentity } from './pod-webhooks.ts';
import { layOutPod } from './pod-world.ts';
import { dominoPod } from './pods.ts';
import { startChild } from './process.ts';
import { type RunningServer, startServer } from './server.ts';

const run = '646d27b817c28b5ea4b5b0c1';
const tokenPath = '/var/run/secrets/eks.amazonaws.com/serviceaccount';
const token = { audience: 'sts.amazonaws.com', expirationSeconds: 86_400, path: 'token' };

describe('a pod laid out on disk', () => {
  let folder: string;
  let issuer: ClusterIssuer;
  let kubernetes: KubernetesStandIn;

  before(async () => {
    issuer = await createIssuer();
  });
  beforeEach(async () => {
    kubernetes = await startKubernetes();
    folder = mkdtempSync(join(tmpdir(), 'irsa-pod-'));
  });
  afterEach(async () => {
    await kubernetes.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const layOut = (spec: object, more: object = {}, data: object = {}) =>
    layOutPod(
      {
        metadata: {
          name: 'run-xyz-1',
          namespace: 'domino-compute',
          uid: '0b5c6d1e-0000-4000-8000-000000000001',
          labels: { b: 'two', a: 'one' },
        },
        spec: { serviceAccountName: 'svc-user-1-sa', containers: [], ...spec },
        ...more,
      },
      folder,
      { podToken: issuer.podToken, kubernetes, ...data },
    );
  const read = (...path: string[]) => readFileSync(join(folder, ...path), 'utf8');

  it('has the labels in the format of the kubelet', async () => {
    const items = [{ path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } }];
    await layOut({ volumes: [{ name: 'podinfo', downwardAPI: { items } }] });
    assert.equal(read('podinfo', 'labels'), 'a="one"\nb="two"');
    assert.ok(lstatSync(join(folder, 'podinfo', 'labels')).isSymbolicLink());
  });

  it('has a token of its service account, with the audience and lifetime of the volume, bound to the pod', async () => {
    await layOut({ volumes: [{ name: 'token', projected: { sources: [{ serviceAccountToken: token }] } }] });
    const claims = decodeJwt(read('token', 'token'));
    assert.equal(claims.sub, 'system:serviceaccount:domino-compute:svc-user-1-sa');
    assert.deepEqual(claims.aud, ['sts.amazonaws.com']);
    assert.equal((claims.exp ?? 0) - (claims.iat ?? 0), 86_400);
    const bound = claims['kubernetes.io'] as { pod: object };
    assert.deepEqual(bound.pod, { name: 'run-xyz-1', uid: '0b5c6d1e-0000-4000-8000-000000000001' });
  });

  it('has the cluster’s ConfigMaps, the given secrets, and both in one volume', async () => {
    const metadata = { name: 'ca', namespace: 'domino-compute' };
    kubernetes.put('configmaps', { metadata, data: { 'ca.crt': 'CA' }, binaryData: { bin: 'AAE=' } });
    const secrets = { tls: { 'tls.crt': 'CRT', 'tls.key': 'KEY' } };
    const items = [{ key: 'tls.crt', path: 'certificates/tls.crt' }];
    const volumes = [
      { name: 'map', configMap: { name: 'ca' } },
      { name: 'secret', secret: { secretName: 'tls', items } },
      { name: 'both', projected: { sources: [{ configMap: { name: 'ca' } }, { secret: { name: 'tls' } }] } },
      { name: 'none', configMap: { name: 'absent', optional: true } },
    ];
    await layOut({ volumes }, {}, { secrets });
    assert.equal(read('map', 'ca.crt'), 'CA');
    assert.deepEqual([...readFileSync(join(folder, 'map', 'bin'))], [0, 1]);
    assert.equal(read('secret', 'certificates', 'tls.crt'), 'CRT');
    assert.ok(!existsSync(join(folder, 'secret', 'tls.key')));
    assert.deepEqual([read('both', 'ca.crt'), read('both', 'tls.key')], ['CA', 'KEY']);
    assert.ok(existsSync(join(folder, 'none')));
  });

  it('is refused where a ConfigMap, secret, key, volume or container is missing', async () => {
    await assert.rejects(layOut({ volumes: [{ name: 'x', configMap: { name: 'absent' } }] }), /no configMap absent/);
    await assert.rejects(layOut({ volumes: [{ name: 'x', secret: { secretName: 'absent' } }] }), /no secret absent/);
    const env = [{ name: 'X', valueFrom: { secretKeyRef: { name: 'tls', key: 'absent' } } }];
    const pod = await layOut({ containers: [{ name: 'run', env }] }, {}, { secrets: { tls: {} } });
    assert.throws(() => pod.container('run'), /no key absent in secret tls/);
    const volumeMounts = [{ name: 'absent', mountPath: '/x' }];
    const unmounted = await layOut({ containers: [{ name: 'run', volumeMounts }] });
    assert.throws(() => unmounted.container('run'), /mounts absent, which is no volume of it/);
    assert.throws(() => unmounted.container('other'), /has no container other/);
  });

  it('gives a container its variables from values, references and fields of the pod', async () => {
    kubernetes.put('configmaps', { metadata: { name: 'c', namespace: 'domino-compute' }, data: { key: 'of-map' } });
    const fields = ['name', 'namespace', 'uid', "labels['a']"].map((field, index) => ({
      name: `FIELD_${index}`,
      valueFrom: { fieldRef: { fieldPath: `metadata.${field}` } },
    }));
    const env = [
      { name: 'PLAIN', value: 'x' },
      { name: 'EMPTY' },
      { name: 'JOINED', value: '$(PLAIN)-$(LATER)-$$(PLAIN)' },
      { name: 'LATER', value: 'y' },
      { name: 'MAP', valueFrom: { configMapKeyRef: { name: 'c', key: 'key' } } },
      { name: 'SECRET', valueFrom: { secretKeyRef: { name: 's', key: 'key' } } },
      { name: 'GONE', valueFrom: { secretKeyRef: { name: 'absent', key: 'key', optional: true } } },
      ...fields,
    ];
    const envFrom = [{ prefix: 'FROM_', configMapRef: { name: 'c' } }];
    const container = { name: 'run', env, envFrom, command: ['echo', '$(LATER)'], args: ['$(NOBODY)'] };
    const pod = await layOut({ containers: [container] }, {}, { secrets: { s: { key: 'of-secret' } } });
    const { environment, command, args } = pod.container('run');
    assert.deepEqual(environment, {
      FROM_key: 'of-map',
      PLAIN: 'x',
      EMPTY: '',
      JOINED: 'x-$(LATER)-$(PLAIN)',
      LATER: 'y',
      MAP: 'of-map',
      SECRET: 'of-secret',
      FIELD_0: 'run-xyz-1',
      FIELD_1: 'domino-compute',
      FIELD_2: '0b5c6d1e-0000-4000-8000-000000000001',
      FIELD_3: 'one',
    });
    assert.deepEqual([...command, ...args], ['echo', 'y', '$(NOBODY)']);
  });

  it('replaces mount paths with the folders in variables and commands, and changes nothing else', async () => {
    const volumeMounts = [
      { name: 'project', mountPath: '/mnt' },
      { name: 'config', mountPath: '/mnt/.aws/' },
      { name: 'config', mountPath: '/etc/acme', subPath: 'acme' },
    ];
    const values = {
      FILE: '/mnt/.aws/config',
      WHOLE: '/mnt',
      BESIDE: '/mnt2/config',
      LONGER: '/opt/mnt/config',
      ADDRESS: 'http://localhost/mnt/config',
      LIST: '/mnt/a:/mnt/b',
      SUB: '/etc/acme/x',
    };
    const env = Object.entries(values).map(([name, value]) => ({ name, value }));
    const container = {
      name: 'run',
      volumeMounts,
      env,
      command: ['sh', '-c'],
      args: ['cat /mnt/.aws/config --out=/mnt/x'],
    };
    const volumes = [
      { name: 'project', persistentVolumeClaim: { claimName: 'p' } },
      { name: 'config', emptyDir: {} },
    ];
    const made = (await layOut({ containers: [container], volumes })).container('run');
    assert.deepEqual(made.environment, {
      ...values,
      FILE: join(folder, 'config', 'config'),
      WHOLE: join(folder, 'project'),
      LIST: `${join(folder, 'project', 'a')}:${join(folder, 'project', 'b')}`,
      SUB: join(folder, 'config', 'acme', 'x'),
    });
    assert.deepEqual(made.args, [`cat ${join(folder, 'config', 'config')} --out=${join(folder, 'project', 'x')}`]);
    assert.equal(made.path('/mnt/.aws/config'), join(folder, 'config', 'config'));
    assert.equal(made.path('/var/log'), '/var/log');
  });

  it('replaces whole values on request, also those of Pod Identity', async () => {
    const pod = dominoPod({ runId: run, userId: '60faf443e43b3c7a6f5f5eea', userName: 'alice', plain: true });
    const world = await layOutPod(withPodIdentity(pod), folder, { podToken: issuer.podToken });
    const replace = { [podIdentityUri]: 'http://127.0.0.1:4321/v1/credentials', quick: 'no whole value' };
    const { environment } = world.container('run', { replace });
    assert.equal(environment.AWS_CONTAINER_CREDENTIALS_FULL_URI, 'http://127.0.0.1:4321/v1/credentials');
    const file = environment.AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE ?? '';
    assert.equal(file, world.container('run').path(podIdentityTokenFile));
    assert.deepEqual(decodeJwt(readFileSync(file, 'utf8')).aud, ['pods.eks.amazonaws.com']);
    assert.equal(environment.DOMINO_API_PROXY, 'http://localhost:8899');
  });

  it('gets new labels and tokens on request, and keeps the files that processes wrote', async () => {
    const items = [{ path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } }];
    const volumes = [
      { name: 'podinfo', downwardAPI: { items } },
      { name: 'token', projected: { sources: [{ serviceAccountToken: token }] } },
      { name: 'config', emptyDir: {} },
    ];
    const spec = { containers: [], volumes };
    const pod = await layOut(spec);
    const before = read('token', 'token');
    writeFileSync(join(folder, 'config', 'config'), 'mine');
    await pod.renew({ metadata: { name: 'run-xyz-1', labels: { a: 'new' } }, spec });
    assert.equal(read('podinfo', 'labels'), 'a="new"');
    assert.notEqual(read('token', 'token'), before);
    assert.equal(read('config', 'config'), 'mine');
  });
});

describe('a pod changed by a Mutation, run as processes', function () {
  // A sidecar and a Python start cold on a busy machine.
  this.timeout(60_000);
  let world: World;
  let proxy: RunningServer;
  let folder: string;
  const role = 'acme-list-bucket-role';
  const sidecar = 'aws-config-file-generator';
  const config = { name: 'aws-config-file', mountPath: '/var/run/.aws' };
  const labelSelectors = ['dominodatalab.com/workload-type in (Workspace,Batch,Scheduled)'];
  const mutation: Mutation = {
    metadata: { name: 'irsa', namespace: 'domino-platform' },
    rules: [
      {
        labelSelectors,
        insertContainer: {
          containerType: 'app',
          spec: {
            name: sidecar,
            image: 'quay.io/domino/irsa:2.0.0',
            command: ['node', '--import', 'tsx', 'src/sidecar/main.ts'],
            env: [
              { name: 'POD_INFO_PATH', value: '/var/run/podinfo/labels' },
              { name: 'DOMINO_API_PROXY', value: 'http://localhost:8899' },
              {
                name: 'DOMINO_IRSA_ENDPOINT',
                value: 'https://irsa-svc.domino-field/map_iam_roles_to_pod_sa',
              },
              { name: 'AWS_WEB_IDENTITY_TOKEN_FILE', value: `${tokenPath}/token` },
              { name: 'IRSA_ONCE', value: 'true' },
            ],
          },
        },
        insertVolumes: [
          { name: 'aws-config-file', emptyDir: { sizeLimit: '500Mi' } },
          { name: 'aws-user-token', projected: { sources: [{ serviceAccountToken: token }] } },
          {
            name: 'podinfo',
            downwardAPI: { items: [{ path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } }] },
          },
        ],
      },
      {
        labelSelectors,
        insertVolumeMounts: {
          containerSelector: [sidecar, 'run'],
          volumeMounts: [config, { name: 'aws-user-token', mountPath: tokenPath, readOnly: true }],
        },
        modifyEnv: {
          containerSelector: [sidecar, 'run'],
          env: [{ name: 'AWS_CONFIG_FILE', value: '/var/run/.aws/config' }],
        },
      },
      {
        labelSelectors,
        insertVolumeMounts: {
          containerSelector: [sidecar],
          volumeMounts: [{ name: 'podinfo', mountPath: '/var/run/podinfo', readOnly: true }],
        },
      },
    ],
  };

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'irsa-pod-'));
    // The token's path in the service's config file has to exist on this machine.
    world = await startWorld({ WEB_IDENTITY_TOKEN_PATH: join(folder, 'aws-user-token', 'token') });
    proxy = await startServer(async (_request, response) => void response.end(world.domino.token('alice')));
  });
  after(async () => {
    await proxy.close();
    await world.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  it('boto3 assumes the role of the pod’s owner through the sidecar’s config file', async function () {
    if (!(await hasBoto3())) {
      console.log('      skipped: there is no Python with boto3');
      this.skip();
    }
    const { kubernetes, aws, issuer, domino } = world;
    const { id, name } = domino.addUser({ name: 'alice', orgs: ['acme'] });
    kubernetes.admit(podWebhooks());
    kubernetes.put('mutations', mutation);
    const pod = kubernetes.put('pods', dominoPod({ runId: run, userId: id, userName: name, plain: true }));
    kubernetes.put('serviceaccounts', { metadata: { name: `run-${run}`, namespace: 'domino-compute' } });
    const replica = await world.startReplica();
    await world.map(replica, 'acme', world.addRolePair(role));

    const onDisk = await layOutPod(pod, folder, { podToken: issuer.podToken, kubernetes });
    const replace = {
      'http://localhost:8899': proxy.url,
      'https://irsa-svc.domino-field/map_iam_roles_to_pod_sa': `${replica.url}/map_iam_roles_to_pod_sa`,
    };
    const { environment, command } = onDisk.container(sidecar, { replace });
    const [, ...words] = command;
    const child = startChild(process.execPath, words, { environment: { ...environment, ...aws.environment() } });
    assert.equal(await child.exited, 0, child.output.join('\n'));

    const script = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])";
    const main = onDisk.container('run').environment;
    const answer = await runBoto3(script, { ...main, ...aws.environment(), AWS_PROFILE: role });
    assert.equal(answer.stdout.trim(), `arn:aws:sts::222222222222:assumed-role/${role}/alice-${run}`, answer.stderr);
  });
});
