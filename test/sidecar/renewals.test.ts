/** Proves what a late renewal does: the profile was removed meanwhile, or leads to another role. */
import assert from 'node:assert/strict';
import { createLog } from '../../src/lib/log.ts';
import { type ParsedConfig, parseConfig } from '../../src/sidecar/profiles.ts';
import type { Proof } from '../../src/sidecar/proof.ts';
import { withDoubt } from '../../src/sidecar/recheck.ts';
import { createSessions, type SessionsOptions } from '../../src/sidecar/sessions.ts';
import { FakeClock } from '../support/clock.ts';
import { configText } from './support.ts';

type Hooks = Parameters<SessionsOptions['renew']>[1];

describe('a late renewal', () => {
  const config = parseConfig(configText(['acme']));
  const moved = parseConfig(configText(['acme']).replace('222222222222:role/acme', '222222222222:role/other'));
  const proof: Proof = { profile: 'acme', seconds: 0, tries: 1, problem: undefined };
  const refused: Proof = {
    ...proof,
    problem: { hop: 'source', code: 'source_refused', text: 'refused', advice: 'ask' },
  };

  function start() {
    const clock = new FakeClock();
    const end = new AbortController();
    const files = new Map<string, string>();
    const lost: string[] = [];
    const asked: Hooks[] = [];
    const answer = Promise.withResolvers<Proof[]>();
    const sessions = createSessions({
      files: {
        writeScript: () => undefined,
        write: (profile, { accessKeyId }) => void files.set(profile, accessKeyId),
        expiresAt: () => undefined,
        refuse: (profile) => void files.set(profile, 'none'),
        refuseOthers: (kept) => {
          for (const key of [...files.keys()]) if (!kept.includes(key)) files.delete(key);
        },
      },
      clock,
      log: createLog('silent', { write: () => undefined }),
      random: () => 0,
      renew: (_ways, hooks) => {
        asked.push(hooks);
        return answer.promise;
      },
      onRefused: ({ name }) => void lost.push(name),
    });
    const take = ({ profiles, sources }: ParsedConfig, accessKeyId: string, hooks: Hooks = sessions.hooks) => {
      const [profile, source] = [profiles[0], sources[0]];
      assert.ok(profile && source);
      const expiresAt = clock.now() + 3_600_000;
      hooks.onSession?.(
        { profile, source },
        { accessKeyId, secretAccessKey: 's', sessionToken: 't', expiresAt },
        proof,
      );
    };
    void sessions.keepFresh(end.signal);
    return { clock, files, lost, asked, answer, sessions, take, stop: () => end.abort() };
  }
  const halfAnHour = 31 * 60_000;

  it('keeps the session of the role that the profile now leads to', async () => {
    const { clock, files, lost, asked, answer, sessions, take, stop } = start();
    take(config, 'old');
    await clock.advance(halfAnHour);
    assert.equal(asked.length, 1);
    sessions.keepTo(moved);
    take(moved, 'new');
    take(config, 'late', asked[0]);
    answer.resolve([refused]);
    await clock.advance(1);
    assert.deepEqual([files.get('acme'), lost], ['new', []]);
    stop();
  });

  it('does not restore the session of a removed profile', async () => {
    const { clock, files, asked, sessions, take, stop } = start();
    take(config, 'old');
    await clock.advance(halfAnHour);
    sessions.keepTo({ ...config, profiles: [], sources: [] });
    take(config, 'late', asked[0]);
    assert.equal(files.has('acme'), false);
    stop();
  });

  it('keeps a newer session, and reports no refusal', async () => {
    const { clock, files, lost, asked, answer, take, stop } = start();
    take(config, 'old');
    await clock.advance(halfAnHour);
    take(config, 'of a refresh');
    take(config, 'late', asked[0]);
    answer.resolve([refused]);
    await clock.advance(1);
    assert.deepEqual([files.get('acme'), lost], ['of a refresh', []]);
    stop();
  });

  it('that was refused is the reason for an expired session', async () => {
    const { clock, answer, sessions, take, stop } = start();
    take(config, 'old');
    assert.equal(sessions.lapsed('acme'), undefined);
    answer.resolve([refused]);
    await clock.advance(halfAnHour);
    assert.equal(sessions.lapsed('acme'), undefined, 'the session is still valid');
    await clock.advance(halfAnHour);
    assert.deepEqual([sessions.expiresAt('acme'), sessions.lapsed('acme')], [undefined, refused.problem]);
    stop();
  });

  it('of a recheck withdraws no proof of a source that now names another role', () => {
    const problem = refused.problem;
    const [old, now] = [config, moved].map(({ sources }) => sources[0]);
    assert.ok(problem && old && now);
    const changes = { added: [], removed: [], changed: ['acme'], kept: [] };
    const other = { ...moved, sources: [{ ...now, roleArn: 'arn:aws:iam::111111111111:role/other' }] };
    const doubtIn = (parsed: ParsedConfig) =>
      withDoubt({ run: 'r', written: true, config: parsed, changes, proofs: [proof] }, old, problem).proofs[0]?.problem;
    assert.deepEqual([doubtIn(config), doubtIn(other)], [problem, undefined]);
  });

  it('is used where nothing changed meanwhile', async () => {
    const { clock, files, asked, take, stop } = start();
    take(config, 'old');
    await clock.advance(halfAnHour);
    take(config, 'renewed', asked[0]);
    assert.equal(files.get('acme'), 'renewed');
    stop();
  });
});
