/** Owns the runs of a test on a real API server: they come and go, and IAM is compared with what then should be there. */
import assert from 'node:assert/strict';
import { until } from '../../support/clock.ts';
import type { Replica } from '../../support/replica.ts';
import { runId } from '../../support/world.ts';
import type { RealWorld } from './world.ts';

export interface Lives {
  /** The service accounts of the runs that should be members, by run. */
  readonly model: Map<string, string>;
  /** The id of a run that was never used. */
  nextRun(): string;
  ask(run: string): ReturnType<Replica['call']>;
  /** A new run, which has not requested roles yet. */
  start(): Promise<{ run: string; account: string }>;
  /** Requests roles until the run is granted, as the sidecar does; from then on it should be a member. */
  untilGranted(run: string): Promise<void>;
  /** A new run that is granted. */
  grant(): Promise<void>;
  /** Ends the oldest run. */
  end(): Promise<void>;
  /** Waits until the trust policy has just the members that it should have. */
  settled(): Promise<void>;
}

const patienceMs = 90_000;

/** A replica, `alice`'s role, and three runs of hers that have it. */
export async function startLives(world: RealWorld) {
  const replica = await world.startReplica();
  world.domino.addUser({ name: 'alice', orgs: ['acme'] });
  const pair = world.addRolePair('acme');
  await world.map(replica, 'acme', pair);
  const lives = createLives(world, replica, pair.proxies[0] ?? '');
  for (let each = 0; each < 3; each += 1) await lives.grant();
  return { replica, pair, lives };
}

/** Grants one more run, ends one, and checks that IAM then has exactly the live runs. */
export async function goOn(lives: Lives): Promise<void> {
  await lives.grant();
  await lives.end();
  await lives.settled();
}

/** @param proxy the role that `alice` is mapped to. */
function createLives(world: RealWorld, replica: Replica, proxy: string): Lives {
  const model = new Map<string, string>();
  let next = 1;
  const nextRun = () => runId(next++);
  const ask = (run: string) => replica.call('POST', '/map_iam_roles_to_pod_sa', { as: 'alice', body: { run_id: run } });
  async function start() {
    const run = nextRun();
    const { account } = await world.startRun(run, 'alice');
    return { run, account };
  }
  async function untilGranted(run: string): Promise<void> {
    let last = '';
    await until(async () => {
      const answer = await ask(run);
      last = answer.text;
      return answer.status === 200;
    }, patienceMs).catch(() => assert.fail(`never granted: ${last}`));
    const account = `run-${run}`;
    model.set(run, account);
    assert.ok(
      world.members(proxy).includes(account),
      `answered 200 for a service account that is not a member: ${last}`,
    );
  }
  return {
    model,
    nextRun,
    ask,
    start,
    untilGranted,
    grant: async () => untilGranted((await start()).run),
    end: async () => {
      const [run = ''] = model.keys();
      await world.endRun(run);
      model.delete(run);
    },
    settled: async () => {
      const wanted = () => [...model.values()].sort();
      const isSettled = () => JSON.stringify(world.members(proxy)) === JSON.stringify(wanted());
      await until(isSettled, patienceMs).catch(async () => {
        const { text } = await replica.call('GET', '/trust_status', { as: 'admin' });
        assert.deepEqual(world.members(proxy), wanted(), text);
      });
    },
  };
}
