/** Owns the proof that the Dockerfile's steps make an installation that works: built by hand, inspected, started. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startChild } from '../stack/process.ts';
import { startStack } from '../stack/processes.ts';
import { sidecarCommand } from '../stack/sidecars.ts';
import { type BuiltImage, buildImage } from './build.ts';
import { isPinned, isReproducible } from './origin.ts';
import { listsItsParts } from './parts.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const say = (line: string) => console.log(`  ${line}`);
// The slowest step is an installation over the network.
const limitMs = 5 * 60_000;
setTimeout(() => {
  console.error(`not done after ${limitMs / 1000} s`);
  process.exit(1);
}, limitMs).unref();
const work = mkdtempSync(join(tmpdir(), 'irsa-svc-image-'));
process.once('exit', () => rmSync(work, { recursive: true, force: true }));

const image = await buildImage(root, work, say);
contentsAreRight(image);
isPinned(image, root, say);
listsItsParts(image, root, say);
await isReproducible(root, work, say);
await refusesWithoutSettings(image, 'dist/src/main.js', ['OIDC_PROVIDER', 'DOMINO_ISSUER', 'AWS_REGION']);
await sidecarStarts(image);
await publisherStarts(image);
await becomesReady(image);
say('the production installation works');
process.exit(0);

/** What the image starts by itself. */
function commandOf({ stage }: BuiltImage): string[] {
  return JSON.parse(stage.settings.get('CMD') ?? '[]') as string[];
}

function contentsAreRight(built: BuiltImage): void {
  const { folder, stage } = built;
  const { dependencies, scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
    scripts: Record<string, string>;
  };
  const installed = (name: string) => existsSync(join(folder, 'node_modules', name));
  assert.deepEqual(
    Object.keys(dependencies).filter((name) => !installed(name)),
    [],
    'dependencies that are missing',
  );
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean }>;
  };
  const extra = Object.entries(lock.packages).filter(([path, { dev }]) => dev && existsSync(join(folder, path)));
  assert.deepEqual(
    extra.map(([path]) => path),
    [],
    'packages of development in production',
  );
  assert.match(stage.settings.get('USER') ?? '', /^1000(:1000)?$/, 'the user is not root, and is given by number');
  assert.equal(commandOf(built).join(' '), scripts.start, 'the same command as npm start');
  say('it holds the production dependencies and no others, and runs as user 1000');
}

/** Started with nothing set, a program names what is missing and ends. */
async function refusesWithoutSettings({ folder, environment }: BuiltImage, entry: string, names: string[]) {
  const child = startChild(process.execPath, [entry], { cwd: folder, environment });
  assert.equal(await child.exited, 1, child.output.join('\n'));
  const said = child.output.join('\n');
  for (const name of names) assert.ok(said.includes(`${name}: required`), `${entry} does not name ${name}:\n${said}`);
  say(`${entry} without settings names what is missing, and ends`);
}

/** Started as `npm run sidecar` does, it has a default for every setting, and waits for its pod's files to appear. */
async function sidecarStarts({ folder, environment }: BuiltImage): Promise<void> {
  const settings = { ...environment, IRSA_SIDECAR_PORT: '0', AWS_CONFIG_FILE: join(work, 'config') };
  const [program, ...words] = sidecarCommand.split(' ');
  assert.equal(program, 'node');
  const child = startChild(process.execPath, words, { cwd: folder, environment: settings });
  await child.line(({ msg }) => msg === 'listening');
  child.kill('SIGTERM');
  assert.equal(await child.exited, 0, child.output.slice(-10).join('\n'));
  // The image has no npm scripts to start it with: a deployment copies the line.
  for (const file of ['Dockerfile', 'docs/sidecar.md']) {
    assert.ok(readFileSync(join(root, file), 'utf8').includes(sidecarCommand), `${file} does not name the start line`);
  }
  say(`the sidecar starts, and ends in good order: ${sidecarCommand}`);
}

/** As the chart's small pod starts it: it has no certificate yet, says so, tries again, and ends when it is asked to. */
async function publisherStarts({ folder, environment }: BuiltImage): Promise<void> {
  const words = ['--jitless', '--single-threaded', '--max-semi-space-size=1', 'dist/src/publish-ca.js'];
  const settings = { ...environment, CA_FILES: join(work, 'absent.crt'), CONFIG_MAP_PATH: '/api/v1' };
  const child = startChild(process.execPath, words, { cwd: folder, environment: settings });
  await child.line(({ msg }) => msg === 'the CA could not be published; trying again');
  child.kill('SIGTERM');
  assert.equal(await child.exited, 0, child.output.join('\n'));
  const template = readFileSync(join(root, 'deploy/helm/irsa/templates/ca-publisher.yaml'), 'utf8');
  assert.ok(template.includes(`[node, ${words.join(', ')}]`), 'the chart starts it by another command');
  say('the CA publisher starts, and ends in good order');
}

async function becomesReady(built: BuiltImage): Promise<void> {
  const { folder, environment } = built;
  const stack = await startStack();
  const kubeconfig = join(work, 'kubeconfig');
  writeFileSync(kubeconfig, stack.kubeconfig);
  const ports = { PORT: '0', PROMETHEUS_METRICS_PORT: '0', SSL_OFF: 'true' };
  const child = startChild(process.execPath, commandOf(built).slice(1), {
    cwd: folder,
    environment: { ...environment, ...stack.environment, KUBECONFIG: kubeconfig, ...ports },
  });
  const ready = child.line(({ msg }) => msg === 'ready');
  const { port } = await child.line<{ port: number }>(({ msg }) => msg === 'listening');
  await ready;
  for (const path of [
    '/healthz',
    '/readyz',
    '/openapi.yaml',
    '/docs',
    '/docs/assets/swagger-ui.css',
    '/console',
    '/console/main.js',
  ]) {
    const { status } = await fetch(`http://127.0.0.1:${port}${path}`);
    assert.equal(status, 200, path);
  }
  child.kill('SIGTERM');
  assert.equal(await child.exited, 0, child.output.slice(-10).join('\n'));
  await stack.stop();
  say('the service becomes ready, serves its contract and its page, and ends in good order');
}
