/** Owns the image's list of parts, sbom.cdx.json: npm's own, of a folder with the production installation. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';

interface Sbom {
  serialNumber?: string;
  metadata: { timestamp?: string; component: { type: string; name: string } };
}

const text = readFileSync('package.json', 'utf8');
const { devDependencies: _, ...manifest } = JSON.parse(text) as { name: string; devDependencies?: object };
let sbom: Sbom;
try {
  // With `--omit=dev` npm leaves out what development needs as well, and without it what is not installed is an error.
  writeFileSync('package.json', JSON.stringify(manifest));
  sbom = JSON.parse(execFileSync('npm', ['sbom', '--sbom-format=cyclonedx'], { encoding: 'utf8' })) as Sbom;
} finally {
  writeFileSync('package.json', text);
}
// Both are optional in CycloneDX, and would make each build's list, and so its image, another.
delete sbom.serialNumber;
delete sbom.metadata.timestamp;
// npm names it by the folder that it happens to be in.
Object.assign(sbom.metadata.component, { name: manifest.name, type: 'application' });
writeFileSync('sbom.cdx.json', `${JSON.stringify(sbom, null, 2)}\n`);
