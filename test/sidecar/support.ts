/** Owns the sidecar's surroundings in tests: a pod's files, a token proxy, and a service with scripted answers. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createPlain, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTls } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLog, type Log } from '../../src/lib/log.ts';
import { loadSidecarConfig } from '../../src/sidecar/config.ts';
import type { SidecarOptions } from '../../src/sidecar/keeper.ts';
import { type Sidecar, startSidecar } from '../../src/sidecar/sidecar.ts';
import type { RefreshView } from '../../src/sidecar/status.ts';
import { readBody } from '../stack/server.ts';
import { FakeClock, until } from '../support/clock.ts';

export const runId = '646d27b817c28b5ea4b5b0c1';
export const account = `run-${runId}`;

/** The pod's web identity token. One place for all tests, since each config text names it. */
export const tokenFile = join(mkdtempSync(join(tmpdir(), 'irsa-sidecar-token-')), 'token');
process.once('exit', () => rmSync(join(tokenFile, '..'), { recursive: true, force: true }));

/** A config text with a profile for each name, in the form of the contract. */
export function configText(names: readonly string[], written = '2026-11-21T12:00:00.000Z', refused = ''): string {
  const blocks = names.map((name) =>
    [
      `[profile ${name}]`,
      `source_profile = src_${name}`,
      `role_arn = arn:aws:iam::222222222222:role/${name}`,
      `role_session_name = alice-${runId}`,
      'region = us-west-2',
      `[profile src_${name}]`,
      `web_identity_token_file = ${tokenFile}`,
      `role_arn = arn:aws:iam::111111111111:role/${name}`,
      `role_session_name = alice-${runId}`,
      'region = us-west-2',
    ].join('\n'),
  );
  const first = `# irsa-svc: roles of alice for run ${runId}, written ${written}`;
  return `${[first, ...blocks, ...(refused ? [refused] : [])].join('\n')}\n`;
}

/** STS's answer, as far as the sidecar reads it. */
export const sessionXml = `<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIAEXAMPLE</AccessKeyId>
<SecretAccessKey>secret</SecretAccessKey><SessionToken>session-token</SessionToken></Credentials></AssumeRoleResult></AssumeRoleResponse>`;

export interface Asked {
  method: string;
  path: string;
  authorization: string | undefined;
  body: string;
}

/** An answer, or what happens to the connection instead. */
export type Reply =
  | { status?: number; headers?: Record<string, string>; text?: string }
  | 'cut'
  | 'cut in the middle'
  | 'hang';

export interface Scripted {
  readonly url: string;
  readonly asked: Asked[];
  /** The next answers, first to last; when none is left, `always`. */
  readonly next: Reply[];
  always: Reply;
  /** Sets the certificate of later connections. */
  useCertificate(pair: { cert: string; key: string }): void;
  close(): Promise<void>;
}

