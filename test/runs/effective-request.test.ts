/** Proves the one rule for "does this request count". */
import assert from 'node:assert/strict';
import type { Pod, ServiceAccount } from '../../src/kubernetes/client.ts';
import { effectiveRequest, effectiveRequests, mayBeFromEarlierRelease } from '../../src/runs/effective-request.ts';
import { newRoleRequest } from '../../src/runs/role-request.ts';

const run = (digit: string) => digit.repeat(24);

describe('the request of a service account', () => {
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

  it('invariant 5: counts while a run that asked lives, and for a later run of the same user only when that asked', () => {
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

  it('does not count while a pod of another user, or a revoked run, uses the service account', () => {
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

  it('does not count under a name that Kubernetes would not accept, or when the annotation is no request', () => {
    account('sa*', asked());
    pod('sa*', run('a'));
    assert.deepEqual([...effectiveRequests(view()).keys()], []);
    account('sa', '{"cleared":true}');
    pod('sa', run('a'));
    assert.deepEqual([...effectiveRequests(view()).keys()], []);
    account('sa', asked());
    assert.deepEqual([...effectiveRequests(view()).keys()], ['sa']);
  });

  it('an earlier release may have let in a service account without an annotation that one user alone uses', () => {
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
