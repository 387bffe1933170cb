/** Proves what thousands of denied service accounts cost, and what the status says about those that do not fit. */
import assert from 'node:assert/strict';
import type { Pod } from '../../src/kubernetes/client.ts';
import { parseMappings } from '../../src/mappings/role-mappings.ts';
import { newProxyRole, type ProxyRole } from '../../src/proxy-roles/proxy-role.ts';
import { statusOf } from '../../src/proxy-roles/role-status.ts';
import { fittingTokens } from '../../src/proxy-roles/role-tokens.ts';
import { trustStatusForm } from '../../src/proxy-roles/status.ts';
import { TokenTrusts } from '../../src/proxy-roles/token-trusts.ts';
import { tokenWaysIn } from '../../src/proxy-roles/ways-in.ts';
import { editTrustPolicy } from '../../src/trust-policy/document.ts';
import type { TokenTrust } from '../../src/trust-policy/role-tokens.ts';
import { scope } from '../support/trust-policies.ts';

describe('thousands of service accounts whose tokens are to be denied', () => {
  const arn = 'arn:aws:iam::111111111111:role/list';
  const target = 'arn:aws:iam::222222222222:role/list';
  const start = Date.parse('2026-11-21T12:00:00Z');
  const many = 3_000;
  const names = Array.from({ length: many }, (_, index) => `run-${index.toString(16).padStart(24, '0')}`);

  /** Live runs that hold tokens of an organization whose mapping is gone; another mapping keeps the role's tokens. */
  function world() {
    const entry = { domino_org: 'acme', iam_role_arn: target, proxy_iam_role_arn: arn, carrier: 'token' };
    const mappings = parseMappings({ acme: JSON.stringify([entry]) });
    const requestOf = (name: string, org: string) => {
      const about = {
        id: name,
        run: name.slice(4),
        user: { id: 'u', name: 'u' },
        at: '2026-11-21T12:00:00Z',
        roles: [],
      };
      return JSON.stringify({ ...about, tokens: [{ target, arn, org }] });
    };
    const accounts = new Map(names.map((name) => [name, { wanted: requestOf(name, 'former') }]));
    const live = new Set(names);
    const podOf = (name: string) =>
      ({ name, run: name.slice(4), account: name, user: 'u', live: true }) as unknown as Pod;
    const role = newProxyRole(arn, 4_096);
    const seen = { looks: 0, changes: 0 };
    const earliest = () => {
      seen.looks += 1;
      return start;
    };
    const trusts = new TokenTrusts({
      view: {
        accounts,
        pods: { ofAccount: (name) => (live.has(name) ? [podOf(name)] : []) },
        isRevoked: () => false,
      },
      names: () => accounts.keys(),
      mappings: () => mappings,
      revocations: () => new Map(),
      isUnmanaged: () => false,
      lifeMs: 600_000,
      time: { earliest, latest: () => start },
      role: () => role,
      roles: () => [role],
      onChange: () => {
        seen.changes += 1;
      },
    });
    return {
      trusts,
      role,
      seen,
      live,
      give: (name: string) => accounts.set(name, { wanted: requestOf(name, 'acme') }),
    };
  }

  it('are not all computed again for each one that comes, changes or ends', () => {
    const { trusts, role, seen, live, give } = world();
    for (const name of names) trusts.account(name);
    assert.equal(role.desired.tokens?.denied.size, many);
    assert.ok(seen.looks < 10 * many, `${seen.looks} looks at ${many} accounts`);
    const before = { ...seen };
    const [ends = '', has = ''] = names;
    live.delete(ends);
    trusts.account(ends);
    assert.deepEqual([seen.changes - before.changes, role.desired.tokens?.denied.has(ends)], [0, true]);
    give(has);
    trusts.account(has);
    assert.deepEqual([seen.changes - before.changes, role.desired.tokens?.denied.has(has)], [1, false]);
    assert.ok(seen.looks - before.looks < 20, `${seen.looks - before.looks} looks for two accounts`);
    const one = role.desired.tokens;
    trusts.all();
    assert.equal(role.desired.tokens, one, 'the same are denied, whether computed one by one or all at once');
  });

  it('fit in the status of a ConfigMap, and those that the document denies are always in it', () => {
    const { trusts, role } = world();
    trusts.all();
    for (let index = 0; index < 20_000; index += 1)
      role.desired.tokenEnds.set(`account-${index}`, new Date(start).toISOString());
    role.observed.tokens = { ...(role.desired.tokens as TokenTrust), denied: new Set(names.slice(-100)) };
    const status = statusOf(role, { isProxy: true, isUnmanaged: false });
    const text = JSON.stringify(trustStatusForm.data(status));
    assert.ok(Buffer.byteLength(text) < 300_000, `${Buffer.byteLength(text)} bytes`);
    for (const name of names.slice(-100)) assert.ok(Object.hasOwn(status.tokens?.denied ?? {}, name), name);
  });

  it('still have a way in when the document cannot deny them, and the role reports trust_policy_full', () => {
    const { trusts, role } = world();
    trusts.all();
    const other = { Effect: 'Allow', Principal: { AWS: '111111111111' }, Action: 'sts:AssumeRole' };
    const before = JSON.stringify({ Version: '2012-10-17', Statement: [other] });
    let edits = 0;
    const edit = (some: TokenTrust) => {
      edits += 1;
      return editTrustPolicy(scope, before, undefined, () => false, role.observed.maxChars, undefined, some);
    };
    const fits = (some: TokenTrust) => edit(some).kind !== 'refused';
    const wanted = role.desired.tokens as TokenTrust;
    const { tokens, problem } = fittingTokens(role, { ...wanted, revoked: wanted.denied }, fits);
    const denied = tokens?.denied.size ?? 0;
    assert.ok(denied > 100 && edits < 20, `${edits} edits for ${denied}`);
    assert.equal(problem?.code, 'trust_policy_full');
    assert.match(problem?.detail ?? '', new RegExp(`${denied} service accounts, and those of ${many - denied} more`));
    role.conditions.tokensProblem = problem;
    const inside = letIn(role, tokens as TokenTrust, edit(tokens as TokenTrust));
    assert.deepEqual(inside, [names.at(-1), 'trust_policy_full']);
  });

  /** Which of the first and the last service account still has a way in, and why. */
  function letIn(role: ProxyRole, tokens: TokenTrust, edit: ReturnType<typeof editTrustPolicy>) {
    assert.ok(edit.kind !== 'refused');
    role.observed.tokens = tokens;
    role.observed.document = edit.document;
    const status = statusOf(role, { isProxy: true, isUnmanaged: false });
    const held = new Map([names[0] ?? '', names.at(-1) ?? ''].map((name) => [name, [{ arn }]]));
    const [way, ...more] = tokenWaysIn([status], scope, held, start);
    assert.deepEqual(more, []);
    return [way?.service_accounts.join(), way?.code];
  }
});
