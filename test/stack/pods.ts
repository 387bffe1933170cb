/** Owns the objects of a Domino run in the compute namespace: pods of realistic size, and service accounts. */
import { createHash } from 'node:crypto';
import type { V1Container, V1EnvVar, V1Pod, V1ServiceAccount } from '@kubernetes/client-node';

export const computeNamespace = 'domino-compute';

export interface DominoPodOptions {
  /** 24 hex digits, without `run-`. */
  readonly runId: string;
  /** Domino's `canonicalId` of the person who started it. */
  readonly userId: string;
  readonly userName: string;
  /** `run-<id>` by default, and `<kind>-<id>-<kind>` for a cluster's pod. */
  readonly serviceAccount?: string;
  /** For a pod of a cluster that the run started: `ray-head`, `ray-worker`, `spark-master`, `dask-scheduler`, ... */
  readonly component?: string;
  /** Distinguishes pods of one run and component; the same options give the same name. */
  readonly index?: number;
  readonly phase?: 'Pending' | 'Running' | 'Succeeded' | 'Failed';
  readonly projectId?: string;
  readonly workloadType?: string;
  readonly namespace?: string;
  /** The pod as Domino makes it, without the volumes for labels and token and the fsGroup that Mutations for roles add. */
  readonly plain?: boolean;
}

export function dominoPod(options: DominoPodOptions): V1Pod {
  const { runId, userId, userName, component, index = 0, phase = 'Running', namespace = computeNamespace } = options;
  const { projectId = '60faf443e43b3c7a6f5f0001', workloadType = 'Workspace' } = options;
  const [cluster, role] = component?.split('-') ?? [];
  const family = cluster ? `${cluster}-${runId}-${cluster}` : `run-${runId}`;
  const name = `${family}${role ? `-${role}` : ''}-${suffix(`${runId} ${component} ${index}`)}`;
  const started = new Date('2026-11-02T09:00:00Z');
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace,
      labels: {
        'app.kubernetes.io/name': cluster ?? `run-${runId}`,
        'app.kubernetes.io/managed-by': 'domino',
        ...(role ? { 'app.kubernetes.io/component': role } : {}),
        'dominodatalab.com/execution-id': runId,
        'dominodatalab.com/workload-id': runId,
        'dominodatalab.com/workload-type': workloadType,
        'dominodatalab.com/starting-user-id': userId,
        'dominodatalab.com/starting-user-username': userName,
        'dominodatalab.com/project-id': projectId,
        'dominodatalab.com/project-name': 'quick-start',
        'dominodatalab.com/project-owner-username': userName,
        'dominodatalab.com/hardware-tier-id': 'small-k8s',
      },
      annotations: {
        'cluster-autoscaler.kubernetes.io/safe-to-evict': 'false',
        'dominodatalab.com/environment-revision-id': '60faf443e43b3c7a6f5f00e1',
        'kubernetes.io/psp': 'domino-compute',
      },
    },
    spec: {
      serviceAccountName: options.serviceAccount ?? family,
      nodeName: `ip-10-0-${index % 250}-17.us-west-2.compute.internal`,
      nodeSelector: { 'dominodatalab.com/node-pool': 'default' },
      restartPolicy: 'Never',
      terminationGracePeriodSeconds: 60,
      ...(options.plain ? {} : { securityContext: { fsGroup: 12574 } }),
      initContainers: [container('domino-init', options, 6)],
      containers: [container(role ?? 'run', options, 28), container('executor', options, 12)],
      volumes: volumes(projectId, options.plain),
      tolerations: [
        { key: 'node.kubernetes.io/not-ready', operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 300 },
        { key: 'node.kubernetes.io/unreachable', operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 300 },
      ],
    },
    status: {
      phase,
      hostIP: '10.0.12.17',
      podIP: '10.0.12.42',
      startTime: started,
      qosClass: 'Burstable',
      conditions: ['Initialized', 'Ready', 'ContainersReady', 'PodScheduled'].map((type) => ({
        type,
        status: phase === 'Running' || type === 'PodScheduled' ? 'True' : 'False',
        lastTransitionTime: started,
      })),
    },
  };
}

/** The service account that Domino makes for a run. */
export function dominoServiceAccount(name: string, namespace = computeNamespace): V1ServiceAccount {
  return {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name, namespace, labels: { 'app.kubernetes.io/name': name, 'app.kubernetes.io/managed-by': 'domino' } },
    automountServiceAccountToken: false,
  };
}

function container(name: string, { runId, userName, plain }: DominoPodOptions, variables: number): V1Container {
  const env: V1EnvVar[] = [
    { name: 'DOMINO_RUN_ID', value: runId },
    { name: 'DOMINO_STARTING_USERNAME', value: userName },
    { name: 'DOMINO_API_PROXY', value: 'http://localhost:8899' },
    { name: 'DOMINO_NODE_IP', valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath: 'status.hostIP' } } },
  ];
  // A run's environment is what makes its pod large; these stand for the project's and the tier's variables.
  for (let index = 0; index < variables; index += 1) {
    env.push({ name: `DOMINO_PROJECT_SETTING_${index}`, value: `/mnt/data/quick-start/setting-${index}/value-of-it` });
  }
  return {
    name,
    image: `quay.io/domino/${name}:5.11.0-2f3a9c`,
    imagePullPolicy: 'IfNotPresent',
    command: ['/bin/bash', '-c', `exec /opt/domino/bin/start-${name} --workspace /mnt --run ${runId}`],
    env,
    ports: [{ name: `${name.slice(0, 8)}-http`, containerPort: 8888, protocol: 'TCP' }],
    resources: { limits: { memory: '4Gi' }, requests: { cpu: '1', memory: '4Gi' } },
    securityContext: { runAsUser: 12574, runAsGroup: 12574, allowPrivilegeEscalation: false },
    volumeMounts: [
      { name: 'project', mountPath: '/mnt' },
      { name: 'shared', mountPath: '/var/lib/domino' },
      ...(plain ? [] : roleMounts),
    ],
  };
}

const roleMounts = [
  { name: 'podinfo', mountPath: '/var/run/podinfo', readOnly: true },
  { name: 'aws-iam-token', mountPath: '/var/run/secrets/eks.amazonaws.com/serviceaccount', readOnly: true },
];

function volumes(projectId: string, plain = false) {
  const labels = { path: 'labels', fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.labels' } };
  const token = { audience: 'sts.amazonaws.com', expirationSeconds: 86_400, path: 'token' };
  const domino = [
    { name: 'project', persistentVolumeClaim: { claimName: `project-${projectId}` } },
    { name: 'shared', emptyDir: {} },
  ];
  if (plain) return domino;
  return [
    ...domino,
    { name: 'podinfo', downwardAPI: { defaultMode: 420, items: [labels] } },
    { name: 'aws-iam-token', projected: { defaultMode: 420, sources: [{ serviceAccountToken: token }] } },
  ];
}

function suffix(seed: string): string {
  const letters = 'bcdfghjklmnpqrstvwxz2456789';
  const bytes = createHash('sha256').update(seed).digest();
  return Array.from(bytes.subarray(0, 5), (byte) => letters[byte % letters.length]).join('');
}
