/** Proves which certificates the sidecar trusts: those in the file, or any with IRSA_TLS_VERIFY=false. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { which } from '../stack/clients.ts';
import { makeCertificate } from '../stack/processes.ts';
import { until } from '../support/clock.ts';
import { type Pod, roundsEnded, startPod } from './support.ts';

describe('the sidecar over TLS', () => {
  const [first, second] = [makeCertificate(), makeCertificate(new Date(Date.now() - 5_000))];
  let pod: Pod;
  let trusting: Record<string, string>;

  beforeEach(async () => {
    pod = await startPod(first);
    trusting = { DOMINO_IRSA_SSL_CERT: pod.put('service.crt', first.cert) };
  });
  afterEach(() => pod.stop());

  async function errorOf(settings: Record<string, string>): Promise<{ code: string; message: string } | null> {
    const sidecar = await pod.start(settings);
    await roundsEnded(sidecar);
    return sidecar.status().last_error;
  }

  it('trusts the certificate in the file', async () => {
    assert.equal(await errorOf(trusting), null);
  });

  it('trusts a certificate that a CA in the file signed', async function () {
    if (!which('openssl')) {
      console.warn(`SKIPPED: ${this.test?.fullTitle()}: this machine has no openssl`);
      return this.skip();
    }
    const { ca, ...leaf } = signedByCa();
    pod.service.useCertificate(leaf);
    assert.equal((await errorOf(trusting))?.code, 'certificate_refused');
    // Two in one file, as while a CA is replaced.
    assert.equal(await errorOf({ DOMINO_IRSA_SSL_CERT: pod.put('ca.crt', `${second.cert}${ca}`) }), null);
    // The leaf alone is an anchor too.
    assert.equal(await errorOf({ DOMINO_IRSA_SSL_CERT: pod.put('leaf.crt', leaf.cert) }), null);
  });

  it('sends no request to an untrusted server', async () => {
    const error = await errorOf({});
    assert.equal(error?.code, 'certificate_refused');
    assert.match(error?.message ?? '', /does not trust.*SELF_SIGNED/);
    assert.equal(pod.service.asked.length, 0);
  });

  it('refuses a certificate for another name, even if a CA in the file signed it', async function () {
    if (!which('openssl')) {
      console.warn(`SKIPPED: ${this.test?.fullTitle()}: this machine has no openssl`);
      return this.skip();
    }
    const { ca, ...leaf } = signedByCa('DNS:irsa-svc.domino-field');
    pod.service.useCertificate(leaf);
    const error = await errorOf({ DOMINO_IRSA_SSL_CERT: pod.put('ca.crt', ca) });
    assert.match(error?.message ?? '', /ERR_TLS_CERT_ALTNAME_INVALID/);
  });

  it('refuses an expired certificate', async () => {
    const old = makeCertificate(new Date('2020-01-01T00:00:00Z'));
    pod.service.useCertificate(old);
    const expired = await errorOf({ DOMINO_IRSA_SSL_CERT: pod.put('old.crt', old.cert) });
    assert.match(expired?.message ?? '', /CERT_HAS_EXPIRED/);
  });

  it('accepts a rotated certificate without a restart', async () => {
    const sidecar = await pod.start(trusting);
    await sidecar.ready;
    pod.service.useCertificate(second);
    assert.equal((await sidecar.refresh()).error?.code, 'certificate_refused');
    pod.put('service.crt', second.cert);
    await pod.clock.advance(30_000);
    await until(() => sidecar.status().state === 'ready');
    assert.equal((await sidecar.refresh()).result, 'ok');
  });

  it('reports a file that it cannot use, and trusts only the system’s CAs', async () => {
    const garbage = pod.put('garbage.crt', 'not a certificate');
    const absent = join(pod.folder, 'absent.crt');
    for (const [file, says] of [
      [garbage, /no certificate in it/],
      [absent, /ENOENT/],
    ] as const) {
      const error = await errorOf({ DOMINO_IRSA_SSL_CERT: file });
      assert.equal(error?.code, 'certificate_refused');
      assert.match(error?.message ?? '', says);
    }
    const warned = pod.lines.filter(({ msg }) => msg === 'only the CAs of the system are trusted');
    assert.equal(warned.length, 2);
  });

  it('IRSA_TLS_VERIFY=false accepts any certificate and logs a warning on each call', async () => {
    const sidecar = await pod.start({ IRSA_TLS_VERIFY: 'false' });
    await sidecar.ready;
    assert.equal((await sidecar.refresh()).result, 'ok');
    const warned = pod.lines.filter(
      ({ level, msg }) => level === 'warn' && String(msg).includes('IRSA_TLS_VERIFY=false'),
    );
    assert.equal(warned.length, 2);
  });

  it('reports tls_failed for an endpoint without TLS', async () => {
    const plain = pod.tokenProxy.url.replace('http:', 'https:');
    assert.equal((await errorOf({ ...trusting, DOMINO_IRSA_ENDPOINT: `${plain}/map` }))?.code, 'tls_failed');
  });
});

/** A CA and a certificate that it signed. */
function signedByCa(names = 'IP:127.0.0.1,DNS:localhost'): { ca: string; cert: string; key: string } {
  const folder = mkdtempSync(join(tmpdir(), 'irsa-ca-'));
  const file = (name: string) => join(folder, name);
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'pipe', cwd: folder });
  try {
    const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
    openssl('req', '-x509', ...curve, '-keyout', 'ca.key', '-out', 'ca.crt', '-days', '2', '-subj', '/CN=cluster CA');
    openssl('req', '-new', ...curve, '-keyout', 'tls.key', '-out', 'tls.csr', '-subj', '/CN=irsa-svc.domino-field');
    writeFileSync(file('san.cnf'), `subjectAltName=${names}\n`);
    const signing = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2', '-extfile', 'san.cnf'];
    openssl('x509', '-req', '-in', 'tls.csr', '-out', 'tls.crt', ...signing);
    const read = (name: string) => readFileSync(file(name), 'utf8');
    return { ca: read('ca.crt'), cert: read('tls.crt'), key: read('tls.key') };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
