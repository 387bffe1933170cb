/** Owns the two encodings of Terraform's plugin protocol, as far as our provider needs them: Protocol Buffers, MessagePack. */

/** A value that is known only after the apply. */
export const unknown: unique symbol = Symbol('unknown');
export type Value = null | boolean | number | string | typeof unknown | readonly Value[] | Attributes;
export interface Attributes {
  readonly [name: string]: Value;
}

/** One length-delimited field (protobuf.dev/programming-guides/encoding): a message, a string, or bytes. */
export function field(number: number, content: string | Buffer): Buffer {
  const bytes = Buffer.from(content);
  return Buffer.concat([varint((number << 3) | 2), varint(bytes.length), bytes]);
}

/** A boolean, or a small number such as an enum's. */
export function flag(number: number, value: boolean | number): Buffer {
  return Buffer.concat([varint(number << 3), varint(Number(value))]);
}

/** The length-delimited fields of a message by number; the last one where it is repeated. */
export function fieldsOf(message: Buffer): Map<number, Buffer> {
  const fields = new Map<number, Buffer>();
  let at = 0;
  const next = () => {
    let [value, shift, byte] = [0, 0, 0x80];
    while (byte & 0x80) {
      byte = message[at++] ?? 0;
      value += (byte & 0x7f) * 2 ** shift;
      shift += 7;
    }
    return value;
  };
  while (at < message.length) {
    const tag = next();
    if ((tag & 7) === 0) next();
    else if ((tag & 7) === 2) {
      const length = next();
      fields.set(tag >> 3, message.subarray(at, at + length));
      at += length;
    } else throw new Error(`wire type ${tag & 7} is not one that Terraform sends`);
  }
  return fields;
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...bytes, rest]);
    bytes.push((rest & 0x7f) | 0x80);
  }
}

/** As in the MessagePack specification; an unknown value is an extension of type 0, as cty has it. */
export function pack(value: Value): Buffer {
  if (value === null) return Buffer.from([0xc0]);
  if (value === unknown) return Buffer.from([0xd4, 0, 0]);
  if (typeof value === 'boolean') return Buffer.from([value ? 0xc3 : 0xc2]);
  if (typeof value === 'number') {
    const bytes = Buffer.alloc(9);
    bytes[0] = 0xcb;
    bytes.writeDoubleBE(value, 1);
    return bytes;
  }
  if (typeof value === 'string') return Buffer.concat([sized(0xdb, Buffer.byteLength(value)), Buffer.from(value)]);
  if (isList(value)) return Buffer.concat([sized(0xdd, value.length), ...value.map(pack)]);
  const entries = Object.entries(value as Attributes);
  return Buffer.concat([sized(0xdf, entries.length), ...entries.flatMap(([name, of]) => [pack(name), pack(of)])]);
}

export function unpack(bytes: Buffer): Value {
  let at = 0;
  const number = (size: number) => {
    const value = bytes.readUIntBE(at, size);
    at += size;
    return value;
  };
  const text = (length: number) => {
    at += length;
    return bytes.toString('utf8', at - length, at);
  };
  const list = (length: number): Value => Array.from({ length }, one);
  const map = (length: number): Value =>
    Object.fromEntries(Array.from({ length }, (): [string, Value] => [String(one()), one()])) as Attributes;
  const skip = (length: number): typeof unknown => {
    at += length + 1;
    return unknown;
  };
  function one(): Value {
    const kind = number(1);
    if (kind < 0x80) return kind;
    if (kind < 0x90) return map(kind & 0x0f);
    if (kind < 0xa0) return list(kind & 0x0f);
    if (kind < 0xc0) return text(kind & 0x1f);
    const read = kinds[kind];
    if (!read) throw new Error(`MessagePack of kind 0x${kind.toString(16)} is not one that Terraform sends`);
    return read();
  }
  const kinds: Record<number, () => Value> = {
    192: () => null,
    194: () => false,
    195: () => true,
    196: () => text(number(1)),
    199: () => skip(number(1)),
    203: () => {
      at += 8;
      return bytes.readDoubleBE(at - 8);
    },
    204: () => number(1),
    205: () => number(2),
    206: () => number(4),
    212: () => skip(1),
    213: () => skip(2),
    217: () => text(number(1)),
    218: () => text(number(2)),
    219: () => text(number(4)),
    220: () => list(number(2)),
    222: () => map(number(2)),
  };
  return one();
}

const isList = (value: Value): value is readonly Value[] => Array.isArray(value);

function sized(kind: number, size: number): Buffer {
  const bytes = Buffer.alloc(5);
  bytes[0] = kind;
  bytes.writeUInt32BE(size, 1);
  return bytes;
}
