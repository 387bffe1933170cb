/** Proves invariant 11 for organization ids, on a replica that lost its watches. */
import assert from 'node:assert/strict';
import type { V1ConfigMap } from '@kubernetes/client-node';
import { organizationConfigMap } from '../../src/mappings/organizations.ts';
import { mappingConfigMap } from '../../src/mappings/role-mappings.ts';
import { organizationIdOf } from '../stack/domino.ts';
import { until } from '../support/clock.ts';
import { mapRoles, startTokenWorld } from '../support/role-tokens.ts';
import { type Replica, runId, type World } from '../support/world.ts';

describe('role tokens of an organization, on a replica that lost its watches', () => {
  let world: World;
  let replica: Replica;
  let entry: object;

  beforeEach(async () => {
    const { proxy, target, ...started } = await startTokenWorld(['alice']);
    ({ world, replica } = started);
    entry = { iam_role_arn: target, proxy_iam_role_arn: proxy, carrier: 'token' };
  });
  afterEach(() => world.stop());

  const ask = (pod: string, run = runId(1), as = 'alice') =>
    replica.call('POST', '/role_tokens', { as, body: { run_id: run, pod } });
  const given = async (...asked: Parameters<typeof ask>) => (await ask(...asked)).body.tokens?.length;
  const record = (id: string) => ({ id, by: 'owner', at: new Date(world.clock.now()).toISOString(), contenders: [] });
  /** Writes keys of a ConfigMap, as another replica does. */
  function write(name: string, data: Record<string, unknown>): void {
    const stored = world.kubernetes.get<V1ConfigMap>('configmaps', 'domino-field', name);
    const texts = Object.fromEntries(Object.entries(data).map(([key, value]) => [key, JSON.stringify(value)]));
    const metadata = stored?.metadata ?? { name, namespace: 'domino-field' };
    world.kubernetes.put('configmaps', { ...stored, metadata, data: { ...stored?.data, ...texts } });
  }
  async function loseWatches(): Promise<void> {
    const lost = () => replica.log.filter(({ msg }) => /watch lost/.test(String(msg))).length;
    const before = lost();
    world.kubernetes.knobs.refuseListsOf = 'configmaps';
    world.kubernetes.cutWatches();
    await until(() => lost() >= before + 8);
  }

  it('are not given once an administrator has accepted another organization of the name', async () => {
    await mapRoles(replica, 'acme', entry);
    const { pod } = world.startRun(runId(1), 'alice');
    await until(async () => (await given(pod)) === 1);
    await loseWatches();
    write(organizationConfigMap, { acme: record('f'.repeat(24)) });
    assert.equal(await given(pod), 0);
    write(organizationConfigMap, { acme: record(organizationIdOf('acme')) });
    assert.equal(await given(pod), 1);
  });

  it('are not given if the name was mapped meanwhile for another organization', async () => {
    await mapRoles(replica, 'team', entry);
    world.domino.addUser({ name: 'carol', orgs: ['team'] });
    const other = world.startRun(runId(2), 'carol');
    await until(async () => (await given(other.pod, runId(2), 'carol')) === 1);
    const { pod } = world.startRun(runId(1), 'alice');
    await loseWatches();
    write(organizationConfigMap, { acme: record('f'.repeat(24)) });
    write(mappingConfigMap, { acme: [{ ...entry, domino_org: 'acme' }] });
    assert.equal(await given(pod), 0);
  });

  it('are not given if another organization is accepted while the token is made', async () => {
    await mapRoles(replica, 'acme', entry);
    const { pod } = world.startRun(runId(1), 'alice');
    await until(async () => (await given(pod)) === 1);
    await loseWatches();
    world.kubernetes.knobs.tokenLatencyMs = 1_000;
    const making = () => world.kubernetes.calls.get('create serviceaccounts/token') ?? 0;
    const before = making();
    const asking = given(pod);
    await until(() => making() > before);
    write(organizationConfigMap, { acme: record('f'.repeat(24)) });
    assert.equal(await asking, 0);
  });
});
