/** Owns a copy of our Terraform modules in a folder of its own, and the runs of the real Terraform on it. */
import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { devNull, tmpdir } from 'node:os';
import { join } from 'node:path';
import { which } from '../stack/clients.ts';

const modules = join(import.meta.dirname, '..', '..', 'deploy', 'terraform');

export interface TerraformRun {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Terraform {
  /** Runs it in one of the folders under deploy/terraform. */
  run(module: string, ...args: string[]): Promise<TerraformRun>;
  /** `init` and `apply` with these variables. @returns the outputs. @throws Error with what Terraform said. */
  apply(module: string, variables: object): Promise<Record<string, unknown>>;
  /** Terraform's refusal of these variables. @throws Error where it accepts them. */
  refusal(module: string, variables: object): Promise<string>;
  remove(): void;
}

/** Skips the tests of a suite, and says so, where there is no Terraform. */
export function needTerraform(suite: Mocha.Context): void {
  if (which('terraform') !== undefined) return;
  console.warn('SKIPPED: the tests of deploy/terraform: this machine has no terraform');
  suite.skip();
}

/** @param environment leads to the provider, where a module needs one. */
export function openTerraform(environment: Readonly<Record<string, string>> = {}): Terraform {
  const folder = mkdtempSync(join(tmpdir(), 'irsa-svc-terraform-'));
  cpSync(modules, folder, { recursive: true, filter: (source) => !/\.terraform|\.tfstate|\.tfvars$/.test(source) });
  const plugins = join(folder, 'plugins');
  mkdirSync(plugins);
  const settings = {
    PATH: process.env.PATH,
    HOME: folder,
    CHECKPOINT_DISABLE: '1',
    TF_IN_AUTOMATION: '1',
    // No registry is called, whatever the caller's own settings say.
    TF_CLI_CONFIG_FILE: devNull,
    ...environment,
  };
  const run = (module: string, ...args: string[]) =>
    new Promise<TerraformRun>((resolve, reject) => {
      const child = spawn('terraform', args, {
        cwd: join(folder, module),
        env: settings,
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      let [stdout, stderr] = ['', ''];
      child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
        stdout += chunk;
      });
      child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
        stderr += chunk;
      });
      child.on('error', reject);
      child.on('close', (code) => resolve({ code: code ?? 1, stdout, stderr }));
    });
  const good = async (module: string, ...args: string[]) => {
    const { code, stdout, stderr } = await run(module, ...args);
    if (code !== 0) throw new Error(`terraform ${args.join(' ')} in ${module}:\n${stdout}${stderr}`);
    return stdout;
  };
  const prepare = async (module: string, variables: object) => {
    await good(module, 'init', '-no-color', '-input=false', `-plugin-dir=${plugins}`);
    writeFileSync(join(folder, module, 'test.auto.tfvars.json'), JSON.stringify(variables));
  };
  return {
    run,
    apply: async (module, variables) => {
      await prepare(module, variables);
      await good(module, 'apply', '-no-color', '-input=false', '-auto-approve');
      const outputs = JSON.parse(await good(module, 'output', '-json')) as Record<string, { value: unknown }>;
      return Object.fromEntries(Object.entries(outputs).map(([name, { value }]) => [name, value]));
    },
    refusal: async (module, variables) => {
      await prepare(module, variables);
      const { code, stderr } = await run(module, 'plan', '-no-color', '-input=false');
      if (code === 0) throw new Error(`${module} takes ${JSON.stringify(variables)}`);
      return stderr.replace(/[│╷╵]/g, '').replace(/\s+/g, ' ');
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
