/** Owns the sidecar's figures: from the service's answer to a proved config, and the memory of one that is idle. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { makeCertificate } from '../stack/processes.ts';
import { fillPod, podFiles, type SidecarProcess, startSidecarProcess } from '../stack/sidecars.ts';
import { type Relay, startRelay } from './relay.ts';
import { median, type Report } from './report.ts';
import { type System, withSystem } from './system.ts';

const starts = 20;
/** As in a small organization: two roles, each proved. */
const roles = 2;
/** How many sidecars of each form of the config file stay, to be measured when they are idle. */
const kept = 3;
const idleMs = 10_000;

interface Start {
  sidecar: SidecarProcess;
  /** Milliseconds from the service's 200 to `/readyz` 200. */
  fromAnswer: number;
  fromStart: number;
}

export async function sidecar(): Promise<Report> {
  return withSystem(0, async (system) => {
    const folder = mkdtempSync(join(tmpdir(), 'irsa-svc-bench-'));
    // In a cluster each pod has its token at one path, which the service writes into each file; here the pods share it.
    const token = join(folder, 'token');
    await system.addReplica({ settings: { WEB_IDENTITY_TOKEN_PATH: token } });
    const pair = makeCertificate();
    const certificate = join(folder, 'ca.crt');
    writeFileSync(certificate, pair.cert);
    // The service and STS over TLS as in a cluster, since that is what costs a sidecar time and memory.
    const service = await startRelay(system.replicas[0]?.url ?? '', pair);
    const sts = await startRelay(system.stack.awsUrl, pair);
    const running: SidecarProcess[] = [];
    try {
      await system.mapRoles(roles, 1);
      const [user] = await system.addUsers(1);
      const runs = await system.startRuns(user?.name ?? '', starts + kept);
      const times: Start[] = [];
      const around = { folder, token, user: user?.name ?? '', certificate, service, sts };
      const holding: SidecarProcess[] = [];
      for (const run of runs.splice(starts)) {
        const { sidecar } = await start(system, { ...around, run, credentials: 'process' });
        running.push(sidecar);
        holding.push(sidecar);
      }
      for (const [index, run] of runs.entries()) {
        const started = await start(system, { ...around, run, credentials: 'chain' });
        times.push(started);
        running.push(started.sidecar);
        if (index < starts - kept) await running.pop()?.stop();
      }
      await delay(idleMs);
      const idle = running.slice(kept).map(({ child }) => resident(child.pid));
      const idleHolding = holding.map(({ child }) => resident(child.pid));
      const fromAnswer = times.map((time) => time.fromAnswer);
      const fromStart = times.map((time) => time.fromStart);
      return {
        figures: [
          { name: `service's answer to ready: p50 of ${starts}`, value: median(fromAnswer), unit: 'ms' },
          {
            name: "service's answer to ready: slowest",
            value: Math.max(...fromAnswer),
            unit: 'ms',
            target: { atMost: 300 },
          },
          { name: `process's start to ready, first grant: p50 of ${starts}`, value: median(fromStart), unit: 'ms' },
          { name: "process's start to ready: slowest", value: Math.max(...fromStart), unit: 'ms' },
          { name: `RSS, idle for 10 s: p50 of ${kept}`, value: median(idle), unit: 'MB' },
          { name: 'RSS, idle for 10 s: largest', value: Math.max(...idle), unit: 'MB', target: { atMost: 60 } },
          {
            name: 'RSS, idle for 10 s, IRSA_CREDENTIALS=process: largest',
            value: Math.max(...idleHolding),
            unit: 'MB',
            target: { atMost: 60 },
          },
        ],
        wrong: [],
      };
    } finally {
      await Promise.all(running.map((one) => one.stop()));
      service.close();
      sts.close();
      rmSync(folder, { recursive: true, force: true });
    }
  });
}

interface Surroundings {
  folder: string;
  token: string;
  run: string;
  credentials: 'process' | 'chain';
  user: string;
  certificate: string;
  service: Relay;
  sts: Relay;
}

/** Asks for `/readyz` only after the service has answered, since earlier requests would slow the sidecar down. */
async function start({ stack }: System, around: Surroundings): Promise<Start> {
  const { folder, token, run, credentials, user, certificate, service, sts } = around;
  const pod = mkdtempSync(join(folder, 'pod-'));
  const files = { ...podFiles(pod), token };
  await fillPod(stack, files, run);
  const before = service.answeredAt;
  // The sidecar trusts STS as in a cluster: by Node's own list of CAs.
  const settings = {
    AWS_ENDPOINT_URL_STS: sts.url,
    NODE_EXTRA_CA_CERTS: certificate,
    IRSA_CREDENTIALS: credentials,
    IRSA_CREDENTIALS_DIR: join(pod, 'sessions'),
  };
  const started = await startSidecarProcess(stack, { user, files, service: service.url, certificate, settings });
  const end = performance.now() + 10_000;
  while (service.answeredAt === before || (await fetch(`${started.url}/readyz`)).status !== 200) {
    if (performance.now() > end) throw new Error(`not ready: ${started.child.output.slice(-5).join('\n')}`);
    await delay(3);
  }
  const now = performance.now();
  return {
    sidecar: started,
    fromAnswer: now - (service.answeredAt ?? Number.NaN),
    fromStart: now - started.child.startedAt,
  };
}

/** In MB of 1,000,000 bytes; NaN where the system does not report it. */
function resident(pid: number): number {
  try {
    const kibibytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return (Number(kibibytes) * 1024) / 1e6;
  } catch {
    return Number.NaN;
  }
}
