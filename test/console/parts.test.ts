/** Proves that the console stays small, loads nothing from other hosts, and finds the broken link of a chain. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { buildConsole } from '../../build-console.ts';
import { chainOf, isWhole, worstOf } from '../../src/console/chain.ts';
import { needsOf } from '../../src/console/needs.ts';
import { csvOf } from '../../src/console/parts/csv.ts';
import { roleState } from '../../src/console/role-state.ts';
import type { ProxyRole, TrustStatus } from '../../src/console/types.ts';
import { accessAdvice } from '../../src/reports/advice.ts';
import { anchorsOf, root, textOf } from '../support/pages.ts';

describe('the files of the console', function () {
  this.timeout(30_000);

  it('are below 40 kB in total, compressed', async () => {
    const files = await buildConsole();
    assert.deepEqual([...files.keys()].sort(), ['icon.svg', 'index.html', 'main.js', 'style.css']);
    const total = [...files.values()].reduce((sum, content) => sum + gzipSync(content, { level: 9 }).length, 0);
    assert.ok(total < 40_000, `${total} bytes`);
  });

  it('have no inline script or style, and no URL of another host', async () => {
    const files = await buildConsole();
    const page = Buffer.from(files.get('index.html') ?? '').toString();
    assert.doesNotMatch(page, /<style|style=|<script[^>]*>[^<]|\bon\w+=/);
    for (const [, url = ''] of page.matchAll(/(?:src|href)="([^"]+)"/g)) assert.doesNotMatch(url, /^(?:https?:)?\/\//);
    assert.doesNotMatch(Buffer.from(files.get('style.css') ?? '').toString(), /url\(|@import/);
  });

  it('use storage, cookies and unsafe HTML nowhere but in login.ts', () => {
    const folder = join(root, 'src/console');
    const sources = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => /\.tsx?$/.test(name));
    const users = sources.filter((name) =>
      /localStorage|sessionStorage|document\.cookie|indexedDB|dangerouslySetInnerHTML|innerHTML|eval\(/.test(
        readFileSync(join(folder, name), 'utf8'),
      ),
    );
    assert.deepEqual(users, ['login.ts']);
  });
});

describe('the chain of a role', () => {
  it('has one broken or waiting link for each code of a managed role, and is good only where the role works', () => {
    for (const code of Object.keys(accessAdvice)) {
      for (const carrier of ['entry', 'token']) {
        const chain = chainOf({ code, ...(carrier === 'token' ? { carrier } : {}) });
        const bad = chain.filter((state) => state === 'broken' || state === 'waiting');
        if (isWhole({ code })) assert.deepEqual(chain, ['good', 'good', 'good'], code);
        else if (code === 'kept_elsewhere') assert.deepEqual(chain, ['good', 'unknown', 'unknown']);
        else assert.equal(bad.length, 1, code);
      }
    }
    assert.deepEqual(chainOf({ code: 'not_a_member' }), ['broken', 'unknown', 'unknown']);
    assert.deepEqual(chainOf({ code: 'trust_policy_full' }), ['good', 'broken', 'unknown']);
    assert.deepEqual(chainOf({ code: 'pending' }), ['good', 'waiting', 'unknown']);
  });

  it('distinguishes a run without a token from a role that does not accept tokens', () => {
    const carrier = 'token';
    assert.deepEqual(chainOf({ code: 'not_requested', carrier }), ['good', 'broken', 'unknown']);
    assert.deepEqual(chainOf({ code: 'audience_missing', carrier }), ['good', 'unknown', 'broken']);
    assert.deepEqual(chainOf({ code: 'not_checked_yet', carrier }), ['good', 'unknown', 'waiting']);
    assert.deepEqual(chainOf({ code: 'mapping_gone', carrier }), ['broken', 'unknown', 'unknown']);
    assert.equal(worstOf(['good', 'unknown', 'broken']), 'broken');
    assert.equal(worstOf(['good', 'unknown', 'unknown']), 'unknown');
    assert.equal(worstOf(['good', 'good', 'good']), 'good');
  });
});

describe('what needs an administrator', () => {
  const role = (more: Partial<ProxyRole>): ProxyRole => {
    return {
      proxy_iam_role_arn: 'arn:aws:iam::111111111111:role/a',
      mapped: true,
      published: true,
      members: [],
      waiting: [],
      ...more,
    };
  };
  const status = (...roles: ProxyRole[]): TrustStatus => ({ lease_holder: 'one', proxy_roles: roles });
  const at = '2026-11-21T12:00:00.000Z';
  const wait = (code: string, run_id: string) => {
    return {
      service_account: `run-${run_id}`,
      iam_role_arn: 'arn',
      code,
      detail: 'why',
      run_id,
      user: 'alice',
      asked_at: at,
    };
  };

  it('is the state of a proxy role in the list: in order only where no run waits and tokens work', () => {
    const problem = { code: 'audience_missing', detail: 'no' };
    const room = { runs_that_still_fit: 3, waiting: [wait('access_denied', '1')] };
    assert.deepEqual(roleState(role({})), ['good', 'in order']);
    assert.deepEqual(roleState(role({ role_tokens: { granted: true, problem } })), ['bad', 'audience_missing']);
    assert.deepEqual(roleState(role({ ...room, runs_that_still_fit: 0 })), ['bad', 'full, 1 waiting']);
    assert.deepEqual(roleState(role(room)), ['warn', '1 waiting']);
    assert.deepEqual(roleState(role({ runs_that_still_fit: 0 })), ['good', 'in order'], 'full, but no run waits');
  });

  it('is nothing without a problem', () => assert.deepEqual(needsOf(status(role({})), undefined), []));

  it('is sorted by rank, the broken first, and links to existing sections of the runbook', () => {
    const contested = { organization_id: '0', contenders: [{ organization_id: '1', user: 'bob', at }] };
    const all = needsOf(
      {
        ...status(
          role({ drift: { at, count: 1, missing: ['x'], extra: [] } }),
          role({ contested_until: at }),
          role({ brake: { since: at, held: ['run-1'] } }),
          role({
            role_tokens: { granted: false, problem: { code: 'audience_missing', detail: 'no' } },
            waiting: [wait('trust_policy_full', '1'), wait('trust_policy_full', '2'), wait('access_denied', '3')],
          }),
          role({ error: { code: 'access_denied', detail: 'no', at } }),
        ),
        lease_holder: null,
      },
      {
        all_role_mappings: { acme: [] },
        organizations: { acme: contested, gone: contested },
      },
    );
    assert.equal(all[0]?.alert, 'IrsaNoWriter');
    assert.equal(all[1]?.title, 'The trust policy cannot be kept: access_denied');
    assert.deepEqual(
      all.map(({ rank }) => rank),
      all.map(({ rank }) => rank).sort(),
    );
    assert.ok(all.some(({ alert }) => alert === 'IrsaRoleTokensNotGiven'));
    assert.deepEqual(
      all.flatMap((need) => need.contested ?? []),
      [{ name: 'acme', recorded: '0', id: '1', user: 'bob', at }],
      'an organization that is no longer mapped is not contested',
    );
    const full = all.find(({ alert }) => alert === 'IrsaRunsWaitForRoom');
    assert.deepEqual(
      full?.runs.map(({ run_id: id }) => id),
      ['1', '2'],
    );
    const anchors = anchorsOf(textOf('docs/runbook.md'));
    for (const { alert } of all) assert.ok([...anchors].includes(alert.toLowerCase()), alert);
  });
});

describe('a CSV file', () => {
  it('quotes each cell, and disarms formulas', () => {
    assert.equal(
      csvOf(
        ['a', 'b'],
        [
          ['x"y', '=1+1'],
          ['-2', 'c'],
        ],
      ),
      '"a","b"\r\n"x""y","\'=1+1"\r\n"\'-2","c"\r\n',
    );
  });
});
