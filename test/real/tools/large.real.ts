/**
 * Proves the sidecar's profiles with tools that take minutes to fetch or to build, or gigabytes: CI leaves them out
 * (`npm run test:real:ci`).
 */
import { join } from 'node:path';
import { runProgram } from '../../stack/clients.ts';
import { describeTools, type Tool } from '../../tools/matrix.ts';
import { pythonTools } from '../../tools/tools.ts';
import { cargoProgram, mavenJars } from '../tools.ts';
import { moto, pythonWith, whyNot } from './fetched.ts';
import { recipe, s3torchconnector } from './libraries.ts';

const rust = () => cargoProgram('aws-sdk-rust', join(import.meta.dirname, 'rust'), 'whoami');
const hadoopFolder = join(import.meta.dirname, 'hadoop');
const hadoop = () => mavenJars('hadoop-s3a', join(hadoopFolder, 'pom.xml'));

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
      const [, name, provider] = /^spark\.hadoop\.(\S+)\s+(\S+)$/.exec(recipe('Hadoop S3A and Spark').trim()) ?? [];
      const settings = [
        `${name}=${provider}`,
        `fs.s3a.endpoint=${environment.AWS_ENDPOINT_URL_S3}`,
        'fs.s3a.endpoint.region=us-west-2',
        'fs.s3a.path.style.access=true',
      ];
      const classes = join(hadoop(), '*');
      return runProgram(
        'java',
        ['-cp', classes, join(hadoopFolder, 'S3a.java'), ...settings, 's3a://data/hello.csv'],
        environment,
      );
    },
    expected: /hello,1/,
    refused: /Failed to refresh process-based credentials/,
  },
];

/** On Linux, torch comes with the libraries of CUDA. */
const torch = ['torch==2.15.0', 'numpy==2.4.6', 's3torchconnector==1.5.0'];

describeTools(
  'large tools of a data scientist, fetched',
  [...programs, ...pythonTools(pythonWith('torch', torch), [s3torchconnector])],
  moto,
);
