/** Owns the tools that are tested with the sidecar's profiles, each as a user would use it. */
import { readNotebook } from '../notebooks/notebook.ts';
import { hasAws, hasBoto3, runAws, runBoto3, runNode, runProgram } from '../stack/clients.ts';
import { sentence, type Tool } from './matrix.ts';

const always = async () => undefined;

const javaScript = (options: string) => (environment: Record<string, string>) =>
  runNode(
    `import { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
     console.log((await new STSClient(${options}).send(new GetCallerIdentityCommand({}))).Arn);`,
    environment,
  );

export const cheapTools: readonly Tool[] = [
  {
    name: 'boto3',
    missing: async () => ((await hasBoto3()) ? undefined : 'python3 with boto3'),
    run: (environment) =>
      runBoto3(
        "import boto3; print(boto3.client('s3').get_object(Bucket='data', Key='hello.csv')['Body'].read())",
        environment,
      ),
    expected: /hello,1/,
    refused: /CredentialRetrievalError: Error when retrieving credentials from custom-process/,
  },
  {
    name: 'the AWS CLI',
    missing: async () => ((await hasAws()) ? undefined : 'AWS CLI'),
    run: (environment) => runAws(['s3', 'cp', 's3://data/hello.csv', '-'], environment),
    expected: /hello,1/,
    refused: /Error when retrieving credentials from custom-process/,
  },
  {
    name: 'the AWS SDK for JavaScript',
    missing: always,
    run: javaScript('{}'),
    expected: /assumed-role\/acme-read\/alice-/,
    refused: /CredentialsProviderError: Could not load credentials from any providers/,
    silent: true,
    louder: { run: javaScript('{ logger: console }'), shows: sentence },
  },
];

/** A cell of the notebook, unchanged. */
function notebookCell(notebook: string, wanted: string): string {
  const cell = readNotebook(notebook).cells.find(({ id }) => id === wanted);
  if (!cell) throw new Error(`${notebook} has no cell ${wanted}`);
  return cell.source.join('');
}

export interface Library {
  readonly name: string;
  readonly imports: readonly string[];
  readonly script: string;
  readonly refused: RegExp;
  /** The AWS SDK for C++ does not show what the script prints. */
  readonly silent?: boolean;
  /** What it shows with its environment variables for logging. */
  readonly louder?: { readonly environment: Readonly<Record<string, string>>; readonly shows: RegExp };
}

