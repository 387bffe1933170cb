/**
 * Proves the sidecar's profiles with tools that take minutes to fetch or to build, or gigabytes: CI leaves them out
 * (`npm run test:real:ci`).
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { runProgram } from '../../stack/clients.ts';
import { describeTools, type Tool } from '../../tools/matrix.ts';
import { pythonTools } from '../../tools/tools.ts';
import { cargoProgram, mavenJars, pythonTool } from '../tools.ts';
import { moto, pythonWith, whyNot } from './fetched.ts';
import { recipe, s3torchconnector } from './libraries.ts';

const rust = () => cargoProgram('aws-sdk-rust', join(import.meta.dirname, 'rust'), 'whoami');
const hadoopFolder = join(import.meta.dirname, 'hadoop');
const hadoop = () => mavenJars('hadoop-s3a', join(hadoopFolder, 'pom.xml'));

const spark = () => join(pythonTool('spark', ['pyspark==4.3.0']), 'python');

/** The recipe of docs/tools.md, and where the test's S3 is. */
function s3a(environment: Record<string, string>): Record<string, string | undefined> {
  const [, name, provider] = /^spark\.hadoop\.(\S+)\s+(\S+)$/.exec(recipe('Hadoop S3A and Spark').trim()) ?? [];
  return {
    [`${name}`]: provider,
    'fs.s3a.endpoint': environment.AWS_ENDPOINT_URL_S3,
    'fs.s3a.endpoint.region': 'us-west-2',
    'fs.s3a.path.style.access': 'true',
  };
}

const sparkScript = `import json, os
from pyspark.sql import SparkSession
builder = SparkSession.builder.master('local[1]').config('spark.ui.enabled', 'false')
for name, value in json.loads(os.environ['SPARK_SETTINGS']).items():
    builder = builder.config(name, value)
print([f'{row.name},{row["count"]}' for row in builder.getOrCreate().read.csv('s3a://data/hello.csv', header=True).collect()])`;

const refused =
  /No AWS Credentials provided by ProfileCredentialsProvider.*Failed to refresh process-based credentials/s;

const programs: readonly Tool[] = [
  {
    name: 'the AWS SDK for Rust',
    missing: whyNot(rust),
    run: (environment) => runProgram(rust(), [], environment),
    expected: /assumed-role\/acme-read\/alice-/,
    refused: /Error retrieving credentials: external process exited with code/,
  },
  {
    name: "Hadoop's S3A",
    missing: whyNot(hadoop),
    run: (environment) => {
      const settings = Object.entries(s3a(environment)).map(([name, value]) => `${name}=${value}`);
      const classes = join(hadoop(), '*');
      return runProgram(
        'java',
        ['-cp', classes, join(hadoopFolder, 'S3a.java'), ...settings, 's3a://data/hello.csv'],
        environment,
      );
    },
    expected: /hello,1/,
    refused,
  },
  {
    name: 'Spark',
    missing: whyNot(() => hadoop() && spark()),
    run: (environment) => {
      // Spark has these itself.
      const jars = readdirSync(hadoop()).filter((name) => !/^(hadoop-client|slf4j|commons-lang3)-|^made$/.test(name));
      const settings = {
        'spark.jars': jars.map((name) => join(hadoop(), name)).join(','),
        ...Object.fromEntries(Object.entries(s3a(environment)).map(([name, value]) => [`spark.hadoop.${name}`, value])),
      };
      return runProgram(spark(), ['-c', sparkScript], {
        ...environment,
        SPARK_LOCAL_IP: '127.0.0.1',
        SPARK_SETTINGS: JSON.stringify(settings),
      });
    },
    expected: /hello,1/,
    refused,
  },
];

/** On Linux, torch comes with the libraries of CUDA. */
const torch = ['torch==2.15.0', 'numpy==2.4.6', 's3torchconnector==1.5.0'];

describeTools(
  'large tools of a data scientist, fetched',
  [...programs, ...pythonTools(pythonWith('torch', torch), [s3torchconnector])],
  moto,
);
