/** Owns the reading of Secrets in Kubernetes' protobuf form, the only one in which helm sends its releases. */

type Fields = Map<number, (Buffer | number)[]>;

/** After these bytes comes `runtime.Unknown`, whose field 2 is the object. */
const magic = Buffer.from('k8s\0');

/**
 * A Secret as JSON.
 * @see https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding
 * @see k8s.io/api/core/v1/generated.proto, k8s.io/apimachinery/pkg/apis/meta/v1/generated.proto, for the numbers
 */
export function secretFrom(body: Buffer) {
  if (!body.subarray(0, 4).equals(magic)) throw new Error('not in the protobuf form of Kubernetes');
  const secret = fieldsOf(bytesOf(fieldsOf(body.subarray(4)), 2));
  const metadata = fieldsOf(bytesOf(secret, 1));
  const text = (fields: Fields, number: number) => bytesOf(fields, number).toString();
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: {
      name: text(metadata, 1),
      namespace: text(metadata, 3),
      labels: mapOf(metadata, 11, 'utf8'),
    },
    data: mapOf(secret, 2, 'base64'),
    type: text(secret, 3),
  };
}

function mapOf(fields: Fields, number: number, encoding: BufferEncoding): Record<string, string> {
  const entries = (fields.get(number) ?? []).map((entry) => fieldsOf(entry as Buffer));
  return Object.fromEntries(
    entries.map((entry) => [bytesOf(entry, 1).toString(), bytesOf(entry, 2).toString(encoding)]),
  );
}

function bytesOf(fields: Fields, number: number): Buffer {
  const [value] = fields.get(number) ?? [];
  return typeof value === 'object' ? value : Buffer.alloc(0);
}

function fieldsOf(message: Buffer): Fields {
  const fields: Fields = new Map();
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = message[at++] ?? 0;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
  };
  while (at < message.length) {
    const tag = varint();
    const wireType = tag & 7;
    if (wireType !== 0 && wireType !== 2) throw new Error(`wire type ${wireType} is not read here`);
    let value: Buffer | number = varint();
    if (wireType === 2) {
      value = message.subarray(at, at + value);
      at += value.length;
    }
    const number = tag >> 3;
    fields.set(number, [...(fields.get(number) ?? []), value]);
  }
  return fields;
}
