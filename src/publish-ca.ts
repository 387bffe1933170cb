/**
 * Owns the copy of the service's CA in the compute namespace: it reads the CA from mounted Secrets, and patches one
 * ConfigMap when that differs. Private keys are not mounted here. It is a separate program in the image, so that write
 * access to ConfigMaps gives no control over what it runs.
 *
 * It uses node:https, since `fetch` needs WebAssembly, which --jitless disables.
 */
import { readFile } from 'node:fs/promises';
import { request as requestInClear } from 'node:http';
import { request } from 'node:https';

const { CA_FILES = '', CONFIG_MAP_PATH = '', CONFIG_MAP_KEY = 'ca.crt', INTERVAL_SECONDS = '30' } = process.env;
const {
  KUBERNETES_API = 'https://kubernetes.default.svc',
  KUBERNETES_TOKEN_FILE = '/var/run/secrets/kubernetes.io/serviceaccount/token',
} = process.env;
const url = new URL(CONFIG_MAP_PATH, KUBERNETES_API);
const pauseMs = Number(INTERVAL_SECONDS) * 1000;
if (!(pauseMs > 0)) {
  process.stderr.write(`INTERVAL_SECONDS: expected a number of seconds, got ${INTERVAL_SECONDS}\n`);
  process.exit(1);
}

interface ConfigMap {
  data?: Record<string, string>;
}

const log = (level: 'info' | 'warn', msg: string, more: object = {}) =>
  process.stdout.write(`${JSON.stringify({ level, time: new Date().toISOString(), msg, ...more })}\n`);

/** Every certificate in these files, each once, the issuer's own first. While a CA is renewed, there are two. */
async function certificates(): Promise<string> {
  const texts = await Promise.all(CA_FILES.split(',').map((file) => readFile(file, 'utf8')));
  const found = texts.join('\n').match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? [];
  if (found.length === 0) throw new Error(`no certificate in ${CA_FILES}`);
  return `${[...new Set(found)].join('\n')}\n`;
}

async function call(method: 'GET' | 'PATCH', body?: ConfigMap): Promise<ConfigMap> {
  // Kubernetes replaces the token every hour.
  const token = (await readFile(KUBERNETES_TOKEN_FILE, 'utf8')).trim();
  const headers = {
    Accept: 'application/json',
    Authorization: `Bearer ${token}`,
    ...(body ? { 'Content-Type': 'application/merge-patch+json' } : {}),
  };
  const signal = AbortSignal.timeout(10_000);
  return await new Promise((resolve, reject) => {
    const send = url.protocol === 'http:' ? requestInClear : request;
    const outgoing = send(url, { method, headers, signal, agent: false }, (answer) => {
      let text = '';
      answer.setEncoding('utf8');
      answer.on('data', (part) => {
        text += part;
      });
      answer.on('error', reject);
      answer.on('end', () => {
        if (answer.statusCode === 200) resolve(JSON.parse(text) as ConfigMap);
        else reject(new Error(`${method} ${url.pathname}: ${answer.statusCode} ${text.slice(0, 300)}`));
      });
    });
    outgoing.on('error', reject);
    outgoing.end(body ? JSON.stringify(body) : undefined);
  });
}

/** Only logs a failure, since the next round tries again: the files or the API server may be missing for now. */
async function publish(): Promise<void> {
  try {
    const wanted = await certificates();
    const { data = {} } = await call('GET');
    if (data[CONFIG_MAP_KEY] === wanted) return;
    await call('PATCH', { data: { [CONFIG_MAP_KEY]: wanted } });
    log('info', 'CA published', { configMap: CONFIG_MAP_PATH });
  } catch (error) {
    log('warn', 'the CA could not be published; trying again', { err: String(error) });
  }
}

for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(0));
for (;;) {
  await publish();
  await new Promise((resolve) => setTimeout(resolve, pauseMs));
}
