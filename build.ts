/** Owns `npm run build`: the programs in dist/, with the Kubernetes client in them, and the files of the console's page. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { buildConsole } from './build-console.ts';

/**
 * Bundled, since it cannot be loaded in part: its 700 generated models, which we do not use, take 50 MB and a quarter of
 * a second in each replica.
 */
const bundled = '@kubernetes/client-node';
const { dependencies } = JSON.parse(readFileSync('package.json', 'utf8')) as { dependencies: Record<string, string> };

// The names of parts have their content's hash in them: old ones would pile up.
rmSync('dist', { recursive: true, force: true });
await build({
  entryPoints: ['src/main.ts', 'src/sidecar/main.ts', 'src/publish-ca.ts', 'src/helm-test.ts'],
  outdir: 'dist',
  outbase: '.',
  bundle: true,
  platform: 'node',
  target: 'node24',
  format: 'esm',
  // What an entry loads by `import()` is a file of its own, so that signals are taken before packages load.
  splitting: true,
  external: Object.keys(dependencies)
    .filter((name) => name !== bundled)
    .flatMap((name) => [name, `${name}/*`]),
  // CommonJS packages inside the bundle call require.
  banner: {
    js: "import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(import.meta.url);",
  },
  logLevel: 'warning',
});

mkdirSync('dist/console');
for (const [name, content] of await buildConsole()) writeFileSync(join('dist/console', name), content);
