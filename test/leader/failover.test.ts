import assert from 'node:assert/strict';
import { buildService, type ReplicaProcess, type StackProcess, startReplica, startStack } from '../stack/processes.ts';
import { until } from '../support/clock.ts';
import { runId } from '../support/world.ts';

/** Replicas in processes of their own, since only a process can be killed in the middle of something. */
describe('replicas that die', function () {
  this.timeout(60_000);
  let stack: StackProcess;
  let next = 5000;

  before(async () => {
    [stack] = await Promise.all([startStack(), buildService()]);
    await stack.order('add-user', { name: 'alice', orgs: ['acme'] });
    const pair = await stack.order('add-role-pair', { name: 'acme' });
    const replica = await start();
    const mapping = { domino_org: 'acme', iam_role_arn: pair.target, proxy_iam_role_arn: pair.proxies[0] };
    const answer = await post(replica, '/update_role_mapping', mapping, await stack.token('admin'));
    assert.equal(answer.status, 200);
    await replica.stop();
  });
  afterEach(async () => {
    await stack.knobs('aws', { latencyMs: { UpdateAssumeRolePolicy: 0, GetRole: 0 } });
  });
  after(() => stack.stop());

  /** @param name by which the AWS stand-in knows the replica. */
  async function start(name = 'replica'): Promise<ReplicaProcess> {
    const replica = await startReplica(stack, { settings: { LEASE_SECONDS: '3', AWS_SDK_UA_APP_ID: name } });
    await replica.ready;
    return replica;
  }

  async function post(replica: ReplicaProcess, path: string, body: object, token: string) {
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${token}` };
    const response = await fetch(replica.url + path, { method: 'POST', headers, body: JSON.stringify(body) });
    return { status: response.status, headers: response.headers, text: await response.text() };
  }

  async function ask(replica: ReplicaProcess, run: string) {
    return post(replica, '/map_iam_roles_to_pod_sa', { run_id: run }, await stack.token('alice'));
  }

  async function newRun(): Promise<string> {
    const run = runId(next++);
    await stack.order('start-runs', { user: 'alice', runs: [run] });
    return run;
  }

  /** Resolves when a write is on its way to IAM. */
  async function writeUnderWay(): Promise<void> {
    for (;;) {
      const writes = (await (await fetch(`${stack.awsUrl}/__stack/writes`)).json()) as { endedAt?: number }[];
      if (writes.some(({ endedAt }) => endedAt === undefined)) return;
    }
  }

  it('in the middle of a write lose no grant: another replica finishes the write', async () => {
    const holder = await start();
    const other = await start();
    await stack.knobs('aws', { latencyMs: { UpdateAssumeRolePolicy: 500 } });
    const run = await newRun();
    const answer = ask(other, run);
    await writeUnderWay();
    holder.child.kill('SIGKILL');
    const { status, text, headers } = await answer;
    if (status === 503) {
      assert.ok(headers.get('retry-after'));
      assert.equal((await ask(other, run)).status, 200);
    } else assert.equal(status, 200, text);
    assert.deepEqual(await stack.order('trusting', { account: `run-${run}`, proxies: ['acme'] }), ['acme']);
    const writes = (await (await fetch(`${stack.awsUrl}/__stack/writes`)).json()) as { overlaps: number }[];
    assert.ok(writes.every(({ overlaps }) => overlaps === 0));
    await other.stop();
  });

  it('invariant 1: on SIGTERM, answer the request under way and hand over the lease', async () => {
    const holder = await start();
    const other = await start();
    await stack.knobs('aws', { latencyMs: { UpdateAssumeRolePolicy: 300 } });
    const run = await newRun();
    const answer = ask(holder, run);
    await writeUnderWay();
    const took = other.child.line(({ msg }) => String(msg).startsWith('holding the lease'));
    holder.child.kill('SIGTERM');
    assert.equal((await answer).status, 200);
    assert.equal(await holder.child.exited, 0);
    await took;
    assert.deepEqual(await stack.order('trusting', { account: `run-${run}`, proxies: ['acme'] }), ['acme']);
    await other.stop();
  });

  it('invariant 1: a leader paused before a write does not write when it wakes, and no grant is lost', async () => {
    const holder = await start('paused');
    const other = await start('other');
    const took = other.child.line(({ msg }) => String(msg).startsWith('holding the lease'));
    const reads = async () => {
      const calls = (await (await fetch(`${stack.awsUrl}/__stack/calls`)).json()) as { GetRole?: number };
      return calls.GetRole ?? 0;
    };
    await stack.knobs('aws', { latencyMs: { GetRole: 500 } });
    const before = await reads();
    const run = await newRun();
    const answer = ask(other, run);
    // The leader reads the trust policy, which it would write next.
    await until(async () => (await reads()) > before);
    holder.child.kill('SIGSTOP');
    await stack.knobs('aws', { latencyMs: { GetRole: 0 } });
    await took;
    if ((await answer).status !== 200) assert.equal((await ask(other, run)).status, 200);
    const woke = holder.child.line(({ msg }) => String(msg).startsWith('the lease is lost'));
    holder.child.kill('SIGCONT');
    await woke;
    const late = await newRun();
    assert.equal((await ask(holder, late)).status, 200);
    const account = (one: string) => stack.order('trusting', { account: `run-${one}`, proxies: ['acme'] });
    assert.deepEqual(await Promise.all([account(run), account(late)]), [['acme'], ['acme']]);
    await Promise.all([holder.stop(), other.stop()]);
    const writes = (await (await fetch(`${stack.awsUrl}/__stack/writes`)).json()) as { by: string }[];
    assert.deepEqual(new Set(writes.map(({ by }) => by).filter((by) => by !== 'replica')), new Set(['other']));
  });
});
