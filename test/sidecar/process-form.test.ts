/** Proves the process form of the config file: its comments stay, and no profile's name escapes its word or folder. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { awsConfig } from '../../src/grants/aws-config.ts';
import { systemDisk } from '../../src/sidecar/config-file.ts';
import { folderForm, processForm, sessionKey, sessionScript } from '../../src/sidecar/process-form.ts';
import { parseConfig } from '../../src/sidecar/profiles.ts';
import { sessionFiles } from '../../src/sidecar/session-files.ts';
import { runId, tokenFile } from './support.ts';

const folder = '/var/run/irsa-credentials';
const session = {
  accessKeyId: 'ASIA',
  secretAccessKey: 'a/b+c',
  sessionToken: 'token',
  expiresAt: Date.now() + 3_600_000,
};

describe('the process form', () => {
  it('keeps the service’s comments, and has no role_arn or source_profile', () => {
    const [target, proxy] = ['222222222222', '111111111111'].map((account) => `arn:aws:iam::${account}:role/acme`) as [
      string,
      string,
    ];
    const text = awsConfig({
      user: 'alice',
      orgs: ['acme'],
      run: runId,
      region: 'us-west-2',
      tokenPath: tokenFile,
      tokenDir: '/var/run/.aws/tokens',
      now: 0,
      outcomes: [
        { kind: 'granted', target, proxy, note: 'not for the cluster yet' },
        { kind: 'refused', target: `${target}-2`, code: 'trust_policy_full', detail: 'no room' },
      ],
    });
    const form = processForm(text, parseConfig(text), folder);
    const comments = (config: string) =>
      config
        .split('\n')
        .filter((line) => /^# (acme|irsa)/.test(line))
        .sort();
    assert.deepEqual(comments(form), comments(text));
    assert.deepEqual(parseConfig(form).refused, parseConfig(text).refused);
    assert.doesNotMatch(form, /role_arn|source_profile|web_identity|src_/);
    assert.match(form, /^credential_process = sh \/var\/run\/irsa-credentials\/session acme$/m);
  });

  it('keeps the service’s text for a user without mapped organizations', () => {
    const text = awsConfig({
      user: 'bob',
      orgs: [],
      run: runId,
      region: 'us-west-2',
      tokenPath: tokenFile,
      tokenDir: '/var/run/.aws/tokens',
      now: 0,
      outcomes: [],
    });
    assert.equal(processForm(text, parseConfig(text), folder), text);
  });

  // The characters that config-form.ts accepts in a profile's name.
  const names = fc.string({ unit: fc.constantFrom(...'aZ0_+=,.@/-'), minLength: 1, maxLength: 700 });

  it('makes of each name one distinct word, and one file in its folder', () => {
    fc.assert(
      fc.property(names, names, (one, other) => {
        const key = sessionKey(one);
        assert.match(key, /^[\w+=,.@:-][\w+=,.@:~-]*$/);
        assert.ok(Buffer.byteLength(`.${key}.json.irsa-new`) <= 255);
        assert.equal(join(folder, `${key}.json`), `${folder}/${key}.json`);
        if (one !== other) assert.notEqual(key, sessionKey(other));
      }),
    );
  });

  it('works in a shell, as SDKs run it, with names that could escape the folder or the word', () => {
    const base = mkdtempSync(join(tmpdir(), 'irsa-process-form-'));
    const files = sessionFiles(join(base, 'sessions'), systemDisk);
    try {
      files.writeScript(6003);
      writeFileSync(join(base, 'secret.json'), '{}');
      mkdirSync(join(base, 'home'));
      for (const name of ['../secret', '-c', '--', '..', '/etc/passwd', '=ls', 'a=b,c+d@e', 'x'.repeat(700)]) {
        const text = `[profile ${name}]\nrole_arn = arn:aws:iam::111111111111:role/a\nweb_identity_token_file = /t\n`;
        const command = /^credential_process = (.*)$/m.exec(
          processForm(text, parseConfig(text), join(base, 'sessions')),
        )?.[1];
        const run = () => spawnSync('sh', ['-c', command ?? ''], { encoding: 'utf8', cwd: join(base, 'home') });
        assert.match(run().stderr, /its session is not there yet/, name);
        files.write(name, session);
        assert.equal(JSON.parse(run().stdout).SecretAccessKey, 'a/b+c', name);
        files.refuse(name, 'gone');
        assert.deepEqual([run().status, run().stderr], [1, 'gone\n'], name);
      }
      assert.deepEqual(readdirSync(base).sort(), ['home', 'secret.json', 'sessions']);
      assert.deepEqual(readdirSync(join(base, 'home')), []);
    } finally {
      rmSync(base, { recursive: true, force: true });
    }
  });

  it('has a script that runs in sh, bash and dash, also without date', () => {
    const base = mkdtempSync(join(tmpdir(), 'irsa-process-form-'));
    try {
      writeFileSync(join(base, 'session'), sessionScript(6003));
      sessionFiles(base, systemDisk).write('a', session);
      const shells = ['/bin/sh', '/bin/bash', '/bin/dash'].filter(
        (shell) => spawnSync(shell, ['-c', ':']).status === 0,
      );
      for (const shell of shells) {
        for (const env of [{ PATH: process.env.PATH }, { PATH: '' }]) {
          const { stdout, stderr } = spawnSync(shell, [join(base, 'session'), 'a'], { encoding: 'utf8', env });
          assert.equal(JSON.parse(stdout).AccessKeyId, 'ASIA', `${shell}: ${stderr}`);
          assert.equal(stderr, '');
        }
      }
      assert.ok(shells.length > 0);
    } finally {
      rmSync(base, { recursive: true, force: true });
    }
  });

  it('refuses folders that a shell could misread', () => {
    for (const wrong of ['/a b', "/a'b", '/a;b', '/$a', '/a`b', 'a', '/a/', '/~a'])
      assert.doesNotMatch(wrong, folderForm);
    assert.match(folder, folderForm);
  });
});
