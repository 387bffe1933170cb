/** Proves that the linter holds the directions between folders and the length of functions, and that files stay short. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

const root = join(import.meta.dirname, '..');

/** From the bottom up. A folder may import some of those on floors below its own, and none beside or above it. */
const floors = [
  'lib trust-policy',
  'aws kubernetes',
  'auth activity reconcile',
  'http mappings',
  'runs',
  'proxy-roles',
  'pod-identity',
  'grants reports leader',
].map((floor) => floor.split(' '));
const folders = floors.flat();
const floorOf = (folder: string) => floors.findIndex((floor) => floor.includes(folder));

/** Lints such files by one rule. @param rules of biome.json, or in its place. @returns the names of those that it refuses. */
function refused(files: Record<string, string>, rule: string, rules: object): string[] {
  const folder = mkdtempSync(join(tmpdir(), 'irsa-folders-'));
  try {
    writeFileSync(join(folder, 'biome.json'), JSON.stringify(rules));
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, name)), { recursive: true });
      writeFileSync(join(folder, name), text);
    }
    const args = ['lint', `--only=${rule}`, '--max-diagnostics=none', '--reporter=json', '.'];
    const biome = join(root, 'node_modules', '.bin', 'biome');
    const { stdout } = spawnSync(biome, args, { cwd: folder, encoding: 'utf8', maxBuffer: 16 * 1024 * 1024 });
    const { diagnostics } = JSON.parse(stdout) as { diagnostics: { category: string; location: { path: string } }[] };
    assert.ok(diagnostics.every(({ category }) => category === `lint/${rule}`));
    return diagnostics.map(({ location }) => location.path.replace(/^\.\//, ''));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Files whose functions may be longer than 60 lines, with the reason. biome.json has the same list. */
const longFunctions: Record<string, string> = {
  'src/auth/token-keys.ts': 'one cache of keys: its closures share the keys and the fetch under way',
  'src/aws/rate-limiter.ts': 'one bucket: its closures share the tokens and the queue',
  'src/kubernetes/transport.ts': 'one client: its closures share the sessions and their state',
  'src/kubernetes/watch.ts': 'one watch: to become a class',
  'src/leader/lease.ts': 'one lease: its closures share the record held',
  'src/lib/metrics.ts': 'a table of metrics, each once',
  'src/sidecar/rounds.ts': 'one loop: its closures share the state of a round',
};

/** Files that may be longer than 250 lines, with the reason. */
const longFiles: Record<string, string> = {};

const imports = 'style/noRestrictedImports';
const projectRules = (): object => {
  const { linter, overrides } = JSON.parse(readFileSync(join(root, 'biome.json'), 'utf8'));
  return { linter, overrides };
};
const importing = (path: string) => `import { x } from '${path}';\n\nconsole.log(x);\n`;

describe('the folders of src', function () {
  this.timeout(60_000);

  it('all have a place', () => {
    const found = readdirSync(join(root, 'src'), { withFileTypes: true }).filter((entry) => entry.isDirectory());
    assert.deepEqual(found.map(({ name }) => name).sort(), [...folders, 'sidecar', 'console'].sort());
  });

  it('import nothing that is beside or above them; the sidecar imports lib alone, and the console nothing', () => {
    const files: Record<string, string> = {};
    const wanted: string[] = [];
    for (const folder of [...folders, 'sidecar', 'console']) {
      files[`src/${folder}/own.ts`] = importing('./other.ts');
      for (const other of [...folders, 'sidecar', 'console'].filter((name) => name !== folder)) {
        const file = `src/${folder}/imports-${other}.ts`;
        files[file] = importing(`../${other}/x.ts`);
        const below = folder === 'sidecar' ? other === 'lib' : folder !== 'console' && floorOf(other) < floorOf(folder);
        if (!below || other === 'sidecar' || other === 'console') wanted.push(file);
      }
      const up = `src/${folder}/imports-app.ts`;
      files[up] = importing('../app.ts');
      wanted.push(up);
    }
    const found = new Set(refused(files, imports, projectRules()));
    assert.deepEqual(
      wanted.filter((file) => !found.has(file)),
      [],
    );
    assert.ok(![...found].some((file) => file.endsWith('own.ts')));
    // What the code does import today is checked by the lint itself; lib is open to all but the pure trust policy.
    for (const folder of folders.filter((name) => !['lib', 'trust-policy'].includes(name))) {
      assert.ok(!found.has(`src/${folder}/imports-lib.ts`), folder);
    }
  });

  it('are imported by routes, which import no other route', () => {
    const found = refused(
      {
        'routes/a.ts': importing('./b.ts'),
        'routes/c.ts': importing('../src/grants/grant.ts'),
        'routes/d.ts': importing('../src/leader/leader.ts'),
      },
      imports,
      projectRules(),
    );
    assert.deepEqual(found.sort(), ['routes/a.ts', 'routes/d.ts']);
  });
});

describe('the code of src and routes', () => {
  it('stands in files of at most 250 lines, but for those that are named here', () => {
    const files = ['src', 'routes'].flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name)),
    );
    const sources = files.filter((file) => /\.tsx?$/.test(file));
    const lines = (file: string) => readFileSync(join(root, file), 'utf8').trimEnd().split('\n').length;
    assert.ok(sources.length > 100);
    assert.deepEqual(
      sources.filter((file) => lines(file) > 250),
      Object.keys(longFiles),
    );
  });

  it('has functions of at most 60 lines, but for the files that are named here', () => {
    const { overrides } = JSON.parse(readFileSync(join(root, 'biome.json'), 'utf8')) as {
      overrides: { includes: string[]; linter: { rules: { complexity?: Record<string, unknown> } } }[];
    };
    const rules = overrides.flatMap(({ includes, linter }) => {
      const rule = linter.rules.complexity?.noExcessiveLinesPerFunction;
      return rule === undefined ? [] : [{ includes, rule }];
    });
    assert.deepEqual(rules, [
      { includes: ['src/**', 'routes/**'], rule: { level: 'error', options: { maxLines: 60 } } },
      { includes: Object.keys(longFunctions), rule: 'off' },
    ]);
  });

  it('has no exception that is not needed', () => {
    const files = Object.fromEntries(
      Object.keys(longFunctions).map((file) => [file, readFileSync(join(root, file), 'utf8')]),
    );
    const rule = { level: 'error', options: { maxLines: 60 } };
    const rules = { linter: { rules: { complexity: { noExcessiveLinesPerFunction: rule } } } };
    const found = new Set(refused(files, 'complexity/noExcessiveLinesPerFunction', rules));
    assert.deepEqual([...found].sort(), Object.keys(longFunctions).sort());
  });
});
