/** Owns the libraries of Python that are tried with the sidecar's profiles in an environment of their own. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Library } from '../../tools/tools.ts';

const page = readFileSync(join(import.meta.dirname, '..', '..', '..', 'docs', 'tools.md'), 'utf8');

/**
 * The code of a recipe of docs/tools.md.
 * @param instead what the test has in place of the recipe's examples.
 */
export function recipe(title: string, instead: Readonly<Record<string, string>> = {}): string {
  const section = page.split(/^##+ /m).find((part) => part.startsWith(`${title}\n`));
  const code = /^```\w+\n(.*?)^```$/ms.exec(section ?? '')?.[1] ?? /(?:^ {4}.*\n)+/m.exec(section ?? '')?.[0];
  if (code === undefined) throw new Error(`docs/tools.md has no recipe "${title}"`);
  return Object.entries(instead).reduce((text, [example, value]) => {
    if (!text.includes(example)) throw new Error(`the recipe "${title}" has no ${example}`);
    return text.replaceAll(example, value);
  }, code);
}

export const awswrangler: Library = {
  name: 'awswrangler',
  imports: ['awswrangler'],
  script: `import awswrangler as wr, pandas as pd
wr.s3.to_parquet(pd.DataFrame({'name': ['hello'], 'count': [1]}), 's3://data/wrangler.parquet')
print(wr.s3.read_parquet('s3://data/wrangler.parquet').to_csv())`,
  refused: /CredentialRetrievalError: Error when retrieving credentials from custom-process/,
};

export const minio: Library = {
  name: 'minio-py',
  imports: ['minio', 'boto3'],
  script: `${recipe('minio-py', {
    '"s3.us-west-2.amazonaws.com"':
      "__import__('os').environ['AWS_ENDPOINT_URL_S3'].removeprefix('http://'), secure=False",
    'acme-list-bucket-role': 'acme-read',
  })}
asked = []
retrieve = Profile.retrieve
Profile.retrieve = lambda self: asked.append(self) or retrieve(self)
for _ in range(2):
    print(client.get_object(bucket_name='data', object_name='hello.csv').read())
# One process goes over an expiry by this: boto3 renews, and it is asked each time.
assert len(asked) == 2, asked`,
  refused: /CredentialRetrievalError: Error when retrieving credentials from custom-process/,
};

export const s3torchconnector: Library = {
  name: 's3torchconnector',
  imports: ['s3torchconnector'],
  script: `import os
from s3torchconnector import S3ClientConfig, S3MapDataset
dataset = S3MapDataset.from_objects('s3://data/hello.csv', region='us-west-2',
    endpoint=os.environ['AWS_ENDPOINT_URL_S3'], s3client_config=S3ClientConfig(force_path_style=True))
print(dataset[0].read().decode())`,
  refused: /No signing credentials available/,
  silent: true,
};