/** @param pair for HTTPS. */
export async function startScripted(always: Reply, pair?: { cert: string; key: string }): Promise<Scripted> {
  const asked: Asked[] = [];
  const next: Reply[] = [];
  const handle = async (request: IncomingMessage, response: ServerResponse) => {
    const { method = '', url: path = '', headers } = request;
    asked.push({ method, path, authorization: headers.authorization, body: await readBody(request) });
    const reply = next.shift() ?? scripted.always;
    if (reply === 'hang') return;
    if (reply === 'cut') return void request.socket.destroy();
    if (reply === 'cut in the middle') {
      response.writeHead(200, { 'content-length': '1000' });
      response.write('# irsa-svc: roles of', () => request.socket.destroy());
      return;
    }
    response.writeHead(reply.status ?? 200, { 'content-type': 'text/plain', ...reply.headers }).end(reply.text);
  };
  const tls = pair && createTls(pair, handle);
  const server: Server = tls ?? createPlain(handle);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const scripted: Scripted = {
    url: `http${pair ? 's' : ''}://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    next,
    always,
    useCertificate: (other) => tls?.setSecureContext(other),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  return scripted;
}

/** The service's refusal, in the form of the contract. */
export function problem(status: number, code: string, headers: Record<string, string> = {}): Reply {
  const body = { type: `urn:irsa-svc:problem:${code}`, title: code, status, code, detail: `It says ${code}.` };
  return {
    status,
    headers: { 'content-type': 'application/problem+json', ...headers },
    text: JSON.stringify({ ...body, request_id: 'req-1' }),
  };
}

export interface Pod {
  readonly folder: string;
  readonly clock: FakeClock;
  readonly service: Scripted;
  readonly tokenProxy: Scripted;
  /** Every line that was logged, parsed. */
  readonly lines: Record<string, unknown>[];
  readonly log: Log;
  /** The settings in the form of the environment. */
  readonly environment: Record<string, string>;
  readonly configFile: string;
  /** The config file's text; undefined when there is none. */
  config(): string | undefined;
  put(name: string, text: string): string;
  start(settings?: Record<string, string>, options?: Partial<SidecarOptions>): Promise<Sidecar>;
  stop(): Promise<void>;
}

/** A pod with its labels and web identity token, and everything that its sidecar calls except AWS; proofs are off. */
export async function startPod(pair?: { cert: string; key: string }, clock: FakeClock = new FakeClock()): Promise<Pod> {
  const folder = mkdtempSync(join(tmpdir(), 'irsa-sidecar-'));
  const put = (name: string, text: string) => {
    const path = name === 'token' ? tokenFile : join(folder, name);
    writeFileSync(path, text);
    return path;
  };
  const service = await startScripted({ text: configText(['acme-read']) }, pair);
  const tokenProxy = await startScripted({ text: 'header.payload.signature\n' });
  const lines: Record<string, unknown>[] = [];
  const sidecars: Sidecar[] = [];
  const configFile = join(folder, 'aws', 'config');
  const log = createLog('debug', { write: (line: string) => void lines.push(JSON.parse(line)) });
  const environment: Record<string, string> = {
    POD_INFO_PATH: put('labels', `dominodatalab.com/execution-id="${runId}"\n`),
    DOMINO_API_PROXY: tokenProxy.url,
    DOMINO_IRSA_ENDPOINT: `${service.url}/map_iam_roles_to_pod_sa`,
    AWS_WEB_IDENTITY_TOKEN_FILE: put('token', 'web.identity.token'),
    AWS_CONFIG_FILE: configFile,
    AWS_REGION: 'us-west-2',
    IRSA_SIDECAR_PORT: '0',
    IRSA_PROVE: 'false',
  };
  return {
    folder,
    clock,
    service,
    tokenProxy,
    lines,
    log,
    environment,
    configFile,
    config: () => {
      try {
        return readFileSync(configFile, 'utf8');
      } catch {
        return undefined;
      }
    },
    put,
    start: async (settings = {}, options = {}) => {
      const config = loadSidecarConfig({ ...environment, ...settings });
      const sidecar = await startSidecar({ config, clock, log, random: () => 0.5, ...options });
      sidecars.push(sidecar);
      return sidecar;
    },
    stop: async () => {
      await Promise.all(sidecars.map((sidecar) => sidecar.stop()));
      await Promise.all([service.close(), tokenProxy.close()]);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Waits until a round of the sidecar has ended, and no other is under way. */
export async function roundsEnded(sidecar: Sidecar): Promise<void> {
  await until(() => sidecar.status().last_round !== null && !sidecar.status().refreshing);
}

export interface HttpAnswer {
  status: number;
  headers: Headers;
  text: string;
  body: Record<string, unknown>;
}

export async function call(sidecar: Sidecar, path: string, method = 'GET'): Promise<HttpAnswer> {
  const response = await fetch(`${sidecar.url}${path}`, { method });
  const text = await response.text();
  return { status: response.status, headers: response.headers, text, body: JSON.parse(text) };
}

/** The changes of a refresh, without its times. */
export function changesOf({ config, added, removed, changed, kept }: RefreshView) {
  return { config, added, removed, changed, kept };
}
