/** Proves the rule that decides whether a role request counts. */
import assert from 'node:assert/strict';
import type { Pod, ServiceAccount } from '../../src/kubernetes/client.ts';
import { effectiveRequest, effectiveRequests, mayBeFromEarlierRelease } from '../../src/runs/effective-request.ts';
import { newRoleRequest } from '../../src/runs/role-request.ts';

const run = (digit: string) => digit.repeat(24);

describe('the role request of a service account', () => {
  let pods: Pod[];
  let accounts: Map<string, ServiceAccount>;
  let revoked: Set<string>;

  beforeEach(() => {
    [pods, accounts, revoked] = [[], new Map(), new Set()];
  });

  const view = () => ({
    accounts,
    pods: { ofAccount: (name: string) => pods.filter(({ account }) => account === name) },
    isRevoked: (id: string) => revoked.has(id),
  });
  function account(name: string, wanted?: string) {
    accounts.set(name, { name, resourceVersion: '1', wanted, ours: false, madeFor: undefined });
  }
  function pod(name: string, of: string, user = 'alice') {
    const more = { userName: user, workload: undefined, uid: '', hasPodIdentity: false, live: true };
    pods.push({ name: `pod-${pods.length}`, run: of, account: name, user, ...more });
  }
  const asked = (also: string[] = []) =>
    JSON.stringify(newRoleRequest({ run: run('a'), user: { id: 'alice', name: 'alice' }, roles: [] }, 0, also));
  const counts = () => effectiveRequest('sa', view()) !== undefined;

  it('invariant 5: counts while a run that asked is live, and for a later run of the user only if that asked', () => {
    account('sa', asked());
    assert.equal(counts(), false);
    pod('sa', run('a'));
    assert.equal(counts(), true);
    pod('sa', run('b'));
    assert.equal(counts(), true);
    pods = pods.filter((one) => one.run === run('b'));
    assert.equal(counts(), false);
    account('sa', asked([run('b')]));
    assert.equal(counts(), true);
  });

  it('does not count while a pod of another user or of a revoked run uses the service account', () => {
    account('sa', asked());
    pod('sa', run('a'));
    pod('sa', run('b'), 'bob');
    assert.equal(counts(), false);
    pods.pop();
    pod('sa', run('b'));
    assert.equal(counts(), true);
    revoked.add(run('b'));
    assert.equal(counts(), false);
  });

  it('does not count for an invalid service account name, or when the annotation is not a request', () => {
    account('sa*', asked());
    pod('sa*', run('a'));
    assert.deepEqual([...effectiveRequests(view()).keys()], []);
    account('sa', '{"cleared":true}');
    pod('sa', run('a'));
    assert.deepEqual([...effectiveRequests(view()).keys()], []);
    account('sa', asked());
    assert.deepEqual([...effectiveRequests(view()).keys()], ['sa']);
  });

  it('may be missing where an earlier release added the member and one user’s pods alone use it', () => {
    const may = () => mayBeFromEarlierRelease('sa', view());
    pod('sa', run('a'));
    assert.equal(may(), false);
    account('sa');
    assert.equal(may(), true);
    pod('sa', run('b'), 'bob');
    assert.equal(may(), false);
    pods.pop();
    revoked.add(run('a'));
    assert.equal(may(), false);
    revoked.clear();
    account('sa', asked());
    assert.equal(may(), false);
  });
});
