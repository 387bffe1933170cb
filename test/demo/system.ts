/** Owns the demo's system: the stack, one service over HTTPS, a sidecar, the story's people and their AWS roles. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  buildService,
  makeCertificate,
  type ReplicaProcess,
  type StackProcess,
  startReplica,
  startStack,
} from '../stack/processes.ts';
import { fillPod, type PodFiles, podFiles, type SidecarProcess, startSidecarProcess } from '../stack/sidecars.ts';
import { type Answer, send } from './https.ts';

export interface RolePair {
  /** The role with the permissions, in the assets account. */
  readonly target: string;
  /** The proxy role that leads to it, in the cluster's account. */
  readonly proxy: string;
}

export interface System {
  readonly stack: StackProcess;
  readonly replica: ReplicaProcess;
  /** Paths of the workload's files in its pod, and of the service's certificate. */
  readonly files: PodFiles & { readonly folder: string; readonly certificate: string; readonly roleTokens: string };
  readonly roles: { list: RolePair; read: RolePair; update: RolePair; report: RolePair };
  /** Roles in the cluster's account that pods get through EKS Pod Identity. */
  readonly podRoles: { one: string; two: string };
  /** The address of EKS's Pod Identity agent on this machine. */
  readonly agentUrl: string;
  /** The cluster's name in EKS. */
  readonly cluster: string;
  call(method: string, path: string, options?: { as?: string; token?: string; body?: unknown }): Promise<Answer>;
  /** Starts a run of a user: creates its pod and its service account in Kubernetes. */
  startRun(user: string, run: string): Promise<{ account: string; pod: string }>;
  /** Starts the sidecar of the newest run; it ends with the system, or with the run. */
  startSidecar(user: string, settings?: Record<string, string>): Promise<SidecarProcess>;
  endRun(run: string): Promise<void>;
  /** Builds the service again and restarts it at the same addresses. @throws the build's error. */
  rebuild(): Promise<void>;
  stop(): Promise<void>;
}

/** The people of the story, with their organizations. */
export const people = [
  { name: 'admin', admin: true, orgs: [] },
  { name: 'alice', orgs: ['data-science', 'research'] },
  { name: 'bob', orgs: ['finance'] },
  { name: 'carol', orgs: [] },
  { name: 'dave', orgs: ['reports'] },
  { name: 'svc-user-1', orgs: ['finance'] },
  { name: 'svc-user-2', orgs: [] },
  { name: 'svc-user-3', orgs: [] },
];

const cluster = 'acme';

/** A statement that a role's trust policy may have before this service manages it, and that stays unchanged. */
const ec2Trust = {
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Principal: { Service: 'ec2.amazonaws.com' }, Action: 'sts:AssumeRole' }],
};

/** The Deployment as the chart makes it, with one replica. */
const deployment = {
  metadata: { name: 'irsa-svc', namespace: 'domino-field' },
  spec: { replicas: 1, template: { metadata: { labels: { 'app.kubernetes.io/name': 'irsa-svc' } } } },
  status: { replicas: 1, readyReplicas: 1 },
};

export async function startSystem(settings: Record<string, string> = {}): Promise<System> {
  const folder = mkdtempSync(join(tmpdir(), 'irsa-svc-demo-'));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  process.once('exit', remove);
  const files = {
    ...podFiles(folder),
    folder,
    certificate: join(folder, 'service.crt'),
    roleTokens: join(folder, 'tokens'),
  };
  const [stack] = await Promise.all([startStack(), buildService()]);
  for (const person of people) await stack.order('add-user', person);
  const pair = async (name: string): Promise<RolePair> => {
    const { target, proxies } = await stack.order('add-role-pair', { name });
    return { target, proxy: proxies[0] ?? '' };
  };
  const roles = {
    list: await pair('acme-list-bucket-role'),
    read: await pair('acme-read-bucket-role'),
    update: await pair('acme-update-bucket-role'),
    report: await pair('acme-report-bucket-role'),
  };
  const podRole = async (name: string) =>
    (await stack.order('add-role', { account: '111111111111', name, trust: ec2Trust })).arn;
  const podRoles = {
    one: await podRole('example-eks-pod-identity1-role'),
    two: await podRole('example-eks-pod-identity2-role'),
  };
  const { credentialsUrl: agentUrl } = await stack.order('admit-pods', undefined);
  const certificate = makeCertificate();
  writeFileSync(files.certificate, certificate.cert);
  await stack.order('put-objects', { kind: 'deployments', objects: [deployment] });
  const own = {
    WEB_IDENTITY_TOKEN_PATH: files.token,
    ROLE_TOKEN_DIR: files.roleTokens,
    EKS_CLUSTER_NAME: cluster,
    DEPLOYMENT_NAME: deployment.metadata.name,
  };
  const start = (ports: Record<string, string> = {}) =>
    startReplica(stack, {
      https: certificate,
      settings: { ...own, ...settings, ...ports },
    });
  let replica = await start();
  await replica.ready;
  const sidecars: SidecarProcess[] = [];

  return {
    stack,
    get replica() {
      return replica;
    },
    files,
    roles,
    podRoles,
    agentUrl,
    cluster,
    call: async (method, path, { as, token, body } = {}) => {
      const bearer = as === undefined ? token : await stack.token(as, 300);
      return send(`${replica.url}${path}`, { method, ca: certificate.cert, token: bearer, body });
    },
    startRun: async (user, run) => {
      const [started] = await stack.order('start-runs', { user, runs: [run] });
      await fillPod(stack, files, run);
      return started ?? { account: '', pod: '' };
    },
    startSidecar: async (user, sidecarSettings = {}) => {
      const service = { service: replica.url, certificate: files.certificate };
      const sidecar = await startSidecarProcess(stack, { user, files, ...service, settings: sidecarSettings });
      sidecars.push(sidecar);
      return sidecar;
    },
    endRun: async (run) => void (await stack.order('end-runs', [run])),
    rebuild: async () => {
      await buildService();
      await replica.stop();
      replica = await start({
        PORT: new URL(replica.url).port,
        PROMETHEUS_METRICS_PORT: new URL(replica.metricsUrl).port,
      });
    },
    stop: async () => {
      // The stack ends last, since the service still needs it to release its lease.
      await Promise.all([replica.stop(), ...sidecars.map((sidecar) => sidecar.stop())]);
      await stack.stop();
      remove();
    },
  };
}
