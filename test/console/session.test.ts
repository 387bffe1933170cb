/** Proves when a session of the console is renewed, and when it ends, with the test as realm and service. */
import assert from 'node:assert/strict';
import { begin, end, loginProblem, type Session, session, tick, tokenRefused } from '../../src/console/session.ts';

type Renewal = PromiseWithResolvers<Session | undefined>;

/** @param seconds how long the token is still valid. */
function sessionOf(token: string, seconds: number, renewals?: Renewal[], user = 'alice'): Session {
  const renew = () => {
    const renewal = Promise.withResolvers<Session | undefined>();
    renewals?.push(renewal);
    return renewal.promise;
  };
  return { token, user, endsAt: Date.now() + seconds * 1000, ...(renewals ? { renew } : {}) };
}
/** Waits until the work that an answer started is done. */
const settled = () => new Promise((resolve) => setImmediate(resolve));
const noAnswer = () => new Error('Failed to fetch');

describe('the session of the console', () => {
  let asked: Renewal[];
  beforeEach(() => {
    asked = [];
  });
  afterEach(() => end(''));
  const old = (seconds: number) => sessionOf('old', seconds, asked);
  const next = () => sessionOf('new', 300, asked);
  const token = () => session.value?.token;

  it('is renewed before its token ends, once at a time', async () => {
    begin(old(46));
    tick();
    assert.equal(asked.length, 0);
    begin(old(30));
    tick();
    tick();
    assert.equal(asked.length, 1);
    asked[0]?.resolve(next());
    await settled();
    assert.equal(token(), 'new');
  });

  for (const seconds of [30, -1]) {
    it(`survives a realm that does not answer, with a token that expires in ${seconds} s, and retries`, async () => {
      begin(old(seconds));
      tick();
      asked[0]?.reject(noAnswer());
      await settled();
      tick();
      assert.deepEqual([token(), loginProblem.value, asked.length], ['old', '', 1], 'no new attempt after each second');
      await tokenRefused(sessionOf('other', 1), false);
      assert.equal(token(), 'old');
      const later = Date.now() + 6000;
      const { now } = Date;
      Date.now = () => later;
      try {
        tick();
      } finally {
        Date.now = now;
      }
      assert.equal(asked.length, 2);
      asked[1]?.resolve(next());
      await settled();
      assert.equal(token(), 'new');
    });
  }

  it('keeps a token that the realm does not renew until it expires', async () => {
    begin(old(30));
    tick();
    asked[0]?.resolve(undefined);
    await settled();
    tick();
    assert.deepEqual([token(), asked.length], ['old', 1]);
    begin(sessionOf('old', -1));
    tick();
    assert.deepEqual(
      [token(), loginProblem.value],
      [undefined, 'Your session has ended. Log in again, or paste a new token.'],
    );
  });

  it('ignores a renewal that ends after a logout or a new login', async () => {
    begin(old(30));
    tick();
    end('');
    asked[0]?.resolve(next());
    await settled();
    assert.equal(token(), undefined);
    begin(old(30));
    tick();
    const other = sessionOf('bob’s', 300, asked, 'bob');
    begin(other);
    asked[1]?.reject(noAnswer());
    await settled();
    assert.equal(session.value, other);
  });

  it('survives the late refusal of an older token, and the call is repeated', async () => {
    const before = old(30);
    begin(next());
    assert.equal(await tokenRefused(before, false), true);
    assert.equal(token(), 'new');
    begin(sessionOf('bob’s', 300, asked, 'bob'));
    assert.equal(await tokenRefused(before, false), false, 'another user’s session does not repeat the call');
    assert.equal(token(), 'bob’s');
    end('');
    assert.equal(await tokenRefused(before, false), false);
    assert.equal(loginProblem.value, '');
  });

  it('is renewed once when the service refuses its token in several calls', async () => {
    const before = old(200);
    begin(before);
    const calls = [tokenRefused(before, false), tokenRefused(before, false)];
    asked[0]?.resolve(next());
    assert.deepEqual([await Promise.all(calls), token(), asked.length], [[true, true], 'new', 1]);
    const now = session.value;
    assert.ok(now);
    assert.equal(await tokenRefused(now, true), false, 'the new token is refused too');
    assert.equal(token(), undefined);
    assert.match(loginProblem.value, /no longer takes/);
  });

  it('survives a refusal while the realm does not answer, and ends where it has no renewal', async () => {
    const before = old(200);
    begin(before);
    const call = tokenRefused(before, false);
    asked[0]?.reject(noAnswer());
    assert.deepEqual([await call, token()], [false, 'old']);
    const pasted = sessionOf('pasted', 200);
    begin(pasted);
    assert.deepEqual([await tokenRefused(pasted, false), token()], [false, undefined]);
    assert.match(loginProblem.value, /no longer takes/);
  });
});
