/** Owns the proof that the image comes from pinned parts, and that the same sources make the same programs. */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { startChild } from '../stack/process.ts';
import type { BuiltImage } from './build.ts';
import { parseDockerfile } from './dockerfile.ts';

interface Manifest {
  readonly version: string;
  readonly description: string;
  readonly license: string;
  readonly devDependencies: Readonly<Record<string, string>>;
}

export function isPinned({ stage }: BuiltImage, root: string, say: (line: string) => void): void {
  const text = (name: string) => readFileSync(join(root, name), 'utf8');
  const manifest = JSON.parse(text('package.json')) as Manifest;
  const stages = parseDockerfile(text('Dockerfile'));
  for (const { name, base, steps } of stages) {
    const tested = manifest.devDependencies.node ?? '';
    assert.match(base, new RegExp(`^node:${tested.replaceAll('.', '\\.')}-[a-z]+-slim(@sha256:[0-9a-f]{64})?$`), name);
    for (const step of steps) {
      if (step.kind !== 'run' || !/\b(install|add|i|ci|npx|curl|wget|apt-get)\b/.test(step.command)) continue;
      assert.match(
        step.command,
        /^npm ci (--omit=dev )?--ignore-scripts( && node sbom\.ts)?$/,
        'nothing but the lockfile',
      );
    }
  }
  const { packages } = JSON.parse(text('package-lock.json')) as {
    packages: Record<string, { dev?: boolean; integrity?: string }>;
  };
  const loose = Object.entries(packages).filter(([path, { dev, integrity }]) => path !== '' && !dev && !integrity);
  assert.deepEqual(
    loose.map(([path]) => path),
    [],
    'packages that the lockfile has no checksum of',
  );
  const label = (name: string) => stage.labels.get(`org.opencontainers.image.${name}`);
  assert.deepEqual(
    [label('version'), label('licenses'), label('description')],
    [manifest.version, manifest.license, manifest.description],
  );
  say(`its base is ${stages.at(-1)?.base}, its packages are those of the lockfile, its labels those of package.json`);
}

/** Builds once more, in another folder, and compares each byte with the first build. */
export async function isReproducible(root: string, work: string, say: (line: string) => void): Promise<void> {
  const first = join(work, 'build');
  const again = join(work, 'elsewhere', 'again');
  mkdirSync(again, { recursive: true });
  const stage = parseDockerfile(readFileSync(join(root, 'Dockerfile'), 'utf8')).find(({ name }) => name === 'build');
  for (const step of stage?.steps ?? []) {
    if (step.kind !== 'copy') continue;
    for (const source of step.sources) cpSync(join(root, source), join(again, source), { recursive: true });
  }
  // Moved rather than linked, since esbuild resolves links; the first build no longer needs it.
  renameSync(join(first, 'node_modules'), join(again, 'node_modules'));
  const child = startChild('npm', ['run', 'build'], { cwd: again });
  assert.equal(await child.exited, 0, child.output.join('\n'));
  const files = filesOf(join(first, 'dist'));
  assert.ok(files.length >= 2);
  assert.deepEqual(filesOf(join(again, 'dist')), files);
  for (const file of files) {
    const same = readFileSync(join(first, 'dist', file)).equals(readFileSync(join(again, 'dist', file)));
    assert.ok(same, `${file} is not the same in two builds`);
  }
  say(`built again in another folder, ${files.join(' and ')} come out the same`);
}

function filesOf(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();
}
