/** Proves which members the removal guard holds: by what the API server lists, and where it does not answer. */
import assert from 'node:assert/strict';
import type { ConfigMap, Kubernetes, Pod, ServiceAccount } from '../../src/kubernetes/client.ts';
import { KubernetesError } from '../../src/kubernetes/transport.ts';
import { createLog } from '../../src/lib/log.ts';
import { organizationConfigMap } from '../../src/mappings/organizations.ts';
import { mappingConfigMap } from '../../src/mappings/role-mappings.ts';
import { stillRequested } from '../../src/proxy-roles/removal-guard.ts';
import { newRoleRequest } from '../../src/runs/role-request.ts';

const role = 'arn:aws:iam::111111111111:role/acme-proxy';
const target = 'arn:aws:iam::222222222222:role/acme-list-bucket-role';
const run = (digit: string) => digit.repeat(24);

describe('the removal guard', () => {
  let pods: Pod[];
  let accounts: ServiceAccount[];
  let mappings: ConfigMap;
  let organizations: ConfigMap | undefined;
  let gone: string[];
  let revoked: string | undefined;

  beforeEach(() => {
    const data = { acme: JSON.stringify([{ iam_role_arn: target, proxy_iam_role_arn: role }]) };
    [pods, accounts, gone] = [[], [], []];
    organizations = undefined;
    revoked = undefined;
    mappings = { name: mappingConfigMap, resourceVersion: '1', annotations: {}, data };
    // So that the cluster is not empty; a test below has an empty one.
    account('other');
    pod('other', run('f'), 'somebody');
  });

  function account(name: string, wanted?: string) {
    accounts.push({ name, resourceVersion: '1', wanted, ours: false, madeFor: undefined });
  }
  function pod(name: string, of: string, user: string, live = true) {
    const more = { userName: user, workload: undefined, uid: '', hasPodIdentity: false };
    pods.push({ name: `pod-${pods.length}`, run: of, account: name, user, live, ...more });
  }
  /** The role request of alice's run a; the runs in `also` sent one before it. */
  const want = (also: string[] = [], proxy = role, org_id?: string) =>
    JSON.stringify(
      newRoleRequest(
        {
          run: run('a'),
          user: { id: 'alice', name: 'alice' },
          roles: [{ target, proxies: [{ arn: proxy, org: 'acme', org_id }] }],
        },
        0,
        also,
      ),
    );
  const held = async (kubernetes: Partial<Kubernetes> = {}) => {
    const reader = {
      listPods: async () => pods,
      listServiceAccounts: async () => accounts,
      getConfigMap: async (name: string) => (name === mappingConfigMap ? mappings : organizations),
      getServiceAccount: async (name: string) => {
        if (gone.includes(name)) throw new KubernetesError('not_found', 'gone');
        throw new KubernetesError('unavailable', 'away');
      },
      ...kubernetes,
    };
    return [...(await stillRequested(reader, role, ['sa-1', 'sa-2'], (one) => one === revoked, createLog('silent')))];
  };

  it('holds service accounts while a run that sent a request is live', async () => {
    account('sa-1', want());
    pod('sa-1', run('a'), 'alice');
    account('sa-2', want([run('b')]));
    pod('sa-2', run('b'), 'alice');
    assert.deepEqual(await held(), ['sa-1', 'sa-2']);
  });

  it('does not hold service accounts that have a pod of a revoked run', async () => {
    for (const name of ['sa-1', 'sa-2']) {
      account(name, want());
      pod(name, run('a'), 'alice');
    }
    pod('sa-2', run('b'), 'alice');
    assert.deepEqual(await held(), ['sa-1', 'sa-2']);
    revoked = run('b');
    assert.deepEqual(await held(), ['sa-1']);
    revoked = run('a');
    assert.deepEqual(await held(), []);
  });

  it('does not hold service accounts whose pods belong to a run without a request or to another user', async () => {
    account('sa-1', want([run('b')]));
    pod('sa-1', run('a'), 'alice', false);
    pod('sa-1', run('c'), 'alice');
    account('sa-2', want());
    pod('sa-2', run('a'), 'bob');
    assert.deepEqual(await held(), []);
  });

  it('does not hold service accounts without a live pod, or with a request for another or unmapped role', async () => {
    account('sa-1', want());
    account('sa-2', want([], `${role}-2`));
    pod('sa-2', run('a'), 'alice');
    assert.deepEqual(await held(), []);
    pod('sa-1', run('a'), 'alice');
    assert.deepEqual(await held(), ['sa-1']);
    mappings = { ...mappings, data: {} };
    assert.deepEqual(await held(), []);
  });

  it('does not hold service accounts whose request names an organization id other than the accepted one', async () => {
    account('sa-1', want([], role, '1'));
    account('sa-2', want([], role, '2'));
    for (const name of ['sa-1', 'sa-2']) pod(name, run('a'), 'alice');
    assert.deepEqual(await held(), ['sa-1', 'sa-2']);
    const record = { id: '2', by: 'admin', at: '2026-11-21T12:00:00.000Z', contenders: [] };
    const data = { acme: JSON.stringify(record) };
    organizations = { name: organizationConfigMap, resourceVersion: '1', annotations: {}, data };
    assert.deepEqual(await held(), ['sa-2']);
  });

  it('holds members that an earlier release added, while their pods belong to one user', async () => {
    for (const name of ['sa-1', 'sa-2']) {
      account(name);
      pod(name, run('a'), 'alice');
    }
    pod('sa-2', run('b'), 'bob');
    assert.deepEqual(await held(), ['sa-1']);
  });

  it('holds all members when the API server does not answer', async () => {
    const away = { listPods: () => Promise.reject(new KubernetesError('unavailable', 'away')) };
    assert.deepEqual(await held(away), ['sa-1', 'sa-2']);
  });

  it('looks up each service account when the list has none, and holds those not known to be gone', async () => {
    gone = ['sa-1'];
    const noAccounts = { listServiceAccounts: async () => [] };
    assert.deepEqual(await held(noAccounts), ['sa-2']);
    assert.deepEqual(await held({ ...noAccounts, listPods: async () => [] }), ['sa-2']);
  });

  it('holds no member when two lists show a cluster without pods', async () => {
    account('sa-1', want());
    let lists = 0;
    const none = async () => {
      lists += 1;
      return [];
    };
    assert.deepEqual(await held({ listPods: none }), []);
    assert.equal(lists, 2);
  });

  it('ignores an empty list of pods that the next list contradicts', async () => {
    account('sa-1', want());
    pod('sa-1', run('a'), 'alice');
    let lists = 0;
    const once = async () => {
      lists += 1;
      return lists === 1 ? [] : pods;
    };
    assert.deepEqual(await held({ listPods: once }), ['sa-1']);
  });
});
