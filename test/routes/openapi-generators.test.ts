/** Proves that the contract has only forms that the code generators of Python, Go and Java support. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { projectFile } from '../../src/lib/project-file.ts';

type Node = { [key: string]: unknown };
const isNode = (value: unknown): value is Node => typeof value === 'object' && value !== null;

describe('openapi.yaml for generators', () => {
  const contract = parse(readFileSync(projectFile('openapi.yaml'), 'utf8')) as {
    servers: { url: string }[];
    components: { [section: string]: { [name: string]: Node } };
  };

  function* nodes(value: unknown, path = ''): Generator<[string, Node]> {
    // An example is data, even where its keys look like a schema's.
    if (!isNode(value) || /\/(example|examples)$/.test(path)) return;
    yield [path, value];
    for (const [key, child] of Object.entries(value)) yield* nodes(child, `${path}/${key}`);
  }
  const all = [...nodes(contract)];

  it('has each component name once, since generators make one class for each name', () => {
    const names = Object.values(contract.components).flatMap((section) => Object.keys(section));
    assert.deepEqual(
      names.filter((name, index) => names.indexOf(name) !== index),
      [],
    );
  });

  it('gives every enum and const a type, which generators need', () => {
    const closed = all.filter(([, node]) => Array.isArray(node.enum) || 'const' in node);
    assert.ok(closed.length > 30);
    const untyped = closed.filter(([, node]) => typeof node.type !== 'string').map(([path]) => path);
    assert.deepEqual(untyped, []);
    for (const [path, node] of closed) {
      for (const value of [node.enum ?? node.const].flat()) {
        assert.equal(typeof value, node.type === 'integer' ? 'number' : node.type, path);
      }
    }
  });

  it('gives every part of an allOf a type or a reference', () => {
    const parts = all.flatMap(([path, { allOf }]) => (Array.isArray(allOf) ? allOf.map((part) => [path, part]) : []));
    assert.ok(parts.length > 30);
    for (const [path, part] of parts) assert.ok(part.type === 'object' || part.$ref, path);
  });

  it('puts the stricter form of an anyOf first, since generated clients use the first that fits', () => {
    const schema = (part: Node): Node => {
      const name = typeof part.$ref === 'string' ? part.$ref.split('/').pop() : undefined;
      return name === undefined ? part : (contract.components.schemas?.[name] ?? {});
    };
    const requires = (part: Node): string[] => (schema(part).required as string[] | undefined) ?? [];
    const choices = all.flatMap(([path, { anyOf }]) => (Array.isArray(anyOf) ? [[path, anyOf] as const] : []));
    assert.ok(choices.length >= 5);
    for (const [path, parts] of choices) {
      parts.forEach((part, index) => {
        const later = parts.slice(index + 1).filter((other) => {
          const [less, more] = [requires(part), requires(other)];
          return less.length > 0 && less.length < more.length && less.every((name) => more.includes(name));
        });
        assert.deepEqual(later, [], path);
      });
      const preview = parts.findIndex((part) => String(part.$ref).endsWith('Preview'));
      assert.ok(preview <= 0, `${path}: the preview is the first form`);
    }
  });

  it('has a relative server URL, and allows ARNs unescaped in queries', () => {
    assert.deepEqual(
      contract.servers.map(({ url }) => url),
      ['./'],
    );
    const arns = all.filter(
      ([, node]) => node.in === 'query' && isNode(node.schema) && String(node.schema.$ref).endsWith('Arn'),
    );
    assert.ok(arns.length > 0);
    for (const [path, node] of arns) assert.equal(node.allowReserved, true, path);
  });
});
