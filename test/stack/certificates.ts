/** Owns certificates for the stand-ins and the service under test: builds them byte by byte, since Node cannot make any. */
import { createHash, generateKeyPairSync, randomUUID, sign } from 'node:crypto';

/**
 * A self-signed certificate for 127.0.0.1, localhost and one more name, valid for two days, with its key; both in PEM. It is
 * built as DER here (RFC 5280 section 4.1), since Node makes keys and signatures but no certificates.
 */
export function makeCertificate(now = new Date(), host = 'stand-in.example'): { cert: string; key: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const subjectKey = publicKey.export({ type: 'spki', format: 'der' });
  const algorithm = der(0x30, der(0x06, Buffer.from('2a8648ce3d040302', 'hex')));
  // A unique name: if two trusted certificates have the same name, OpenSSL may try the wrong one.
  const commonName = Buffer.from(`irsa-svc stand-in ${randomUUID()}`);
  const name = der(0x30, der(0x31, der(0x30, oid('550403'), der(0x0c, commonName))));
  const time = (at: number) => der(0x17, Buffer.from(new Date(at).toISOString().replace(/^..|[-:T]|\.\d+/g, '')));
  const validity = der(0x30, time(now.getTime() - 3_600_000), time(now.getTime() + 2 * 86_400_000));
  const hosts = ['localhost', host].map((each) => der(0x82, Buffer.from(each)));
  const names = der(0x30, ...hosts, der(0x87, Buffer.from([127, 0, 0, 1])));
  const subjectNames = der(0x30, oid('551d11'), der(0x04, names));
  const basics = der(0x30, oid('551d13'), bool(true), der(0x04, der(0x30, bool(true))));
  const usage = der(0x30, oid('551d0f'), bool(true), der(0x04, der(0x03, Buffer.from([2, 0x84]))));
  const subjectKeyId = der(0x04, createHash('sha1').update(subjectKey).digest());
  const extensions = [basics, usage, der(0x30, oid('551d0e'), der(0x04, subjectKeyId)), subjectNames];
  const version = der(0xa0, der(0x02, Buffer.from([2])));
  const serial = der(0x02, Buffer.from(String(now.getTime())));
  const body = der(
    0x30,
    version,
    serial,
    algorithm,
    name,
    validity,
    name,
    subjectKey,
    der(0xa3, der(0x30, ...extensions)),
  );
  const signature = der(0x03, Buffer.from([0]), sign('sha256', body, privateKey));
  const text = der(0x30, body, algorithm, signature)
    .toString('base64')
    .replace(/.{64}(?!$)/g, '$&\n');
  const cert = `-----BEGIN CERTIFICATE-----\n${text}\n-----END CERTIFICATE-----\n`;
  return { cert, key: String(privateKey.export({ type: 'pkcs8', format: 'pem' })) };
}

/** One DER value: tag, length, contents (ITU-T X.690 section 8.1). */
function der(tag: number, ...contents: Buffer[]): Buffer {
  const content = Buffer.concat(contents);
  const { length } = content;
  const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 255];
  return Buffer.concat([Buffer.from([tag, ...size]), content]);
}

const oid = (hex: string) => der(0x06, Buffer.from(hex, 'hex'));
const bool = (value: boolean) => der(0x01, Buffer.from([value ? 255 : 0]));
