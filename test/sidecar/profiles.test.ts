/** Proves that the sidecar reads the config text that the service writes, and compares two of them. */
import assert from 'node:assert/strict';
import { awsConfig, type RoleOutcome } from '../../src/grants/aws-config.ts';
import { Failure } from '../../src/sidecar/failure.ts';
import { compareConfigs, parseConfig } from '../../src/sidecar/profiles.ts';
import { configText, runId } from './support.ts';

const target = (name: string, account = '222222222222') => `arn:aws:iam::${account}:role/${name}`;
const granted = (name: string, proxy = name): RoleOutcome => ({
  kind: 'granted',
  target: target(name),
  proxy: target(proxy, '111111111111'),
});

function written(outcomes: readonly RoleOutcome[]) {
  const where = { region: 'us-west-2', tokenPath: '/var/run/secrets/token', tokenDir: '/var/run/.aws/tokens' };
  return parseConfig(awsConfig({ user: 'alice', orgs: ['acme'], run: runId, now: 0, outcomes, ...where }));
}

describe('the config text', () => {
  it('gives the profiles, their sources, and refusals with reasons', () => {
    const detail = 'no IAM role acme-read-proxy in account 111111111111';
    const refused: RoleOutcome = { kind: 'refused', target: target('acme-read'), code: 'role_not_found', detail };
    const config = written([granted('team/acme-list', 'acme-proxy'), refused]);
    assert.deepEqual(config.profiles, [
      {
        name: 'team/acme-list',
        roleArn: target('team/acme-list'),
        sessionName: `alice-${runId}`,
        region: 'us-west-2',
        source: 'src_team/acme-list',
      },
    ]);
    assert.deepEqual(config.sources, [
      {
        name: 'src_team/acme-list',
        roleArn: target('acme-proxy', '111111111111'),
        sessionName: `alice-${runId}`,
        region: 'us-west-2',
        tokenFile: '/var/run/secrets/token',
      },
    ]);
    assert.deepEqual(config.refused, [{ name: 'acme-read', code: 'role_not_found', reason: detail }]);
  });

  it('of a user without roles has no profiles, and names the organizations', () => {
    assert.deepEqual(written([]), {
      profiles: [],
      sources: [],
      refused: [],
      proposed: [],
      unmapped: { user: 'alice', organizations: ['acme'], count: 1 },
    });
  });

  it('of an earlier release, without spaces around the equals signs, is read too', () => {
    const text =
      '[profile src_a]\nweb_identity_token_file = /t\nrole_arn=arn:aws:iam::1:role/a\n[profile a]\nsource_profile=src_a\nrole_arn=b\n';
    assert.deepEqual(parseConfig(text).profiles, [
      { name: 'a', roleArn: 'b', sessionName: undefined, region: undefined, source: 'src_a' },
    ]);
  });

  it('is refused with unexpected_answer where a proxy or a login page answered', () => {
    for (const text of ['', '\n', '<!doctype html>\n<title>Sign in</title>', '{"status":"ok"}', 'role_arn = x']) {
      assert.throws(
        () => parseConfig(text),
        (error) => error instanceof Failure && error.code === 'unexpected_answer',
        text,
      );
    }
  });

  it('is compared by the roles of its profiles', () => {
    const before = written([granted('a'), granted('b'), granted('c', 'pool-1')]);
    const after = written([granted('b'), granted('c', 'pool-2'), granted('d')]);
    assert.deepEqual(compareConfigs(before, after), { added: ['d'], removed: ['a'], changed: ['c'], kept: ['b'] });
    const first = compareConfigs(undefined, parseConfig(configText(['x'])));
    assert.deepEqual(first, { added: ['x'], removed: [], changed: [], kept: [] });
  });
});
