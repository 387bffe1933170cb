/** Proves that the sidecar stays small: which modules it loads, directly and indirectly. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join, relative } from 'node:path';

const root = join(import.meta.dirname, '..', '..');
const named =
  /^\s*(?:import|export)\b(?!\s+type\b)[^'"]*?\bfrom\s+'([^']+)'|\bimport\(\s*'([^']+)'|^\s*import\s+'([^']+)'/gm;

/** Every module that an entry loads: files by their path from the root, packages by name. */
function importsOf(entry: string): Set<string> {
  const found = new Set<string>();
  const visit = (file: string) => {
    const name = relative(root, file);
    if (found.has(name)) return;
    found.add(name);
    for (const [, from, lazy, bare] of readFileSync(file, 'utf8').matchAll(named)) {
      const specifier = from ?? lazy ?? bare ?? '';
      if (specifier.startsWith('.')) visit(join(file, '..', specifier));
      else found.add(specifier);
    }
  };
  visit(join(root, entry));
  return found;
}

describe('the modules of the sidecar', () => {
  const loaded = [...importsOf('src/sidecar/main.ts')];

  it('are found by this test, as are those of the service', () => {
    for (const name of ['src/sidecar/trusted-cas.ts', 'src/sidecar/round.ts', 'pino'])
      assert.ok(loaded.includes(name), name);
    const service = [...importsOf('src/main.ts')];
    for (const name of ['@kubernetes/client-node', '@aws-sdk/client-iam', 'express']) assert.ok(service.includes(name));
  });

  it('include only the log, clock, errors, signals and five small files of src/lib', () => {
    const shared = loaded.filter((name) => /^(src|routes)\//.test(name) && !name.startsWith('src/sidecar/'));
    for (const name of shared)
      assert.match(
        name,
        /^src\/lib\/(log|clock|errors|config-error|arn|default-proposal|forward-proxy|json|signals)\.ts$/,
      );
  });

  it('include no package other than pino', () => {
    const packages = loaded.filter((name) => !name.startsWith('src/') && !name.startsWith('node:'));
    assert.deepEqual(packages, ['pino']);
  });

  it('import only two modules of Node statically', () => {
    const node = loaded.filter((name) => name.startsWith('node:')).sort();
    assert.deepEqual(node, ['node:path', 'node:timers/promises']);
  });
});
