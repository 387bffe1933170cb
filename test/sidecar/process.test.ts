/** Proves the sidecar as a process, built as it ships: its start, its end, its exit codes, its logs and its memory. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { loadSidecarConfig } from '../../src/sidecar/config.ts';
import { runOnce } from '../../src/sidecar/sidecar.ts';
import { makeCertificate } from '../stack/processes.ts';
import { until } from '../support/clock.ts';
import { configText, type Pod, problem, sessionXml, startPod, startScripted } from './support.ts';

const root = join(import.meta.dirname, '..', '..');
const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: Record<string, string> };
const flags = (scripts.sidecar ?? '').split(' ').filter((word) => word.startsWith('--'));

interface Running {
  child: ChildProcess;
  lines: Record<string, unknown>[];
  stderr(): string;
  /** The exit code, or the signal that ended it. */
  ended: Promise<number | string>;
}

describe('the process of the sidecar', () => {
  let folder: string;
  let pod: Pod;
  const running: Running[] = [];

  before(async () => {
    // Under node_modules, where Node finds its packages.
    folder = mkdtempSync(join(root, 'node_modules', '.irsa-sidecar-'));
    await build({
      entryPoints: [join(root, 'src/sidecar/main.ts')],
      outfile: join(folder, 'main.mjs'),
      bundle: true,
      platform: 'node',
      target: 'node22',
      format: 'esm',
      packages: 'external',
      logLevel: 'warning',
    });
  });
  after(() => rmSync(folder, { recursive: true, force: true }));
  beforeEach(async () => {
    pod = await startPod();
  });
  afterEach(async () => {
    for (const { child } of running.splice(0)) child.kill('SIGKILL');
    await pod.stop();
  });

  function run(settings: Record<string, string> = {}, args: readonly string[] = []): Running {
    const child = spawn(process.execPath, [...flags, join(folder, 'main.mjs'), ...args], {
      env: { PATH: process.env.PATH, ...pod.environment, ...settings },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const lines: Record<string, unknown>[] = [];
    let [rest, stderr] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      const parts = (rest + chunk).split('\n');
      rest = parts.pop() ?? '';
      if (args.length === 0) for (const part of parts) lines.push(JSON.parse(part));
    });
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      stderr += chunk;
    });
    const ended = once(child, 'close').then(([code, signal]) => (code ?? signal) as number | string);
    running.push({ child, lines, ended, stderr: () => stderr });
    return { child, lines, ended, stderr: () => stderr };
  }
  const said = ({ lines }: Running, text: string) => lines.find(({ msg }) => msg === text);

  it('exits with 1 on invalid settings, and lists them all', async () => {
    const started = run({ IRSA_PROVE: 'perhaps', POD_INFO_PATH: 'x' });
    assert.equal(await started.ended, 1);
    assert.match(started.stderr(), /cannot start: 2 setting.*\nPOD_INFO_PATH: .*\nIRSA_PROVE: /);
  });

  it('logs JSON lines to stdout and the log file, and ends within a second of SIGTERM during a refresh', async () => {
    const logFile = join(pod.folder, 'irsa', 'app.log');
    const started = run({ IRSA_LOG_FILE: logFile });
    await until(() => said(started, 'round done') !== undefined);
    const port = said(started, 'listening')?.port as number;
    pod.service.always = 'hang';
    const refresh = fetch(`http://127.0.0.1:${port}/refresh`).catch(() => 'cut');
    await until(() => pod.service.asked.length === 2);
    const told = performance.now();
    started.child.kill('SIGTERM');
    assert.equal(await started.ended, 0);
    assert.ok(performance.now() - told < 1000);
    assert.equal(await refresh, 'cut');
    const inFile = readFileSync(logFile, 'utf8').trim().split('\n');
    assert.deepEqual(
      inFile.map((line) => JSON.parse(line)),
      started.lines,
    );
    assert.equal(said(started, 'ending')?.signal, 'SIGTERM');
  });

  it('exits with 1 when its port is taken, and logs why', async () => {
    const first = run();
    await until(() => said(first, 'listening') !== undefined);
    const second = run({ IRSA_SIDECAR_PORT: String(said(first, 'listening')?.port) });
    assert.equal(await second.ended, 1);
    assert.match(JSON.stringify(said(second, 'cannot listen')), /EADDRINUSE/);
  });

  it('IRSA_ONCE: retries until one round succeeds, then exits with 0', async () => {
    pod.service.next.push(problem(404, 'run_not_found'));
    assert.equal(await run({ IRSA_ONCE: 'true' }).ended, 0);
    assert.equal(pod.config(), configText(['acme-read']));
    assert.equal(pod.service.asked.length, 2);
  });

  it('IRSA_ONCE: exits with 1 when no round succeeds in time', async () => {
    pod.service.always = 'hang';
    const started = run({ IRSA_ONCE: 'true', IRSA_ONCE_TIMEOUT_SECONDS: '1' });
    assert.equal(await started.ended, 1);
    assert.ok(said(started, 'no proved AWS config in time'));
  });

  it('IRSA_ONCE: ends on SIGTERM with 1 before a round has succeeded', async () => {
    pod.service.always = 'hang';
    const started = run({ IRSA_ONCE: 'true' });
    await until(() => pod.service.asked.length === 1);
    started.child.kill('SIGTERM');
    assert.equal(await started.ended, 1);
  });

  it('makes the probe exit with 1 until it is ready, then with 0', async () => {
    pod.service.next.push('hang');
    const started = run();
    await until(() => pod.service.asked.length === 1);
    const port = { IRSA_SIDECAR_PORT: String(said(started, 'listening')?.port) };
    assert.equal(await run(port, ['probe']).ended, 1);
    started.child.kill('SIGTERM');
    await started.ended;
    const ready = run();
    await until(() => said(ready, 'round done') !== undefined);
    assert.equal(await run({ IRSA_SIDECAR_PORT: String(said(ready, 'listening')?.port) }, ['probe']).ended, 0);
  });

  it('idles below 60 MB after its start and after 20 refreshes over TLS', async function () {
    if (!existsSync('/proc/self/status')) {
      console.warn(`SKIPPED: ${this.test?.fullTitle()}: this machine shows no memory under /proc`);
      return this.skip();
    }
    const pair = makeCertificate();
    const service = await startScripted({ text: configText(['a', 'b', 'c', 'd']) }, pair);
    const sts = await startScripted({ text: sessionXml }, pair);
    const certificate = pod.put('service.crt', pair.cert);
    try {
      const started = run({
        DOMINO_IRSA_ENDPOINT: `${service.url}/map`,
        DOMINO_IRSA_SSL_CERT: certificate,
        // The stand-in for STS is trusted the way STS is: through Node's own list of CAs.
        NODE_EXTRA_CA_CERTS: certificate,
        AWS_ENDPOINT_URL_STS: sts.url,
        IRSA_PROVE: 'true',
      });
      const resident = () => {
        const status = readFileSync(`/proc/${started.child.pid}/status`, 'utf8');
        return (Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024) / 1e6;
      };
      await until(() => said(started, 'round done') !== undefined);
      await until(() => resident() < 60);
      const port = said(started, 'listening')?.port;
      for (let time = 0; time < 20; time += 1) {
        const response = await fetch(`http://127.0.0.1:${port}/refresh`, { method: 'POST' });
        assert.equal(response.status, 200);
      }
      // Two hops of four profiles, 21 times.
      assert.equal(sts.asked.length, 168);
      await until(() => resident() < 60);
    } finally {
      await Promise.all([service.close(), sts.close()]);
    }
  });

  it('IRSA_ONCE: has one time limit for all tries', async () => {
    pod.service.always = problem(503, 'grant_pending');
    const config = loadSidecarConfig({ ...pod.environment, IRSA_ONCE: 'true' });
    const { clock, log } = pod;
    let done: boolean | undefined;
    void runOnce({ config, clock, log }, new AbortController().signal).then((outcome) => {
      done = outcome;
    });
    for (let second = 0; second < 120; second += 1) {
      assert.equal(done, undefined);
      await clock.advance(1000);
    }
    await until(() => done !== undefined);
    assert.equal(done, false);
  });
});
