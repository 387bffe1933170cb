/** Proves the program of `helm test` against the stand-ins: what it prints where all is well, and when it fails. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { until } from '../support/clock.ts';
import { type Replica, startWorld, type World } from '../support/world.ts';

describe('the program of `helm test`', function () {
  this.timeout(120_000);
  let world: World;
  let replica: Replica;
  const folder = mkdtempSync(join(tmpdir(), 'irsa-verify-'));
  const kubeconfig = join(folder, 'kubeconfig');

  before(async () => {
    world = await startWorld();
    replica = await world.startReplica();
    writeFileSync(kubeconfig, world.kubernetes.kubeconfig());
  });
  after(async () => {
    rmSync(folder, { recursive: true, force: true });
    await world.stop();
  });

  async function verify(...args: string[]) {
    const env = { ...process.env, ...world.environment, KUBECONFIG: kubeconfig };
    const child = spawn(process.execPath, ['--import', 'tsx', 'src/helm-test.ts', ...args], { env });
    const ended = once(child, 'close');
    const [out, error] = await Promise.all([text(child.stdout), text(child.stderr)]);
    const [code] = await ended;
    return { code, out, error };
  }

  it('reports that the service is ready, and fails where the service is unreachable', async () => {
    const found = await verify('ready', replica.url);
    assert.deepEqual([found.code, found.error], [0, '']);
    assert.match(found.out, /readyz answers 200: .*"status":"Ready"/);
    const lost = await verify('ready', 'http://127.0.0.1:1');
    assert.equal(lost.code, 1);
    assert.notEqual(lost.error, '');
  });

  it('reads one mapped role without a write, and fails where IAM refuses or the role does not exist', async () => {
    const none = await verify('role');
    assert.deepEqual([none.code, none.error], [0, '']);
    assert.match(none.out, /AWS knows the service as arn:aws:/);
    assert.match(none.out, /no organization is mapped yet/);
    await world.map(replica, 'acme', world.addRolePair('listed'));
    // The leader's own write, which adds its statement; after that it has nothing to write.
    await until(() => world.aws.writes.length > 0);
    const writes = world.aws.writes.length;
    const read = await verify('role');
    assert.deepEqual([read.code, read.error], [0, '']);
    assert.match(read.out, /role\/listed was read: its trust policy has \d+ characters/);
    assert.equal(world.aws.writes.length, writes);
    world.aws.knobs.failRate = { GetRole: { code: 'AccessDenied', rate: 1 } };
    const denied = await verify('role');
    world.aws.knobs.failRate = {};
    assert.equal(denied.code, 1);
    assert.match(denied.error, /not allowed to do iam:GetRole on role listed/);
    await world.map(replica, 'acme', {
      target: 'arn:aws:iam::222222222222:role/x',
      proxies: ['arn:aws:iam::111111111111:role/gone'],
    });
    const refused = await verify('role');
    assert.equal(refused.code, 1);
    assert.match(refused.error, /role\/gone|gone/);
  });

  it('prints its usage when it is called without arguments', async () => {
    const { code, error } = await verify();
    assert.equal(code, 1);
    assert.match(error, /usage/);
  });
});
