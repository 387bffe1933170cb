/** Owns the real peers' programs: each in one pinned version, built or installed once into a cache outside the tree. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** Kept between clones; IRSA_TOOLS names another folder. */
export const cacheFolder = process.env.IRSA_TOOLS || join(homedir(), '.cache', 'irsa-svc-tools');

/** A peer that cannot be obtained on this machine, with the reason. */
export class Unavailable extends Error {}

/**
 * Installs Python packages into a virtual environment of their own.
 * @param requirements pinned, as pip takes them: `openapi-python-client==0.29.1`.
 * @param minor the oldest Python 3 that they run on.
 * @returns the folder of its programs.
 * @throws Unavailable where Python or a package cannot be obtained.
 */
export function pythonTool(name: string, requirements: readonly string[], minor = 9): string {
  const folder = join(cacheFolder, `${name}-${versionsOf(requirements)}`);
  return once(folder, () => {
    run(pythonFrom(minor), ['-m', 'venv', folder]);
    const bin = join(folder, 'bin');
    const pip = (...packages: string[]) =>
      run(join(bin, 'pip'), ['install', '--quiet', '--disable-pip-version-check', ...packages]);
    try {
      // It resolves in seconds what takes pip minutes.
      pip('uv==0.13.9');
      run(join(bin, 'uv'), ['pip', 'install', '--quiet', '--python', join(bin, 'python'), ...requirements]);
    } catch {
      // pip follows settings that uv does not know.
      pip(...requirements);
    }
    return bin;
  });
}

function pythonFrom(minor: number): string {
  const found = ['python3', 'python3.14', 'python3.13', 'python3.12'].find((program) => {
    const { status } = spawnSync(program, ['-c', `import sys; sys.exit(sys.version_info < (3, ${minor}))`]);
    return status === 0;
  });
  if (!found) throw new Unavailable(`there is no Python 3.${minor} or later`);
  return found;
}

/**
 * Installs a package of npm apart from this project's own.
 * @returns the folder of the package.
 * @throws Unavailable where it cannot be obtained.
 */
export function npmPackage(name: string, version: string): string {
  const folder = join(cacheFolder, `${name.replace(/\W+/g, '-').replace(/^-/, '')}-${version}`);
  return once(folder, () => {
    run('npm', ['install', '--silent', '--no-save', '--ignore-scripts', '--prefix', folder, `${name}@${version}`]);
    return join(folder, 'node_modules', name);
  });
}

/**
 * Builds a program from its Go module.
 * @returns the program's path.
 * @throws Unavailable where Go or the module cannot be obtained.
 */
export function goTool(name: string, pkg: string, version: string): string {
  const folder = join(cacheFolder, `${name}-${version}`);
  return once(folder, () => {
    run('go', ['install', `${pkg}@${version}`], { GOBIN: folder, GOFLAGS: '-trimpath' });
    return join(folder, name);
  });
}

/**
 * Builds programs whose versions a go.mod of this project pins, with other versions of what they require than their authors'.
 * @param module the folder of go.mod and go.sum.
 * @param programs each program's name and its package.
 * @param linking more flags of the linker: what the authors' own build writes into the program.
 * @returns the folder of the programs.
 * @throws Unavailable where Go or a module cannot be obtained.
 */
export function goPrograms(
  name: string,
  module: string,
  programs: Readonly<Record<string, string>>,
  linking = '',
): string {
  const pinned = ['go.mod', 'go.sum'].map((file) => readFileSync(join(module, file), 'utf8'));
  const folder = join(cacheFolder, `${name}-${versionsOf([...pinned, linking])}`);
  return once(folder, () => {
    for (const [program, pkg] of Object.entries(programs)) {
      const flags = ['-trimpath', '-tags', 'grpcnotrace', '-ldflags', `-s -w ${linking}`, '-o', join(folder, program)];
      // Not `go tool`: it compiles all again at each new build of its cache.
      run('nice', ['go', 'build', ...flags, pkg], { CGO_ENABLED: '0', GOFLAGS: '' }, { cwd: module });
    }
    return folder;
  });
}

