/** Proves which config texts the sidecar accepts: those of the service, and none with settings of an attacker. */
import assert from 'node:assert/strict';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { awsConfig, type RoleOutcome } from '../../src/grants/aws-config.ts';
import { requireConfigForm } from '../../src/sidecar/config-form.ts';
import { Failure } from '../../src/sidecar/failure.ts';
import { parseConfig } from '../../src/sidecar/profiles.ts';
import { call, configText, type Pod, roundsEnded, startPod, tokenFile } from './support.ts';

const good = configText(['acme-read']);
const refusal = (text: string): string => {
  try {
    requireConfigForm(text, tokenFile);
    return '';
  } catch (error) {
    assert.ok(error instanceof Failure && error.code === 'config_refused');
    return error.message;
  }
};
const changed = (from: string, to: string) => {
  assert.ok(good.includes(from), from);
  return good.replace(from, to);
};

describe('the check of the config file', () => {
  it('accepts at most ten proposals of a default profile, each name once', () => {
    const proposing = (names: readonly string[]) => names.map((name) => `# default profile: ${name}\n`).join('') + good;
    const names = Array.from({ length: 11 }, (_, n) => `acme/role-${n}`);
    assert.equal(refusal(proposing(names.slice(1))), '');
    assert.match(refusal(proposing(names)), /line 11 is one proposal too many/);
    for (const wrong of [['default'], ['a b'], ['a;b'], [''], ['$(x)'], ['a', 'a'], ['a'.repeat(701)]]) {
      assert.match(refusal(proposing(wrong)), /proposes no new profile/, wrong[0]);
    }
  });

  it('accepts what the service writes, for any names of roles and users', () => {
    const name = fc.stringMatching(/^([\w+=,.@-]{1,9}\/){0,2}[\w+=,.@-]{1,12}$/);
    const outcome: fc.Arbitrary<RoleOutcome> = fc
      .record({ name, ok: fc.boolean(), text: fc.string({ unit: 'binary' }) })
      .map(({ name: role, ok, text }) => {
        const target = `arn:aws:iam::222222222222:role/${role}`;
        const proxy = 'arn:aws:iam::111111111111:role/acme-proxy';
        return ok
          ? { kind: 'granted', target, proxy, note: text }
          : { kind: 'refused', target, code: 'role_not_found', detail: text };
      });
    const outcomes = fc.uniqueArray(outcome, { selector: ({ target }) => target, maxLength: 6 });
    const where = {
      run: '646d27b817c28b5ea4b5b0c1',
      region: 'us-gov-west-1',
      tokenPath: tokenFile,
      tokenDir: '/var/run/.aws/tokens',
      now: 0,
    };
    fc.assert(
      fc.property(outcomes, fc.string({ unit: 'binary' }), (list, user) => {
        assert.equal(refusal(awsConfig({ user, orgs: [user], outcomes: list, ...where })), '');
      }),
    );
  });

  it('accepts what release 1.8 writes, whose profiles lack some keys', () => {
    const text = `[profile src_a]\nweb_identity_token_file=${tokenFile}\nrole_arn=arn:aws:iam::111111111111:role/a\n\n[profile a]\nsource_profile=src_a\nrole_arn=arn:aws:iam::222222222222:role/a\n`;
    assert.equal(refusal(text), '');
    assert.equal(refusal(good.replaceAll('\n', '\r\n')), '');
  });

  const hostile: [what: string, text: string, says: RegExp][] = [
    ['a program', `${good}credential_process = /bin/sh -c id\n`, /line 12 is no setting of a role: credential_process/],
    ['keys', changed('region = us-west-2', 'aws_access_key_id = AKIAEXAMPLE'), /aws_access_key_id/],
    ['another STS', changed('region = us-west-2', 'endpoint_url = https://evil.example'), /endpoint_url/],
    ['a CA', changed('region = us-west-2', 'ca_bundle = /tmp/ca'), /ca_bundle/],
    [
      'the credentials of the machine',
      changed('source_profile = src_acme-read', 'credential_source = x'),
      /credential_source/,
    ],
    ['another token file', changed(tokenFile, '/etc/passwd'), /web_identity_token_file.*AWS_WEB_IDENTITY/],
    [
      'a region with the host of another server',
      changed('us-west-2', 'x.evil.example/'),
      /line 6 has a region that is not of its/,
    ],
    ['a region with a user name', changed('us-west-2', 'a@evil-1'), /region/],
    [
      'an ARN that is not a role’s',
      changed('arn:aws:iam::222222222222:role/acme-read', 'arn:aws:iam::2:user/x'),
      /role_arn/,
    ],
    ['a session name of another form', changed('= alice-', '= alice -'), /role_session_name/],
    [
      'a profile that is its own source',
      changed('source_profile = src_acme-read', 'source_profile = acme-read'),
      /no role/,
    ],
    [
      'a source that does not exist',
      changed('source_profile = src_acme-read', 'source_profile = other'),
      /acme-read is no role/,
    ],
    ['a role without a source', changed('source_profile = src_acme-read\n', ''), /acme-read is no role/],
    ['a profile without a role', `${good}[profile x]\nregion = us-west-2\n`, /profile x is no role/],
    [
      'two sources at once',
      changed(
        'source_profile = src_acme-read',
        `source_profile = src_acme-read\nweb_identity_token_file = ${tokenFile}`,
      ),
      /no role/,
    ],
    ['the default profile', changed('[profile acme-read]', '[profile default]'), /line 2 names no new profile/],
    ['an SSO section', changed('[profile acme-read]', '[sso-session x]'), /line 2/],
    ['[default]', changed('[profile acme-read]', '[default]'), /line 2/],
    ['a profile twice', good + good, /line 13 names no new profile/],
    ['a key twice', changed('region = us-west-2', 'region = us-west-2\nregion = us-west-2'), /line 7/],
    ['a key in another case', changed('region =', 'Region ='), /line 6/],
    [
      'a continuation line',
      changed('region = us-west-2', 'region = us-west-2\n credential_process = id'),
      /line 7 has char/,
    ],
    [
      'a carriage return within a line',
      changed('# irsa-svc', '# irsa-svc\r[profile x]\rcredential_process = id\r'),
      /line 1 /,
    ],
    ['a Unicode line separator', changed('# irsa-svc', '# irsa-svc\u2028credential_process = id'), /line 1 /],
    ['a terminal escape sequence', changed('# irsa-svc', '# \u001b[31mirsa-svc'), /line 1 /],
    ['a setting before any profile', `region = us-west-2\n${good}`, /line 1 is no setting/],
  ];
  for (const [what, text, says] of hostile) {
    it(`refuses ${what}`, () => assert.match(refusal(text), says));
  }

  it('happens before the file is written: the old file stays, and the error is config_refused', async () => {
    const pod: Pod = await startPod();
    try {
      const sidecar = await pod.start();
      await roundsEnded(sidecar);
      assert.equal(pod.config(), good);
      pod.service.always = { text: `${good}credential_process = touch /tmp/secret-value\n` };
      const { status, body } = await call(sidecar, '/refresh');
      assert.deepEqual([status, (body.error as { code: string }).code], [503, 'config_refused']);
      assert.equal(pod.config(), good);
      assert.ok(!JSON.stringify([body, pod.lines]).includes('secret-value'));
    } finally {
      await pod.stop();
    }
  });

  it('refuses lines as long as an answer may be, on which a quadratic regular expression would not end', () => {
    const blanks = ' '.repeat(1_000_000);
    const readable = (text: string) => {
      try {
        return parseConfig(text);
      } catch (error) {
        assert.ok(error instanceof Failure);
        return undefined;
      }
    };
    for (const line of [`region = x${blanks}y`, `role_arn = x${blanks}`, `[profile y]${blanks}z`]) {
      const text = `[profile x]\n${line}\n`;
      assert.notEqual(
        ended(() => refusal(text)),
        '',
      );
      ended(() => readable(text));
    }
    const names = '; Domino names 1: [x'.repeat(50_000);
    const text = `# irsa-svc: no roles of a for run ab, written x: ${names}\n`;
    assert.equal(ended(() => readable(text))?.unmapped?.organizations, undefined);
  });
});

/** Ends the reader, which takes milliseconds, where it would take minutes. @throws Error then. */
function ended<T>(read: () => T): T {
  return runInNewContext('read()', { read }, { timeout: 15_000 }) as T;
}
