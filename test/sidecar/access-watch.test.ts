/** Proves the check of the run's access between rounds: which losses begin a round, and what is logged. */
import assert from 'node:assert/strict';
import { createLog } from '../../src/lib/log.ts';
import { lossesIn, watchAccess } from '../../src/sidecar/access-watch.ts';
import { FakeClock, until } from '../support/clock.ts';
import { type AwsPod, startAwsPod } from './aws-pod.ts';
import { configText, problem, type Reply, roundsEnded } from './support.ts';

const role = (name: string) => `arn:aws:iam::222222222222:role/${name}`;
const access = (...entries: [code: string, name: string][]) =>
  JSON.stringify({ access: entries.map(([code, name]) => ({ code, iam_role_arn: role(name) })) });

describe('the watch of a run’s access', () => {
  for (const code of ['run_revoked', 'not_a_member', 'mapping_gone', 'organization_id_mismatch']) {
    it(`begins one round for each role lost with ${code}`, async () => {
      const clock = new FakeClock();
      const end = new AbortController();
      const answers = [access(['granted', 'a']), access(['granted', 'b'], [code, 'a']), access([code, 'a'])];
      let rounds = 0;
      const ask = async () => answers.shift() ?? access([code, 'a'], [code, 'b']);
      const log = createLog('silent', { write: () => undefined });
      const options = { everyMs: 60_000, clock, random: () => 0.5, signal: end.signal, log, ask };
      const onLost = () => {
        rounds += 1;
      };
      const watch = watchAccess({ ...options, onLost });
      const seen: number[] = [];
      for (let look = 0; look < 5; look += 1) {
        await clock.advance(60_000);
        seen.push(rounds);
      }
      // The loss of another role begins another round.
      assert.deepEqual(seen, [0, 1, 1, 2, 2]);
      end.abort();
      await watch;
    });
  }

  it('ignores all other codes, and rejects an answer of another form', () => {
    assert.equal(lossesIn(access(['granted', 'a'], ['pending', 'b'], ['kept_elsewhere', 'c'])), '');
    assert.equal(lossesIn('{"access":[null]}'), '');
    for (const text of ['null', '<html>', '{}', '{"access":{}}']) {
      assert.throws(() => lossesIn(text), { code: 'unexpected_answer' }, text);
    }
  });
});

describe('the sessions of a run that lost a role', () => {
  let world: AwsPod;

  beforeEach(async () => {
    world = await startAwsPod(['acme-read', 'acme-write']);
  });
  afterEach(() => world.stop());

  for (const code of ['not_a_member', 'mapping_gone', 'organization_id_mismatch']) {
    it(`end with a round after the next check of access: ${code}`, async () => {
      const sidecar = await world.start();
      await sidecar.ready;
      world.pod.service.next.push({ text: access([code, 'acme-read'], ['granted', 'acme-write']) });
      world.pod.service.always = { text: configText(['acme-write']) };
      world.clock.skip(67_000);
      await until(() => sidecar.status().last_round?.cause === 'recheck');
      assert.equal(world.session('acme-read'), undefined);
      assert.notEqual(world.session('acme-write'), undefined);
    });
  }

  const odd: [string, Reply, string][] = [
    [
      'more than 1 MB',
      { text: `${access(['run_revoked', 'acme-read'])}${' '.repeat(1024 * 1024)}` },
      'unexpected_answer',
    ],
    ['a refusal', problem(403, 'forbidden'), 'forbidden'],
    ['something else', { text: '<html>' }, 'unexpected_answer'],
  ];
  for (const [what, reply, code] of odd) {
    it(`stay when the service answers with ${what}, which is logged once`, async () => {
      const sidecar = await world.start();
      await sidecar.ready;
      await roundsEnded(sidecar);
      const asked = () => world.pod.service.asked.filter(({ path }) => path.startsWith('/my_access')).length;
      const warned = () =>
        world.pod.lines.filter(({ msg }) =>
          String(msg).startsWith('the service does not say whether this run lost roles'),
        );
      world.pod.service.always = reply;
      for (const looks of [1, 2]) {
        world.clock.skip(67_000);
        await until(() => asked() === looks);
        await until(() => warned().length > 0);
      }
      assert.equal(warned().length, 1);
      assert.equal((warned()[0]?.err as { code?: string } | undefined)?.code, code);
      assert.notEqual(world.session('acme-read'), undefined);
    });
  }
});
