/** Owns how the console's page is built: its sources bundled into the few files that the service hands out. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

const root = import.meta.dirname;

/** @returns the content of each file by its name. */
export async function buildConsole(): Promise<Map<string, Uint8Array>> {
  const { outputFiles } = await build({
    absWorkingDir: root,
    entryPoints: ['src/console/main.tsx', 'src/console/style.css'],
    outdir: 'dist/console',
    bundle: true,
    write: false,
    minify: true,
    legalComments: 'none',
    target: 'es2024',
    format: 'esm',
    jsx: 'automatic',
    jsxImportSource: 'preact',
    tsconfig: 'src/console/tsconfig.json',
    logLevel: 'warning',
  });
  const built = outputFiles.map(({ path, contents }) => [path.slice(path.lastIndexOf('/') + 1), contents] as const);
  const asTheyAre = ['index.html', 'icon.svg'].map(
    (name) => [name, readFileSync(join(root, 'src/console', name))] as const,
  );
  return new Map<string, Uint8Array>([...built, ...asTheyAre]);
}
