/** Proves that README.md's examples fetch the config file, also where a sidecar's file is in its place. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, linkSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { which } from '../stack/clients.ts';
import { section, textOf } from '../support/pages.ts';

const answer = '[profile acme-list-bucket-role]\n';
const tools = {
  // Answers the token, or the config file into what -o names; with -f, fails as curl does.
  curl: `#!/bin/sh
case "$*" in *access-token*) echo token; exit ;; esac
while [ $# -gt 1 ]; do [ "$1" = -f ] && fail=$STATUS; [ "$1" = -o ] && file=$2; shift; done
[ "\${fail:-200}" = 200 ] || exit 22
printf '${answer.replaceAll('\n', '\\n')}' > "$file"
`,
  aws: '#!/bin/sh\n',
  'requests.py': `
import os
class Answer:
    text = ${JSON.stringify(answer)}
    def raise_for_status(self):
        if os.environ["STATUS"] != "200": raise SystemExit(1)
def get(*_, **__): return Answer()
def post(*_, **__): return Answer()
`,
};

describe("README.md's ways to fetch the config file", () => {
  let folder: string;
  const commands = { sh: 'sh', python: 'python3' };

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'irsa-readme-'));
    for (const [name, text] of Object.entries(tools)) {
      writeFileSync(join(folder, name), text);
      chmodSync(join(folder, name), 0o755);
    }
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  function skipWithout(test: Mocha.Context, language: keyof typeof commands): void {
    if (which(commands[language])) return;
    console.warn(`SKIPPED: README.md's ${language}: this machine has no ${commands[language]}`);
    test.skip();
  }

  for (const language of ['sh', 'python'] as const) {
    const [, snippet = ''] =
      new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\``, 'm').exec(section(textOf('README.md'), 'Use')) ?? [];

    function run(status: string): void {
      const { error } = spawnSync(commands[language], ['-c', snippet], {
        env: {
          ...process.env,
          PATH: `${folder}${delimiter}${process.env.PATH}`,
          PYTHONPATH: folder,
          STATUS: status,
          DOMINO_RUN_ID: '646d27b817c28b5ea4b5b0c1',
          DOMINO_IRSA_SSL_CERT: join(folder, 'ca.crt'),
          AWS_CONFIG_FILE: join(folder, 'config'),
        },
      });
      assert.equal(error, undefined);
    }

    it(`${language}: replaces a read-only file without writing through it, and leaves no other file`, function () {
      skipWithout(this, language);
      // The sidecar's file is another user's. A second name of it shows whether it was written through, also to root.
      writeFileSync(join(folder, 'config'), 'old', { mode: 0o444 });
      linkSync(join(folder, 'config'), join(folder, 'sidecars'));
      run('200');
      assert.equal(readFileSync(join(folder, 'config'), 'utf8'), answer);
      assert.equal(readFileSync(join(folder, 'sidecars'), 'utf8'), 'old');
      const others = readdirSync(folder).filter((name) => !(name in tools) && name !== '__pycache__');
      assert.deepEqual(others.sort(), ['config', 'sidecars']);
    });

    it(`${language}: keeps the file unchanged when the service refuses`, function () {
      skipWithout(this, language);
      writeFileSync(join(folder, 'config'), 'old');
      run('403');
      assert.equal(readFileSync(join(folder, 'config'), 'utf8'), 'old');
    });
  }
});
