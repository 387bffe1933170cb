/** Owns the check of the alerts with promtool: their syntax, and their unit tests. Without promtool it says so. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { root, run, toolPath, toolsFolder } from './tools.ts';

const version = 'v0.305.0'; // Prometheus 3.5
const monitoring = join(root, 'deploy', 'helm', 'irsa', 'files', 'monitoring');
const say = (line: string) => process.stdout.write(`${line}\n`);

const unbuilt = process.env.IRSA_BUILD_PROMTOOL === '1' ? build() : undefined;
const promtool = toolPath('promtool');
if (promtool) process.exitCode = check(promtool) ? 0 : 1;
else {
  say('SKIPPED: the alerts and their unit tests: promtool is not here');
  say(
    unbuilt ??
      'To have it: put it on PATH, or IRSA_BUILD_PROMTOOL=1 .ci/alerts, which builds it with Go in some minutes',
  );
}

/** promtool reads the rules alone, without the Kubernetes object around them. */
function check(program: string): boolean {
  const folder = mkdtempSync(join(tmpdir(), 'irsa-alerts-'));
  try {
    const { spec } = parse(readFileSync(join(monitoring, 'alerts.yaml'), 'utf8')) as { spec: unknown };
    const [rules, tests] = [join(folder, 'rules.yaml'), join(folder, 'alerts.test.yaml')];
    writeFileSync(rules, stringify(spec));
    copyFileSync(join(monitoring, 'alerts.test.yaml'), tests);
    return [
      ['check', 'rules', rules],
      ['test', 'rules', tests],
    ].every((args) => {
      const { status, stdout, stderr } = run(program, args);
      say(`promtool ${args.slice(0, 2).join(' ')}: ${status === 0 ? 'ok' : `FAILED\n${stdout}${stderr}`}`);
      return status === 0;
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** In an empty module: `go install` refuses Prometheus for its replace directives. @returns why there is none. */
function build(): string | undefined {
  const bin = join(toolsFolder, 'bin');
  const stamp = join(bin, `promtool.${version}`);
  if (existsSync(join(bin, 'promtool')) && existsSync(stamp)) return undefined;
  mkdirSync(bin, { recursive: true });
  const folder = mkdtempSync(join(tmpdir(), 'irsa-promtool-'));
  const main = 'github.com/prometheus/prometheus/cmd/promtool';
  try {
    for (const args of [
      ['mod', 'init', 'irsa-promtool'],
      ['get', `${main}@${version}`],
      ['build', '-ldflags=-s -w', '-o', join(bin, 'promtool'), main],
    ]) {
      // A thousand packages on a small machine.
      const { status, error, stderr } = spawnSync('go', args, { cwd: folder, encoding: 'utf8', timeout: 1_800_000 });
      if (status !== 0) return error ? `Go cannot build it: ${error.message}` : `go ${args[0]}: ${stderr}`;
    }
    writeFileSync(stamp, '');
    return undefined;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