/** Python libraries, in an interpreter that has them: `import` names, and a script that prints the row of hello.csv. */
const libraries: readonly Library[] = [
  {
    name: 'pandas, CSV',
    imports: ['pandas', 's3fs'],
    script: "import pandas as pd; print(pd.read_csv('s3://data/hello.csv').to_csv())",
    refused: /CredentialRetrievalError|Forbidden/,
  },
  {
    name: 's3fs',
    imports: ['s3fs'],
    script: "import s3fs; print(s3fs.S3FileSystem().cat('data/hello.csv').decode())",
    refused: /CredentialRetrievalError|Forbidden/,
  },
  {
    name: 'pandas, parquet',
    imports: ['pandas', 'pyarrow'],
    script: `import pandas as pd
pd.DataFrame({'name': ['hello'], 'count': [1]}).to_parquet('s3://data/p.parquet')
print(pd.read_parquet('s3://data/p.parquet').to_csv())`,
    refused: /ACCESS_DENIED|Forbidden|CredentialRetrievalError/,
    silent: true,
  },
  {
    name: 'pyarrow',
    imports: ['pyarrow'],
    script: `import os, pyarrow as pa, pyarrow.fs as fs, pyarrow.parquet as pq
s3 = fs.S3FileSystem(endpoint_override=os.environ['AWS_ENDPOINT_URL_S3'])
pq.write_table(pa.table({'name': ['hello'], 'count': [1]}), 'data/a.parquet', filesystem=s3)
print([','.join(str(v) for v in row.values()) for row in pq.read_table('data/a.parquet', filesystem=s3).to_pylist()])`,
    refused: /ACCESS_DENIED/,
    silent: true,
    louder: {
      environment: { ARROW_S3_LOG_LEVEL: 'ERROR' },
      shows: /Failed to source credentials from running process credentials provider with command: \S+ \S+ acme-read/,
    },
  },
  {
    name: 'dask',
    imports: ['dask.dataframe', 'pyarrow'],
    script: `import dask.dataframe as dd, pandas as pd
dd.from_pandas(pd.DataFrame({'name': ['hello'], 'count': [1]}), npartitions=1).to_parquet('s3://data/dask')
print(dd.read_parquet('s3://data/dask').compute().to_csv())`,
    refused: /ACCESS_DENIED|Forbidden|CredentialRetrievalError/,
  },
  {
    name: 'smart_open',
    imports: ['smart_open', 'boto3'],
    script: "import smart_open; print(smart_open.open('s3://data/hello.csv').read())",
    refused: /CredentialRetrievalError/,
  },
  {
    name: 'deltalake',
    imports: ['deltalake', 'boto3', 'pyarrow'],
    script: `import boto3, os, pyarrow as pa
from deltalake import DeltaTable, write_deltalake
keys = boto3.Session(profile_name=os.environ['AWS_PROFILE']).get_credentials().get_frozen_credentials()
options = {"AWS_ACCESS_KEY_ID": keys.access_key, "AWS_SECRET_ACCESS_KEY": keys.secret_key,
           "AWS_SESSION_TOKEN": keys.token, "AWS_REGION": "us-west-2"}
options |= {'AWS_ENDPOINT_URL': os.environ['AWS_ENDPOINT_URL_S3'], 'AWS_ALLOW_HTTP': 'true'}
write_deltalake('s3://data/delta', pa.table({'name': ['hello'], 'count': [1]}), mode='overwrite', storage_options=options)
print(DeltaTable('s3://data/delta', storage_options=options).to_pandas().to_csv())`,
    refused: /CredentialRetrievalError/,
  },
  {
    name: 'polars',
    imports: ['polars'],
    script: `import os, polars as pl
options = {'aws_endpoint_url': os.environ['AWS_ENDPOINT_URL_S3'], 'aws_allow_http': 'true', 'aws_region': 'us-west-2'}
provider = pl.CredentialProviderAWS(profile_name=os.environ['AWS_PROFILE'])
print(pl.scan_csv('s3://data/hello.csv', storage_options=options, credential_provider=provider).collect().write_csv())`,
    refused: /custom-process|AccessDenied|403/,
  },
  {
    name: 'notebook 3',
    imports: ['pandas', 'pyarrow', 'duckdb'],
    script: `import os
profiles = ['acme-read']
os.environ['TRY_BUCKET'] = 'data'
${notebookCell('3-try', 'parquet')}`,
    refused: /ACCESS_DENIED|Forbidden|CredentialRetrievalError/,
    silent: true,
  },
  {
    name: 'DuckDB',
    imports: ['duckdb', 'duckdb_extension_httpfs', 'duckdb_extension_aws'],
    script: `import os, duckdb
from duckdb_extensions import import_extension
for extension in ['httpfs', 'aws']:
    import_extension(extension)
db = duckdb.connect()
db.load_extension('httpfs'); db.load_extension('aws')
host = os.environ['AWS_ENDPOINT_URL_S3'].removeprefix('http://')
db.execute(f"CREATE SECRET s3 (TYPE s3, PROVIDER credential_chain, CHAIN 'process;config', PROFILE 'acme-read', ENDPOINT '{host}', URL_STYLE 'path', USE_SSL false)")
print(db.execute("SELECT concat_ws(',', name, count) FROM read_csv('s3://data/hello.csv')").fetchall())`,
    refused: /Secret Validation Failure|403|Forbidden/,
    silent: true,
  },
];

/** @param python the interpreter; where there is none with the libraries, the reason. */
export function pythonTools(python: () => { program: string } | { why: string }, wanted = libraries): Tool[] {
  return wanted.map(({ name, imports, script, refused, silent, louder }) => {
    const run = async (environment: Record<string, string>) => {
      const found = python();
      return await runProgram('program' in found ? found.program : 'python3', ['-c', script], environment);
    };
    return {
      name,
      ...(silent ? { silent } : {}),
      ...(louder ? { louder: { shows: louder.shows, run: (given) => run({ ...given, ...louder.environment }) } } : {}),
      refused,
      expected: /hello,1/,
      missing: async () => {
        const found = python();
        if ('why' in found) return found.why;
        const { code } = await runProgram(found.program, ['-c', `import ${imports.join(', ')}`], {});
        return code === 0 ? undefined : `Python with ${imports.join(' and ')}`;
      },
      run,
    };
  });
}
