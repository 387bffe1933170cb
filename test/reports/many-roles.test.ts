/** Proves that reports on 500 proxy roles with 5,000 runs do not block the event loop, and are complete. */
import assert from 'node:assert/strict';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Pod, ServiceAccount } from '../../src/kubernetes/client.ts';
import { parseMappings } from '../../src/mappings/role-mappings.ts';
import type { TrustStatus } from '../../src/proxy-roles/status.ts';
import { knownUser } from '../../src/reports/known-user.ts';
import { reportedRoles, type TrustReportSources } from '../../src/reports/trust.ts';
import { needsAttention, roleReports, trustTotals } from '../../src/reports/trust-pages.ts';
import { runId } from '../support/world.ts';

const now = Date.parse('2026-11-21T12:00:00Z');
const since = new Date(now - 60_000).toISOString();
const target = (index: number) => `arn:aws:iam::222222222222:role/target-${index}`;
const proxy = (index: number) => `arn:aws:iam::111111111111:role/proxy-${String(index).padStart(3, '0')}`;
const roleCount = 500;
const runCount = 5_000;

function cluster() {
  const accounts = new Map<string, ServiceAccount>();
  const members = new Map<string, Record<string, { want: string; since: string }>>();
  const pods: Pod[] = [];
  for (let index = 0; index < runCount; index += 1) {
    const run = runId(0x1000000 + index);
    const role = index % roleCount;
    const name = `run-${run}`;
    const user = { id: `u${index % 100}`, name: `user-${index % 100}` };
    const proxies = [{ arn: proxy(role), org: `org-${role}`, org_id: `o${role}` }];
    const wanted = JSON.stringify({
      id: `w${index}`,
      run,
      user,
      at: since,
      roles: [{ target: target(role), proxies }],
    });
    accounts.set(name, { name, resourceVersion: '1', wanted, ours: false, madeFor: undefined });
    members.set(proxy(role), { ...members.get(proxy(role)), [name]: { want: `w${index}`, since } });
    const rest = { workload: 'Workspace', uid: '', hasPodIdentity: false, live: true };
    pods.push({ name: `${name}-x`, run, account: name, user: user.id, userName: user.name, ...rest });
  }
  return { accounts, members, pods };
}

describe('500 proxy roles and 5,000 runs', function () {
  this.timeout(30_000);
  const { accounts, members, pods } = cluster();
  const statuses = new Map<string, TrustStatus>();
  for (let index = 0; index < roleCount; index += 1) {
    const sizes = { characters_used: 400, characters_allowed: 2048 };
    statuses.set(proxy(index), {
      role_arn: proxy(index),
      members: members.get(proxy(index)) ?? {},
      refused: [],
      ...sizes,
    });
  }
  const change = (index: number, changes: Partial<TrustStatus>) =>
    statuses.set(proxy(index), { ...(statuses.get(proxy(index)) as TrustStatus), ...changes });
  change(3, { error: { code: 'access_denied', detail: 'not allowed', at: since } });
  change(4, { brake: { since, held: ['a'] } });
  change(5, { drift: { at: since, count: 1, missing: ['a'], extra: [] } });
  change(6, { drift: { at: '2026-11-19T12:00:00.000Z', count: 1, missing: ['a'], extra: [] } });
  change(7, {
    refused: [{ account: 'a', want: 'w', target: target(7), code: 'trust_policy_full', detail: 'no room' }],
  });
  const mappings = parseMappings(
    Object.fromEntries(
      Array.from({ length: roleCount + 1 }, (_, index) => [
        `org-${index}`,
        JSON.stringify([{ iam_role_arn: target(index), proxy_iam_role_arn: proxy(index) }]),
      ]),
    ),
  );
  const sources: TrustReportSources = {
    mappings,
    status: (arn) => statuses.get(arn),
    wanted: (account) => accounts.get(account)?.wanted,
    namespace: 'domino-compute',
  };
  const roles = reportedRoles(mappings, [...statuses.values()]);

  it('are reported completely without blocking the event loop for 150 ms', async () => {
    const delay = monitorEventLoopDelay({ resolution: 5 });
    delay.enable();
    const reports = await roleReports(roles, sources);
    delay.disable();
    assert.equal(reports.length, roleCount + 1);
    assert.equal(reports.flatMap((report) => report.members).filter(({ user }) => user !== undefined).length, runCount);
    // One turn would block for the whole time. The limit is generous, for a machine with other work.
    assert.ok(delay.max / 1e6 < 150, `${delay.max / 1e6} ms`);
  });

  it('have correct totals', () => {
    assert.deepEqual(trustTotals(roles, sources, now), {
      ...{ proxy_roles: 501, members: 5_000, runs_with_roles: 5_000, in_error: 1, waiting: 1 },
      ...{ external_changes: 1, contested: 0, held: 1, not_checked_yet: 1 },
    });
  });

  it('need attention only with a problem, or with an external change of the last day', () => {
    const found = roles.filter((arn) => needsAttention(sources.status(arn), now));
    assert.deepEqual(found, [3, 4, 5, 7].map(proxy));
    const inOrder = sources.status(proxy(0));
    assert.ok(inOrder && !needsAttention(inOrder, now));
    const problem = { code: 'audience_missing' as const, detail: 'the provider does not list it' };
    const tokens = { granted: true, denied: {}, problem };
    assert.ok(needsAttention({ ...inOrder, tokens }, now), 'role tokens that do not work');
  });

  it('do not prevent finding one user by name', () => {
    const deps = { accounts, pods: { all: () => pods }, seenCallers: { find: () => [] } };
    const found = knownUser('user-42', deps);
    assert.equal(found?.id, 'u42');
    assert.equal(found?.pods.length, 50);
    assert.equal(found?.request?.user.name, 'user-42');
  });
});
