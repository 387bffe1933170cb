/** Owns S3 in the tests of tools: moto keeps the objects, and the AWS stand-in decides which sessions may read them. */
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { AwsStandIn } from '../stack/aws.ts';
import { runProgram } from '../stack/clients.ts';
import { startChild } from '../stack/process.ts';
import { startServer } from '../stack/server.ts';
import { until } from '../support/clock.ts';
import { freePort } from '../support/free-port.ts';

export interface S3 {
  readonly url: string;
  /** The requests by method and path, each with its role's session; without one where the session is not valid. */
  readonly asked: { method: string; path: string; arn: string | undefined }[];
  close(): Promise<void>;
}

export async function hasMoto(python = 'python3'): Promise<boolean> {
  return (await runProgram(python, ['-c', 'import moto.server, flask'], {})).code === 0;
}

/** Starts moto with a bucket `data`, and in front of it a server that admits only valid sessions of `role`. */
export async function startS3(aws: AwsStandIn, role: string, python = 'python3'): Promise<S3> {
  const port = await freePort();
  const moto = startChild(python, ['-m', 'moto.server', '-H', '127.0.0.1', '-p', String(port)], { environment: {} });
  const behind = `http://127.0.0.1:${port}`;
  await until(
    () =>
      fetch(behind).then(
        () => true,
        () => false,
      ),
    60_000,
  );
  await fetch(`${behind}/data`, { method: 'PUT', headers: { host: `127.0.0.1:${port}` } });
  await fetch(`${behind}/data/hello.csv`, { method: 'PUT', body: 'name,count\nhello,1\n' });
  const asked: S3['asked'] = [];
  const server = await startServer(async (request, response) => {
    const { method = 'GET', url = '/', headers } = request;
    const body = await bytesOf(request);
    const arn = await identityOf(aws.url, headers);
    asked.push({ method, path: url, arn });
    if (!arn?.includes(`:assumed-role/${role}/`)) {
      response.writeHead(403, { 'content-type': 'application/xml' });
      return void response.end(method === 'HEAD' ? undefined : `<Error><Code>AccessDenied</Code></Error>`);
    }
    const answer = await fetch(`${behind}${url}`, {
      method,
      headers: forwarded(headers),
      ...(body.length > 0 ? { body: new Uint8Array(body) } : {}),
    });
    const answered = [...answer.headers].filter(
      ([name]) => !/^(connection|content-length|transfer-encoding|date)$/.test(name),
    );
    const bytes = asAws(Buffer.from(await answer.arrayBuffer()));
    const length = method === 'HEAD' ? (answer.headers.get('content-length') ?? '0') : String(bytes.length);
    response.writeHead(answer.status, { ...Object.fromEntries(answered), 'content-length': length }).end(bytes);
  });
  return { url: server.url, asked, close: () => Promise.all([server.close(), moto.stop()]).then(() => undefined) };
}

/** moto gives the answer's root another name than AWS, and the AWS SDK for C++ checks it. */
function asAws(body: Buffer): Buffer {
  const name = 'CompleteMultipartUploadRes';
  if (!body.subarray(0, 200).includes(name)) return body;
  return Buffer.from(body.toString('utf8').replaceAll(`${name}ponse`, `${name}ult`));
}

async function bytesOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** The stand-in checks key, session token and expiry, not the signature, so these headers fit another call. */
async function identityOf(url: string, headers: IncomingHttpHeaders): Promise<string | undefined> {
  const { authorization } = headers;
  if (authorization === undefined) return undefined;
  const token = headers['x-amz-security-token'];
  const answer = await fetch(url, {
    method: 'POST',
    headers: {
      authorization,
      'content-type': 'application/x-www-form-urlencoded',
      ...(typeof token === 'string' ? { 'x-amz-security-token': token } : {}),
    },
    body: 'Action=GetCallerIdentity&Version=2011-06-15',
  });
  return /<Arn>([^<]+)</.exec(await answer.text())?.[1];
}

function forwarded(headers: IncomingHttpHeaders): Record<string, string> {
  const kept = Object.entries(headers).filter(
    ([name, value]) =>
      typeof value === 'string' && !/^(host|connection|content-length|expect|transfer-encoding)$/.test(name),
  );
  return Object.fromEntries(kept as [string, string][]);
}
