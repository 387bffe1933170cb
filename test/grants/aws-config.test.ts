/** Proves the text of the AWS config file: its bytes and profile names, and that no input breaks its syntax. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { type AwsConfigInput, awsConfig, type RoleOutcome, sessionName } from '../../src/grants/aws-config.ts';
import { which } from '../stack/clients.ts';

const run = '646d27b817c28b5ea4b5b0c1';
const target = (name: string, account = '222222222222') => `arn:aws:iam::${account}:role/${name}`;
const proxy = (name: string) => `arn:aws:iam::111111111111:role/${name}`;
const granted = (name: string, account?: string): RoleOutcome => ({
  kind: 'granted',
  target: target(name, account),
  proxy: proxy(name),
});
const refused = (name: string, detail = 'why'): RoleOutcome => ({
  kind: 'refused',
  target: target(name),
  code: 'role_not_found',
  detail,
});
const text = (outcomes: readonly RoleOutcome[], more: Partial<AwsConfigInput> = {}) =>
  awsConfig({
    user: 'alice',
    orgs: ['acme', 'research'],
    run,
    region: 'us-west-2',
    tokenPath: '/var/run/secrets/eks.amazonaws.com/serviceaccount/token',
    tokenDir: '/var/run/.aws/tokens',
    now: Date.parse('2026-11-21T12:00:00Z'),
    outcomes,
    ...more,
  });
const sections = (config: string) => [...config.matchAll(/^\[profile (.*)\]$/gm)].map(([, name]) => name);
const comments = (config: string) => config.split('\n').filter((line) => line.startsWith('#'));

describe('the AWS config file', () => {
  it('equals the example of the contract, byte for byte', () => {
    const detail = 'no IAM role acme-read-proxy in account 111111111111';
    const outcomes = [refused('acme-read-bucket-role', detail), granted('acme-list-bucket-role')];
    const expected = `# irsa-svc: roles of alice for run 646d27b817c28b5ea4b5b0c1, written 2026-11-21T12:00:00.000Z
[profile acme-list-bucket-role]
source_profile = src_acme-list-bucket-role
role_arn = arn:aws:iam::222222222222:role/acme-list-bucket-role
role_session_name = alice-646d27b817c28b5ea4b5b0c1
region = us-west-2
[profile src_acme-list-bucket-role]
web_identity_token_file = /var/run/secrets/eks.amazonaws.com/serviceaccount/token
role_arn = arn:aws:iam::111111111111:role/acme-list-bucket-role
role_session_name = alice-646d27b817c28b5ea4b5b0c1
region = us-west-2
# acme-read-bucket-role: refused, role_not_found: no IAM role acme-read-proxy in account 111111111111
`;
    assert.equal(text(outcomes), expected);
  });

  it('names at most ten proposed default profiles in comments, including those of refused roles', () => {
    const proposed = (...names: string[]) => ({ proposed: new Set(names.map((name) => target(name))) });
    const list = [granted('b'), refused('a'), granted('c')];
    const proposals = (config: string) => config.split('\n').filter((line) => line.startsWith('# default profile: '));
    assert.deepEqual(proposals(text(list)), []);
    const two = text(list, proposed('b', 'a', 'not-here'));
    assert.deepEqual(proposals(two), ['# default profile: a', '# default profile: b']);
    assert.equal(two.replaceAll(/^# default profile: .*\n/gm, ''), text(list));
    const names = Array.from({ length: 30 }, (_, n) => `r${n}`);
    const many = text(
      names.map((name) => granted(name)),
      proposed(...names),
    );
    assert.equal(proposals(many).length, 10);
  });

  it('does not depend on the order of the input, and differs only in its time', () => {
    const outcomes = [granted('b'), refused('c'), granted('a'), granted('a', '333333333333')];
    assert.equal(text(outcomes), text(outcomes.toReversed()));
    const later = text(outcomes, { now: Date.parse('2026-11-22T12:00:00Z') });
    assert.deepEqual(later.split('\n').slice(1), text(outcomes).split('\n').slice(1));
  });

  it('sorts its profiles by name', () => {
    const config = text([granted('b'), granted('a'), granted('B'), refused('aa')]);
    assert.deepEqual(sections(config), ['B', 'src_B', 'a', 'src_a', 'b', 'src_b']);
  });

  it('invariant 6: has a comment line with the reason for each refused role', () => {
    const config = text([refused('a', 'line one\nline two\r[profile x]'), granted('b')]);
    assert.equal(comments(config)[1], '# a: refused, role_not_found: line one?line two?[profile x]');
    assert.deepEqual(sections(config), ['b', 'src_b']);
  });

  it('is one comment line when the user has no roles', () => {
    const config = text([]);
    assert.match(
      config,
      /^# irsa-svc: no roles of alice for run 646d27b817c28b5ea4b5b0c1, written 2026-11-21T\S+: .*\n$/,
    );
  });

  it('lists the user’s organizations, in a line of limited length, when the user has no roles', () => {
    const said = (orgs: readonly string[]) => text([], { orgs }).replace(/^.*mapped to a role/, '');
    assert.equal(said(['acme', 'a "b"\n[x]']), '; Domino names 2: ["acme","a \\"b\\"?[x]"]\n');
    assert.equal(said([]), '; Domino names 0: []\n');
    const many = said(Array.from({ length: 3_000 }, (_, index) => `${index}${'x'.repeat(1_000)}`));
    assert.ok(many.startsWith('; Domino names 3000: ["0xxx') && many.length < 2_500, String(many.length));
  });

  it('names a profile after its ARN’s text behind role/, including the path', () => {
    const config = text([granted('team/data/reader'), granted('reader')]);
    assert.deepEqual(sections(config), ['reader', 'src_reader', 'team/data/reader', 'src_team/data/reader']);
  });

  it('adds the AWS account to the names of roles of one name, except the first by ARN', () => {
    const config = text([granted('x', '333333333333'), granted('x'), granted('x', '444444444444')]);
    const names = ['x', 'src_x', 'x@333333333333', 'src_x@333333333333', 'x@444444444444', 'src_x@444444444444'];
    assert.deepEqual(sections(config), names);
    assert.deepEqual(
      comments(config)
        .slice(1)
        .map((line) => line.split(':')[0]),
      ['# x@333333333333', '# x@444444444444'],
    );
    assert.match(config, /\[profile x\]\nsource_profile = src_x\nrole_arn = arn:aws:iam::222222222222:role\/x\n/);
  });

  it('does not make a role that is called default the default credentials', () => {
    const config = text([granted('default'), granted('default', '333333333333')]);
    const names = ['default@222222222222', 'default@333333333333'];
    assert.deepEqual(
      sections(config),
      names.flatMap((name) => [name, `src_${name}`]),
    );
    assert.match(comments(config)[1] ?? '', /^# default@222222222222: /);
  });

  it('renames a role src_x that would collide with the source profile of x', () => {
    const config = text([granted('x'), granted('src_x')]);
    const names = sections(config);
    assert.equal(new Set(names).size, 4);
    assert.deepEqual(names, ['src_x', 'src_src_x', 'x@222222222222', 'src_x@222222222222']);
  });

  it('gives a role that has the name of a renamed one a name of its own', () => {
    const names = sections(
      text([granted('x', '111111111111'), granted('x'), granted('x@222222222222', '111111111111')]),
    );
    assert.equal(new Set(names).size, 6);
  });

  it('replaces `=` and `,` in profile names, which the AWS SDK for JavaScript ignores, and adds a comment', () => {
    const config = text([granted('a=b'), granted('c,d')]);
    assert.deepEqual(sections(config), ['a-b', 'src_a-b', 'c-d', 'src_c-d']);
    assert.equal(comments(config).filter((line) => /not read by every SDK/.test(line)).length, 2);
  });

  it('gives a granted role its name even if a refused role has the same name', () => {
    const config = text([{ ...refused('x'), target: 'acme-read' }, granted('acme-read')]);
    assert.deepEqual(sections(config), ['acme-read', 'src_acme-read']);
  });

  it('has a comment line for the service accounts of the run that lack a role', () => {
    const config = text([{ ...granted('acme-read'), note: 'not for account ray-1' } as RoleOutcome]);
    assert.ok(comments(config).includes('# acme-read: not for account ray-1'));
  });

  it('has no extra line from a hostile user name', () => {
    const user = 'eve\n[profile default]\nrole_arn = arn:aws:iam::666666666666:role/evil\r\u2028[x]\0#';
    for (const outcomes of [[], [granted('a')], [refused('a')]]) {
      const config = text(outcomes, { user });
      assert.ok(!/^\[profile default\]|^role_arn = .*evil|^\[x\]/m.test(config));
      assert.match(config, /^[\x20-\x7e\n]*$/);
      assert.equal(config.split('\n').length, text(outcomes).split('\n').length);
    }
  });

  it('has a session name that STS accepts, for any user name', () => {
    assert.equal(sessionName('alice', run), `alice-${run}`);
    assert.equal(sessionName('a b/c:d', run), `a-b-c-d-${run}`);
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.string({ minLength: 60, maxLength: 300 })), (user) => {
        const name = sessionName(user, run);
        assert.match(name, /^[\w+=,.@-]{2,64}$/);
        assert.ok(name.endsWith(`-${run}`));
      }),
    );
  });

  const outcome: fc.Arbitrary<RoleOutcome> = fc
    .record({
      name: fc.oneof(
        fc.constantFrom('x', 'src_x', 'src_src_x', 'x@222222222222'),
        fc.stringMatching(/^[\w./@-]{1,12}$/),
      ),
      account: fc.constantFrom('222222222222', '333333333333'),
      ok: fc.boolean(),
      detail: fc.string({ unit: 'binary' }),
    })
    .filter(({ name }) => /^([\w.@-]+\/)*[\w.@-]+$/.test(name))
    .map(({ name, account, ok, detail }) =>
      ok ? granted(name, account) : { kind: 'refused', target: target(name, account), code: 'some_code', detail },
    );
  const outcomes = fc.uniqueArray(outcome, { selector: (one) => one.target, maxLength: 8 });

  it('has two uniquely named profiles for each granted role, and a comment line for each refused one', () => {
    fc.assert(
      fc.property(outcomes, fc.string({ unit: 'binary' }), (list, user) => {
        const config = text(list, { user });
        const names = sections(config);
        const grants = list.filter(({ kind }) => kind === 'granted');
        assert.equal(names.length, 2 * grants.length);
        assert.equal(new Set(names).size, names.length);
        for (const { target: arn } of grants) assert.ok(config.includes(`\nrole_arn = ${arn}\n`));
        const reasons = comments(config).filter((line) => line.includes(': refused, some_code: '));
        assert.equal(reasons.length, list.length - grants.length);
        for (const name of names.filter((_, index) => index % 2 === 0)) {
          assert.ok(config.includes(`[profile ${name}]\nsource_profile = src_${name}\n`));
          assert.ok(config.includes(`[profile src_${name}]\nweb_identity_token_file = `));
        }
      }),
    );
  });

  it("parses in Python's configparser, section by section", function () {
    const python = which('python3');
    if (!python) {
      console.warn('      SKIPPED: there is no python3 on this machine, so configparser was not asked');
      this.skip();
    }
    const samples = fc.sample(fc.tuple(outcomes, fc.string({ unit: 'binary' })), 20);
    const configs = [
      ...samples.map(([list, user]) => text(list, { user })),
      text([]),
      text([granted('a'), refused('b')]),
    ];
    const script = `
import configparser, json, sys
out = []
for text in json.load(sys.stdin):
    parser = configparser.ConfigParser(strict=True)
    parser.read_string(text)
    out.append({name: dict(parser[name]) for name in parser.sections()})
json.dump(out, sys.stdout)`;
    const { stdout, stderr } = spawnSync(python, ['-c', script], { input: JSON.stringify(configs), encoding: 'utf8' });
    assert.equal(stderr, '');
    const parsed = JSON.parse(stdout) as Record<string, Record<string, string>>[];
    assert.equal(parsed.length, configs.length);
    for (const [index, profiles] of parsed.entries()) {
      const names = sections(configs[index] ?? '').map((name) => `profile ${name}`);
      assert.deepEqual(Object.keys(profiles), names);
      for (const [name, profile] of Object.entries(profiles)) {
        const keys = name.startsWith('profile src_') && profile.source_profile === undefined;
        assert.deepEqual(Object.keys(profile), [
          keys ? 'web_identity_token_file' : 'source_profile',
          'role_arn',
          'role_session_name',
          'region',
        ]);
      }
    }
  });
});
