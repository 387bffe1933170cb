/** Owns the programs that check the chart, built from their Go modules into a cache outside git, and where they are. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';

export const root = join(import.meta.dirname, '..', '..');
/** Another folder, kept between clones, with IRSA_TOOLS. */
export const toolsFolder = process.env.IRSA_TOOLS || join(root, 'node_modules', '.cache', 'irsa-tools');
const bin = join(toolsFolder, 'bin');

interface Tool {
  name: string;
  module: string;
  version: string;
  flags: readonly string[];
}

/** The Kubernetes release that helm takes for the cluster's; its own build sets this, and `go install` does not. */
export const kubernetesMinor = 34;
const stamped = ['chartutil', 'lint/rules'].flatMap((folder) =>
  ['Major=1', `Minor=${kubernetesMinor}`].map((value) => `-X helm.sh/helm/v3/pkg/${folder}.k8sVersion${value}`),
);

export const tools: readonly Tool[] = [
  {
    name: 'helm',
    module: 'helm.sh/helm/v3/cmd/helm',
    version: 'v3.19.2',
    flags: ['-ldflags', `-s -w ${stamped.join(' ')}`],
  },
  { name: 'kubeconform', module: 'github.com/yannh/kubeconform/cmd/kubeconform', version: 'v0.8.0', flags: [] },
];

/** The program's path: the cache's, else the one on PATH; undefined where there is none. */
export function toolPath(name: string): string | undefined {
  const folders = [bin, ...(process.env.PATH ?? '').split(delimiter)];
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
}

/** Builds what the cache lacks, in these versions. @returns why a tool is missing, by its name. */
export function installTools(): Map<string, string> {
  const missing = new Map<string, string>();
  mkdirSync(bin, { recursive: true });
  for (const { name, module, version, flags } of tools) {
    const stamp = join(bin, `${name}.${version}`);
    if (existsSync(join(bin, name)) && existsSync(stamp)) continue;
    const { status, error, stderr } = run('go', ['install', ...flags, `${module}@${version}`], { GOBIN: bin });
    if (status === 0) writeFileSync(stamp, '');
    else if (!toolPath(name)) missing.set(name, error ? 'Go is not here to build it' : stderr);
  }
  return missing;
}

/** Runs a program to its end, outside the Go modules of this project. */
export function run(program: string, args: readonly string[], env: Record<string, string> = {}) {
  return spawnSync(program, args, {
    cwd: root,
    env: { ...process.env, ...env },
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    // A download that hangs must not hold up everything else.
    timeout: 300_000,
  });
}
