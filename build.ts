/** Owns `npm run build`: the two entries in dist/, with the Kubernetes client in them and every other package beside. */
import { readFileSync } from 'node:fs';
import { build } from 'esbuild';

/**
 * Bundled, since it cannot be loaded in part: its 700 generated models, which we do not use, take 50 MB and a quarter of
 * a second in each replica.
 */
const bundled = '@kubernetes/client-node';
const { dependencies } = JSON.parse(readFileSync('package.json', 'utf8')) as { dependencies: Record<string, string> };

await build({
  entryPoints: ['src/main.ts', 'src/sidecar/main.ts'],
  outdir: 'dist',
  outbase: '.',
  bundle: true,
  platform: 'node',
  target: 'node22',
  format: 'esm',
  external: Object.keys(dependencies)
    .filter((name) => name !== bundled)
    .flatMap((name) => [name, `${name}/*`]),
  // CommonJS packages inside the bundle call require.
  banner: {
    js: "import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(import.meta.url);",
  },
  logLevel: 'warning',
});
