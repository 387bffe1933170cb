/** Owns the case that each fault on the way to IAM must pass: IAM then has the live runs and the owner's statement. */
import assert from 'node:assert/strict';
import { until } from '../../support/clock.ts';
import { assetAccount, runId } from '../../support/world.ts';
import { faults } from './faults.ts';
import { ownersStatement, type Scene } from './scene.ts';

const proxyName = 'acme-faulty-proxy';
const patienceMs = 60_000;
/** How many calls of each action meet the fault: the first tries and some of what follows. */
const times = 3;

/** @param scene called within each case. */
export function faultCases(scene: () => Scene): void {
  describe('IAM has exactly the live runs after a fault on the way to IAM', () => {
    const model = new Set<string>();
    let next = 9_000;

    before(async () => {
      const { world } = scene();
      world.domino.addUser({ name: 'frank', orgs: ['faulty'] });
      const proxy = await scene().addProxy(proxyName);
      await scene().map('faulty', `arn:aws:iam::${assetAccount}:role/faulty`, proxy);
      await grant();
      await grant();
    });

    /** A new run requests roles until its role is among its profiles, as a sidecar does. */
    async function grant(): Promise<void> {
      const run = runId(next++);
      scene().world.startRun(run, 'frank');
      let last = '';
      await until(async () => {
        const answer = await scene().ask(run, 'frank');
        last = answer.text;
        return answer.status === 200 && /^\[profile faulty\]$/m.test(answer.text);
      }, patienceMs).catch(() => assert.fail(`never granted: ${last}`));
      assert.ok(
        (await scene().subjects(proxyName)).includes(subject(run)),
        'answered with a profile for a service account that is not a member',
      );
      model.add(run);
    }
    const subject = (run: string) => `*:domino-compute:run-${run}`;

    for (const [name, { fault, actions }] of Object.entries(faults)) {
      it(name, async () => {
        const { way, world } = scene();
        way.set(fault, actions, times);
        const [oldest = ''] = model;
        world.endRun(oldest);
        model.delete(oldest);
        await grant();
        await until(() => way.met > 0, patienceMs);
        way.set(undefined);
        const wanted = () => [...model].map(subject).sort();
        const members = async () => (await scene().subjects(proxyName)).sort();
        const isSettled = async () => JSON.stringify(await members()) === JSON.stringify(wanted());
        await until(isSettled, patienceMs).catch(async () => assert.deepEqual(await members(), wanted()));
        const { Statement: statements } = await scene().trust(proxyName);
        assert.deepEqual(statements[0], ownersStatement);
        assert.equal(statements.length, 2);
      });
    }
  });
}
