/** Proves that the pages do not rot: their links, error codes, settings and the tests that they name. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { statusOfCode } from '../../src/lib/errors.ts';
import { settings } from '../../src/lib/settings.ts';
import { accessAdvice, podIdentityAdvice } from '../../src/reports/advice.ts';
import { anchorsOf, linksOf, root, rowsOf, section, textOf } from '../support/pages.ts';
import { tableNames, tablesOf, withTables } from './tables.ts';

const codesIn = (text: string) => new Set([...text.matchAll(/`([a-z0-9_]+)`/g)].map(([, code]) => code ?? ''));

describe('the pages', () => {
  const pages = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'SECURITY.md'];
  for (const name of readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })) {
    if (name.endsWith('.md')) pages.push(`docs/${name}`);
  }
  for (const name of readdirSync(join(root, 'deploy'), { recursive: true, encoding: 'utf8' })) {
    if (basename(name) === 'README.md' && !name.includes('node_modules')) pages.push(`deploy/${name}`);
  }

  for (const page of pages.sort()) {
    it(`${page} has no dead links`, () => {
      const text = textOf(page);
      const dead = linksOf(text).filter((link) => {
        if (/^[a-z]+:/.test(link)) return false;
        const [path = '', fragment] = decodeURI(link).split('#');
        const target = path === '' ? page : relative(root, join(root, dirname(page), path));
        if (target.startsWith('..') || !existsSync(join(root, target))) return true;
        return fragment !== undefined && !(target.endsWith('.md') && anchorsOf(textOf(target)).has(fragment));
      });
      assert.deepEqual(dead, []);
    });
  }

  it('have no link that begins with a slash', () => {
    const absolute = pages.flatMap((page) => linksOf(textOf(page)).filter((link) => link.startsWith('/')));
    assert.deepEqual(absolute, []);
  });

  it('anchorsOf makes the anchors that GitHub makes', () => {
    const made = anchorsOf('# A `b_c`: d’s, e/f\n## A\n```sh\n# no heading\n```\n## A\n### [x](y) & z\n');
    assert.deepEqual([...made], ['a-b_c-ds-ef', 'a', 'a-1', 'x--z']);
  });
});

describe('docs/faq.md', () => {
  const faq = textOf('docs/faq.md');

  it('has every error code of the service, with its status', () => {
    const expected = Object.entries(statusOfCode).map(([code, status]) => `\`${code}\` ${status}`);
    const first = rowsOf(section(faq, 'Errors of the service')).map(([cell]) => cell ?? '');
    assert.deepEqual(first.sort(), expected.sort());
  });

  it('has every reason that a comment line of the config file can name, and no other', () => {
    const lines = rowsOf(section(faq, 'Comment lines in the AWS config file')).map(([line = '']) => line);
    const told = lines.flatMap((line) => /refused, (\w+):/.exec(line)?.[1] ?? []);
    // The others are states, or refusals of the whole request.
    const others = [
      'granted',
      'ready',
      'in_another_proxy',
      'partly_granted',
      'pending',
      'not_checked_yet',
      'kept_elsewhere',
    ];
    others.push(
      'not_requested',
      'refresh_needed',
      'not_a_member',
      'mapping_gone',
      'run_revoked',
      'shared_service_account',
    );
    const refusals = Object.keys(accessAdvice).filter((code) => !others.includes(code));
    assert.deepEqual(told.sort(), refusals.sort());
  });

  it('has every reason of Pod Identity, and no other', () => {
    const told = codesIn(
      rowsOf(section(faq, 'Pod Identity'))
        .map(([cell]) => cell)
        .join(),
    );
    // The others are states, without a reason.
    const reasons = Object.keys(podIdentityAdvice).filter((code) => !['in_place', 'restart', 'leaving'].includes(code));
    assert.deepEqual([...told].sort(), reasons.sort());
  });

  it('has every code of the sidecar, and no other', () => {
    const [, words = ''] = /const words = \{\n([\s\S]*?)\n\} as const/.exec(textOf('src/sidecar/failure.ts')) ?? [];
    const codes = [...words.matchAll(/^ {2}(\w+): \[/gm)].map(([, code]) => code ?? '');
    assert.ok(codes.length > 20);
    const told = codesIn(
      rowsOf(section(faq, 'Errors of the sidecar'))
        .map(([cell]) => cell)
        .join(),
    );
    assert.deepEqual([...told].sort(), codes.sort());
  });
});

describe('docs/security.md', () => {
  it('links each invariant of a threat to a test that names it', () => {
    const named = new Set<string>();
    for (const row of rowsOf(section(textOf('docs/security.md'), 'Threats'))) {
      const numbers = (/Invariants? ([\d, ]+)/.exec(row.join(' '))?.[1] ?? '').match(/\d+/g) ?? [];
      const tests = linksOf(row[2] ?? '').map((link) => textOf(join('docs', link)));
      for (const number of numbers) {
        named.add(number);
        const isNamed = tests.some((text) => new RegExp(`invariants? (\\d+ and )?${number}\\b`).test(text));
        assert.ok(isNamed, `${row[0]}: a test that names invariant ${number}`);
      }
    }
    // 6 and 8 concern answers and sizes, and stop no threat.
    assert.deepEqual([...named].sort(), ['1', '10', '2', '3', '4', '5', '7', '9']);
  });

  it('says that a compromised replica may create Mutations, as long as the chart allows it', () => {
    const rbac = textOf('deploy/helm/irsa/templates/rbac.yaml');
    assert.match(rbac, /resources: \[mutations\]\n +verbs:\n +- create /);
    const row = rowsOf(section(textOf('docs/security.md'), 'Threats')).find(
      ([what]) => what === 'A replica is taken over',
    );
    assert.match(row?.[3] ?? '', /may also create Mutations/);
  });

  it('says for each threat what stops it', () => {
    const rows = rowsOf(section(textOf('docs/security.md'), 'Threats'));
    assert.ok(rows.length > 30);
    for (const row of rows) assert.ok(row[0] && row[1], row.join(' | '));
  });
});

describe('docs/upgrade.md', () => {
  it('names the modules that a second copy of the Terraform example must not create again', () => {
    const text = section(textOf('docs/upgrade.md'), 'Both side by side, organization by organization');
    const example = textOf('deploy/terraform/examples/acme/main.tf');
    const named = [...text.matchAll(/`module\.(\w+)`/g)].map(([, name = '']) => name);
    assert.deepEqual(named, ['target_roles', 'service_role']);
    for (const name of named) assert.ok(example.includes(`module "${name}" {`), name);
    // The names of what these two create do not depend on the prefix.
    assert.match(textOf('deploy/terraform/service-role/variables.tf'), /variable "name" \{[\s\S]*?default +=/);
  });
});

describe('the tables that are generated from the code', () => {
  const pages = readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md'));

  it('are up to date: `npm run docs` writes them', () => {
    for (const page of pages) assert.equal(textOf(`docs/${page}`), withTables(textOf(`docs/${page}`)), page);
  });

  it('are each on exactly one page', () => {
    assert.deepEqual(pages.flatMap((page) => tablesOf(textOf(`docs/${page}`))).sort(), [...tableNames].sort());
  });

  it('are recognized as out of date when the code has changed', () => {
    const page = textOf('docs/errors.md').replace('`run_revoked`', '`run_shut_out`');
    assert.notEqual(withTables(page), page);
    assert.throws(() => withTables('<!-- table: nothing -->\n<!-- end -->'), /there is no table nothing/);
  });

  it('name each setting that the service reads, and what it is for', () => {
    const rows = rowsOf(textOf('docs/settings.md'));
    const told = rows.flatMap(([cell = '']) => cell.match(/(?<=`)[A-Z_]+(?=`)/g) ?? []);
    assert.deepEqual(told.sort(), Object.keys(settings.shape).sort());
    for (const [name, , what = ''] of rows) assert.match(what, /^[A-Z`].*\.$/, name);
  });
});

describe('docs/real-peers.md', () => {
  const files = readdirSync(join(root, 'test/real'), { recursive: true, encoding: 'utf8' }).filter((name) =>
    /\.ts$/.test(name),
  );
  const pinned = [...files.map((name) => `test/real/${name}`), 'test/helm/tools.ts'].map(textOf).join('\n');
  const inFirstColumns = (page: string, heading: string) =>
    rowsOf(section(textOf(page), heading)).map((cells) => cells.slice(0, 2).join(' '));
  const versions = (rows: string[]) => rows.flatMap((row) => row.match(/\d+\.\d+\.\d+/g) ?? []);

  it('names only versions that the tests pin, and README only versions of this page', () => {
    const all = versions(inFirstColumns('docs/real-peers.md', 'Checked against real peers'));
    assert.ok(all.length >= 10);
    for (const version of all) assert.match(pinned, new RegExp(`['=v ]${version.replaceAll('.', '\\.')}\\b`));
    for (const version of versions(inFirstColumns('README.md', 'Checked against'))) assert.ok(all.includes(version));
  });
});

describe('README.md', () => {
  it('is under 1,200 words', () => {
    assert.ok(textOf('README.md').split(/\s+/).length < 1200);
  });

  it('shows the release of package.json, which is the first one of the changelog', () => {
    const { version } = JSON.parse(textOf('package.json')) as { version: string };
    assert.equal(/^## \[([^\]]+)\]/m.exec(textOf('CHANGELOG.md'))?.[1], version);
    assert.ok(textOf('README.md').includes(`irsa-svc:${version} `));
  });
});
