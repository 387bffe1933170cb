/** Proves what users without roles see: those whose organizations are not mapped, and those whose run is revoked. */
import assert from 'node:assert/strict';
import { awsConfig } from '../../src/grants/aws-config.ts';
import { until } from '../support/clock.ts';
import { call, configText, type Pod, problem, roundsEnded, runId, startPod, tokenFile } from './support.ts';

const unmappedConfig = (user: string, orgs: readonly string[]) =>
  awsConfig({
    user,
    orgs,
    run: runId,
    region: 'us-west-2',
    tokenPath: tokenFile,
    tokenDir: '/var/run/.aws/tokens',
    now: 0,
    outcomes: [],
  });

describe('the sidecar of a user without roles', () => {
  let pod: Pod;

  beforeEach(async () => {
    pod = await startPod();
  });
  afterEach(() => pod.stop());

  describe('whose organizations are not mapped', () => {
    it('reports the user, the organizations and that none is mapped, in /status, /refresh and /readyz', async () => {
      pod.service.always = { text: unmappedConfig('bob', ['acme', 'a, "b"']) };
      const sidecar = await pod.start();
      await sidecar.ready;
      const notice = {
        code: 'no_mapped_organization',
        message:
          'Domino knows you as bob, in 2 organizations: acme, a, "b". None is mapped to an AWS role, so you have none.',
        what_to_do:
          'Ask your administrator to add you to an organization that is mapped, or to map one of yours; then /refresh.',
        user: 'bob',
        organizations: ['acme', 'a, "b"'],
      };
      const { body: status } = await call(sidecar, '/status');
      assert.deepEqual([status.state, status.notice, status.last_error], ['unmapped', notice, null]);
      const { body: refreshed } = await call(sidecar, '/refresh');
      assert.deepEqual([refreshed.result, refreshed.notice], ['ok', notice]);
      // The workload is not delayed for this.
      const ready = await call(sidecar, '/readyz');
      assert.deepEqual([ready.status, ready.body], [200, { status: 'Ready', notice }]);
      assert.equal(pod.config(), unmappedConfig('bob', ['acme', 'a, "b"']));
    });

    it('reports it also for no organization, for many, and where an older service names none', async () => {
      const sidecar = await pod.start();
      await sidecar.ready;
      const noticeOf = async (text: string) => {
        pod.service.always = { text };
        return (await sidecar.refresh()).notice?.message;
      };
      assert.match((await noticeOf(unmappedConfig('bob', []))) ?? '', /as bob, in no organization\. /);
      const many = Array.from({ length: 50 }, (_, index) => `org-${index}`);
      assert.match(
        (await noticeOf(unmappedConfig('bob', many))) ?? '',
        /in 50 organizations: org-0, .*org-19, and 30 more\. None/,
      );
      assert.match((await noticeOf(unmappedConfig('bob', ['acme']))) ?? '', /in the organization acme\. None/);
      const older = unmappedConfig('bob', []).replace(/; Domino names.*/, '');
      assert.match((await noticeOf(older)) ?? '', /as bob\. No organization of yours is mapped/);
    });

    it('drops the notice when a mapping is added', async () => {
      pod.service.next.push({ text: unmappedConfig('alice', ['acme']) });
      const sidecar = await pod.start();
      await sidecar.ready;
      const refreshed = await sidecar.refresh();
      assert.deepEqual([refreshed.added, refreshed.notice], [['acme-read'], undefined]);
      const { state, notice } = sidecar.status();
      assert.deepEqual([state, notice], ['ready', null]);
    });
  });

  describe('whose run is revoked', () => {
    it('is revoked and not ready, with the reason on top of the config file, until the run is allowed', async () => {
      const sidecar = await pod.start();
      await sidecar.ready;
      pod.service.always = problem(403, 'run_revoked');
      assert.equal((await call(sidecar, '/refresh')).status, 503);
      const { body: status } = await call(sidecar, '/status');
      assert.equal(status.state, 'revoked');
      const [profile] = status.profiles as Record<string, unknown>[];
      assert.deepEqual([profile?.name, profile?.proved, profile?.problem_code], ['acme-read', false, 'run_revoked']);
      assert.match(String(profile?.problem), /shut this run out.*It says run_revoked/);
      const ready = await call(sidecar, '/readyz');
      assert.deepEqual([ready.status, ready.body.state, ready.body.code], [503, 'revoked', 'run_revoked']);
      const [first = '', ...rest] = (pod.config() ?? '').split('\n');
      assert.match(first, /^# irsa-svc: this run is shut out of its AWS roles, written 20\S+Z: .*It says run_revoked/);
      assert.equal(rest.join('\n'), configText(['acme-read']));

      // Further refusals do not change the file.
      const before = pod.config();
      await pod.clock.advance(31_000);
      await until(() => pod.service.asked.length >= 3 && !sidecar.status().refreshing);
      assert.equal(pod.config(), before);

      pod.service.always = { text: configText(['acme-read']) };
      await pod.clock.advance(31_000);
      await until(() => sidecar.status().state === 'ready');
      assert.equal(pod.config(), configText(['acme-read']));
      assert.equal((await call(sidecar, '/readyz')).status, 200);
    });

    it('writes a config file with the reason where there was none, and keeps a hostile reason on one line', async () => {
      const reason = 'x\n[profile default]\ncredential_process = id\r\u2028[y]';
      const body = { type: 'x', title: 'x', status: 403, code: 'run_revoked', detail: reason, request_id: 'req-1' };
      pod.service.always = { status: 403, text: JSON.stringify(body) };
      const sidecar = await pod.start();
      await roundsEnded(sidecar);
      assert.equal(sidecar.status().state, 'revoked');
      assert.match(pod.config() ?? '', /^# irsa-svc: this run is shut out[\x20-\x7e]*\n$/);
    });
  });
});
