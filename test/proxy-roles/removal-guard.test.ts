/** Proves who is held when many are about to be dropped: what the API server says of them, and what where it says nothing. */
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

describe('a fresh look before many are dropped', () => {
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
    // A cluster that is not empty, see below.
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
  /** What alice asked for by run a, and before that by the runs in `also`. */
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

  it('holds the service accounts of which a run that asked lives', async () => {
    account('sa-1', want());
    pod('sa-1', run('a'), 'alice');
    account('sa-2', want([run('b')]));
    pod('sa-2', run('b'), 'alice');
    assert.deepEqual(await held(), ['sa-1', 'sa-2']);
  });

  it('does not hold those of a revoked run, whose pods the copy of the cluster may lack', async () => {
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

  it('does not hold those whose account has gone to a run that did not ask, also of the same user', async () => {
    account('sa-1', want([run('b')]));
    pod('sa-1', run('a'), 'alice', false);
    pod('sa-1', run('c'), 'alice');
    account('sa-2', want());
    pod('sa-2', run('a'), 'bob');
    assert.deepEqual(await held(), []);
  });

  it('does not hold those without a live pod, whose want is for another role, or no longer mapped', async () => {
    account('sa-1', want());
    account('sa-2', want([], `${role}-2`));
    pod('sa-2', run('a'), 'alice');
    assert.deepEqual(await held(), []);
    pod('sa-1', run('a'), 'alice');
    assert.deepEqual(await held(), ['sa-1']);
    mappings = { ...mappings, data: {} };
    assert.deepEqual(await held(), []);
  });

  it('does not hold those whose organization is another one than the one that was accepted', async () => {
    account('sa-1', want([], role, '1'));
    account('sa-2', want([], role, '2'));
    for (const name of ['sa-1', 'sa-2']) pod(name, run('a'), 'alice');
    assert.deepEqual(await held(), ['sa-1', 'sa-2']);
    const record = { id: '2', by: 'admin', at: '2026-11-21T12:00:00.000Z', contenders: [] };
    const data = { acme: JSON.stringify(record) };
    organizations = { name: organizationConfigMap, resourceVersion: '1', annotations: {}, data };
    assert.deepEqual(await held(), ['sa-2']);
  });

  it('holds the service accounts that an earlier release let in while their run lives and one user uses them', async () => {
    for (const name of ['sa-1', 'sa-2']) {
      account(name);
      pod(name, run('a'), 'alice');
    }
    pod('sa-2', run('b'), 'bob');
    assert.deepEqual(await held(), ['sa-1']);
  });

  it('holds all where the API server cannot be asked', async () => {
    const away = { listPods: () => Promise.reject(new KubernetesError('unavailable', 'away')) };
    assert.deepEqual(await held(away), ['sa-1', 'sa-2']);
  });

  it('asks for each where no account is listed, and holds those who are not known to be gone', async () => {
    gone = ['sa-1'];
    const noAccounts = { listServiceAccounts: async () => [] };
    assert.deepEqual(await held(noAccounts), ['sa-2']);
    assert.deepEqual(await held({ ...noAccounts, listPods: async () => [] }), ['sa-2']);
  });

  it('holds nobody where the cluster has no pod at all, as the API server says twice', async () => {
    account('sa-1', want());
    let lists = 0;
    const none = async () => {
      lists += 1;
      return [];
    };
    assert.deepEqual(await held({ listPods: none }), []);
    assert.equal(lists, 2);
  });

  it('does not believe a list of no pods that the next list contradicts', async () => {
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
