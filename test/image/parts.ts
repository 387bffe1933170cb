/** Owns the proof that the image's SBOM lists exactly the parts of the image, all under known licences. */
import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BuiltImage } from './build.ts';

interface Component {
  readonly name: string;
  readonly version: string;
  readonly purl?: string;
  readonly hashes?: readonly { readonly alg: string; readonly content: string }[];
  readonly licenses?: readonly {
    readonly license?: { readonly id?: string; readonly name?: string };
    readonly expression?: string;
  }[];
}

interface Sbom {
  readonly bomFormat: string;
  readonly serialNumber?: string;
  readonly metadata: { readonly timestamp?: string; readonly component: Component };
  readonly components: readonly Component[];
}

/** Licences that require only a notice, which each package includes. A person has to review any other. */
const known = [
  '0BSD',
  'Apache-2.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'BlueOak-1.0.0',
  'ISC',
  'MIT',
  'PSF-2.0',
  'Python-2.0',
  'Unlicense',
];

/** Copies the list to dist/sbom.cdx.json as well, for builds that keep their artifacts. */
export function listsItsParts({ folder }: BuiltImage, root: string, say: (line: string) => void): void {
  const file = join(folder, 'sbom.cdx.json');
  const text = readFileSync(file, 'utf8');
  const { bomFormat, serialNumber, metadata, components } = JSON.parse(text) as Sbom;
  const { name, version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Component;
  assert.equal(bomFormat, 'CycloneDX');
  assert.deepEqual([metadata.component.name, metadata.component.version], [name, version]);
  assert.deepEqual(
    [serialNumber, metadata.timestamp],
    [undefined, undefined],
    'the list does not depend on the time of its build',
  );
  const listed = components.map((part) => `${part.name}@${part.version}`);
  assert.deepEqual(listed.sort(), [...new Set(installedIn(join(folder, 'node_modules')))].sort());
  assert.deepEqual(
    components.filter(({ hashes, purl }) => !hashes?.length || !purl).map((part) => part.name),
    [],
    'parts without a checksum or an address',
  );
  const counts = new Map<string, number>();
  for (const part of components) {
    const [first] = part.licenses ?? [];
    const licence = first?.license?.id ?? first?.license?.name ?? first?.expression ?? 'none';
    assert.ok(known.includes(licence), `${part.name}@${part.version} has the licence ${licence}: look at it`);
    counts.set(licence, (counts.get(licence) ?? 0) + 1);
  }
  const licences = [...counts].sort(([, one], [, other]) => other - one).map(([id, count]) => `${count} ${id}`);
  say(`its list of ${listed.length} parts is whole: ${licences.join(', ')}`);
  mkdirSync(join(root, 'dist'), { recursive: true });
  copyFileSync(file, join(root, 'dist', 'sbom.cdx.json'));
}

/** Every package under node_modules, and those under packages' own. */
function installedIn(modules: string): string[] {
  if (!existsSync(modules)) return [];
  const folders = readdirSync(modules, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
    .flatMap(({ name }) =>
      name.startsWith('@') ? readdirSync(join(modules, name)).map((inner) => join(name, inner)) : [name],
    );
  return folders.flatMap((folder) => {
    const { name, version } = JSON.parse(readFileSync(join(modules, folder, 'package.json'), 'utf8')) as Component;
    return [`${name}@${version}`, ...installedIn(join(modules, folder, 'node_modules'))];
  });
}