/**
 * Fetches the jars that a pom.xml of this project names.
 * @returns the folder of the jars.
 * @throws Unavailable where Java's compiler, Maven or a jar cannot be obtained.
 */
export function mavenJars(name: string, pom: string): string {
  const folder = join(cacheFolder, `${name}-${versionsOf([readFileSync(pom, 'utf8')])}`);
  return once(folder, () => {
    run('javac', ['-version']);
    const goal = 'org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies';
    run('nice', ['mvn', '-B', '-q', '-f', pom, goal, '-DincludeScope=runtime', `-DoutputDirectory=${folder}`]);
    return folder;
  });
}

/**
 * Builds the program of a crate of this project, whose Cargo.lock pins its dependencies.
 * @param crate the folder of Cargo.toml, Cargo.lock and main.rs.
 * @returns the program's path.
 * @throws Unavailable where Rust or a crate cannot be obtained.
 */
export function cargoProgram(name: string, crate: string, program: string): string {
  const source = ['Cargo.toml', 'Cargo.lock', 'main.rs'].map((file) => readFileSync(join(crate, file), 'utf8'));
  const folder = join(cacheFolder, `${name}-${versionsOf(source)}`);
  return once(folder, () => {
    const target = join(folder, 'target');
    run('nice', ['cargo', 'build', '--quiet', '--locked', '--target-dir', target], {}, { cwd: crate });
    copyFileSync(join(target, 'debug', program), join(folder, program));
    rmSync(target, { recursive: true });
    return join(folder, program);
  });
}

/**
 * Builds a program that crates.io has, with the versions of its authors, and without optimization: that halves the time.
 * @returns the folder of the program.
 * @throws Unavailable where Rust or a crate cannot be had, or the build takes more than an hour.
 */
export function cargoTool(name: string, version: string): string {
  const folder = join(cacheFolder, `${name}-${version}`);
  return once(folder, () => {
    const target = join(folder, 'target');
    const args = ['cargo', 'install', '--quiet', '--locked', '--debug', '--root', folder, '--target-dir', target];
    const lean = { CARGO_PROFILE_DEV_DEBUG: '0', CARGO_INCREMENTAL: '0' };
    run('nice', [...args, `${name}@${version}`], lean, { minutes: 60 });
    rmSync(target, { recursive: true });
    return join(folder, 'bin');
  });
}

/** Runs a program to its end. @returns its output. @throws Unavailable with the end of its output. */
export function run(
  program: string,
  args: readonly string[],
  env: Record<string, string> = {},
  // A cold build of the API server takes seven minutes on two cores.
  { cwd, minutes = 20 }: { cwd?: string; minutes?: number } = {},
): { stdout: string; stderr: string } {
  const { status, error, stdout, stderr } = spawnSync(program, args, {
    cwd,
    env: { ...process.env, ...env },
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    timeout: minutes * 60_000,
  });
  if (status === 0) return { stdout, stderr };
  throw new Unavailable(`${program} ${args[0]}: ${error?.message ?? `${stderr}${stdout}`.trim().slice(-1000)}`);
}

/** The result of `make`, or a skip with a message where the peer is unavailable. */
export async function orSkip<T>(context: Mocha.Context, make: () => T | Promise<T>): Promise<T> {
  try {
    return await make();
  } catch (error) {
    if (error instanceof Unavailable) skipLoudly(context, error.message);
    throw error;
  }
}

/** Skips a suite, and says so where people and CI look. */
export function skipLoudly(context: Mocha.Context, why: string): never {
  process.stderr.write(`\nSKIPPED: ${context.test?.parent?.fullTitle()}: ${why}\n`);
  return context.skip();
}

/** Makes a tool unless its stamp says that it was made; a half-made one is made anew. */
function once(folder: string, make: () => string): string {
  const stamp = join(folder, 'made');
  if (existsSync(stamp)) return readFileSync(stamp, 'utf8');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const result = make();
  writeFileSync(stamp, result);
  return result;
}

/** A folder's name for a set of versions. */
function versionsOf(requirements: readonly string[]): string {
  return createHash('sha256').update(requirements.join('\n')).digest('hex').slice(0, 12);
}
