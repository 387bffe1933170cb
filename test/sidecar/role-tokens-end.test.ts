/** Proves the end of role tokens: of a revoked run, and of a role that a profile no longer leads to. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLog } from '../../src/lib/log.ts';
import { systemDisk } from '../../src/sidecar/config-file.ts';
import { parseConfig } from '../../src/sidecar/profiles.ts';
import { createRoleTokens } from '../../src/sidecar/role-tokens.ts';
import type { ServiceCall } from '../../src/sidecar/service-client.ts';
import { FakeClock } from '../support/clock.ts';
import { runId, type Scripted, startScripted } from './support.ts';

describe('role tokens', () => {
  let folder: string;
  let service: Scripted;
  const clock = new FakeClock();
  const end = new AbortController();

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'irsa-tokens-'));
    service = await startScripted({ text: '{}' });
  });
  afterEach(async () => {
    await service.close();
    rmSync(folder, { recursive: true, force: true });
  });
  after(() => end.abort());

  const call = (): ServiceCall => ({
    endpoint: `${service.url}/map_iam_roles_to_pod_sa`,
    certFile: undefined,
    tlsVerify: true,
    deadlineMs: 60_000,
    identity: { run: runId, workloadType: undefined },
    token: 'bearer',
    clock,
    log: createLog('silent', { write: () => undefined }),
    signal: end.signal,
  });
  const start = () =>
    createRoleTokens({
      folder,
      pod: 'run-pod',
      toFiles: true,
      podToken: () => ({ token: 'of.the.pod', place: '/token' }),
      disk: systemDisk,
      clock,
      log: call().log,
      random: () => 0,
    });
  const config = (profile: string, role = profile) =>
    parseConfig(
      `[profile ${profile}]\nweb_identity_token_file = ${folder}/${profile}\nrole_arn = arn:aws:iam::111111111111:role/${role}\n`,
    );
  const answer = (profile: string, token: string) => {
    const expires_at = new Date(clock.now() + 600_000).toISOString();
    return { text: JSON.stringify({ tokens: [{ profile, token, expires_at }], refused: [] }) };
  };
  const text = (profile: string) =>
    existsSync(join(folder, profile)) ? readFileSync(join(folder, profile), 'utf8') : undefined;

  it('of a revoked run are removed, with those of an earlier sidecar, and no other file', () => {
    mkdirSync(join(folder, 'team'));
    for (const [name, content] of [
      ['acme', 'eyJ.old.token'],
      ['team/acme', 'eyJ.other.token'],
      ['team/.acme.irsa-new', 'eyJ.ha'],
      ['notes', 'mine'],
    ] as const) {
      writeFileSync(join(folder, name), content);
    }
    start().drop();
    assert.deepEqual(['acme', 'team/acme', 'team/.acme.irsa-new', 'notes'].map(text), [
      undefined,
      undefined,
      undefined,
      'mine',
    ]);
  });

  /** A renewal whose answer is delayed until `meanwhile` has happened. @returns the tokens after the answer. */
  async function renewLate(meanwhile: (tokens: ReturnType<typeof start>) => unknown, when: 'asking' | 'asked') {
    const tokens = start();
    service.always = answer('acme', 'eyJ.first.token');
    await tokens.bring(config('acme'), call(), false);
    assert.equal(text('acme'), 'eyJ.first.token');
    const [asking, asked, answered] = [0, 1, 2].map(() => Promise.withResolvers<void>());
    assert.ok(asking && asked && answered);
    const late = createServer((_request, response) => {
      asked.resolve();
      void answered.promise.then(() => response.end(answer('acme', 'eyJ.late.token').text));
    });
    await new Promise<void>((resolve) => late.listen(0, '127.0.0.1', resolve));
    const endpoint = `http://127.0.0.1:${(late.address() as AddressInfo).port}/map_iam_roles_to_pod_sa`;
    const stop = new AbortController();
    const kept = tokens.keepFresh(async () => {
      if (when === 'asking') await asking.promise;
      return { ...call(), endpoint };
    }, stop.signal);
    await clock.advance(400_000);
    if (when === 'asked') await asked.promise;
    await meanwhile(tokens);
    asking.resolve();
    await asked.promise;
    answered.resolve();
    await new Promise<void>((resolve) => late.close(() => resolve()));
    stop.abort();
    await clock.advance(60_000);
    await kept;
    return tokens;
  }

  for (const when of ['asking', 'asked'] as const) {
    it(`of a revoked run are not restored by a renewal under way (${when})`, async () => {
      const tokens = await renewLate(({ drop }) => drop(), when);
      assert.deepEqual([text('acme'), tokens.endOf('acme')], [undefined, undefined]);
    });
  }

  it('are not replaced by the pod’s token where they are missing, as after a restart', () => {
    const [source] = config('acme').sources;
    assert.ok(source);
    assert.deepEqual(start().webIdentity(source), { token: undefined, place: join(folder, 'acme') });
  });

  it('of a role that the profile no longer leads to are not restored by a late renewal', async () => {
    await renewLate(async (tokens) => {
      service.always = answer('acme', 'eyJ.second.token');
      await tokens.bring(config('acme', 'other'), call(), false);
    }, 'asked');
    assert.equal(text('acme'), 'eyJ.second.token');
  });

  it('are replaced when the profile leads to another role, and removed when the profile is gone', async () => {
    const tokens = start();
    service.always = answer('acme', 'eyJ.first.token');
    await tokens.bring(config('acme'), call(), false);
    service.always = answer('acme', 'eyJ.second.token');
    await tokens.bring(config('acme'), call(), false);
    assert.equal(text('acme'), 'eyJ.first.token');
    await tokens.bring(config('acme', 'other'), call(), false);
    assert.equal(text('acme'), 'eyJ.second.token');
    await tokens.bring(config('acme-two'), call(), false).catch(() => undefined);
    assert.equal(text('acme'), undefined);
  });

  it('are reported as token_expired after they expired', async () => {
    const tokens = start();
    service.always = answer('acme', 'eyJ.first.token');
    await tokens.bring(config('acme'), call(), false);
    assert.equal(tokens.lapsed('acme'), undefined);
    clock.jump(600_000);
    assert.equal(tokens.lapsed('acme')?.code, 'token_expired');
  });

  it('fail with unexpected_answer for an answer of another form', async () => {
    const one = { profile: 'acme', token: 'a.b.c', expires_at: 'tomorrow' };
    const odd = [null, [], 1, { tokens: [null], refused: [] }, { tokens: [], refused: [null] }, { tokens: {} }];
    for (const body of [
      ...odd,
      { tokens: [one], refused: [] },
      { tokens: [{ ...one, token: ['a.b.c'] }], refused: [] },
    ]) {
      service.always = { text: JSON.stringify(body) };
      await assert.rejects(start().bring(config('acme'), call(), false), { code: 'unexpected_answer' });
    }
  });

  it('fail with tokens_not_writable where the folder cannot be read or written', async () => {
    rmSync(folder, { recursive: true });
    writeFileSync(folder, 'a file');
    assert.throws(() => start().drop(), { code: 'tokens_not_writable' });
    service.always = answer('acme', 'eyJ.first.token');
    await assert.rejects(start().bring(config('acme'), call(), false), { code: 'tokens_not_writable' });
  });
});
