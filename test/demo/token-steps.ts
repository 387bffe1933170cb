/** Owns the demo's steps with role tokens: a run assumes its role without a write to IAM, and AWS refuses it after a revocation. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { StatusView } from '../../src/sidecar/status.ts';
import {
  assumedText,
  assumeProxy,
  assumeWords,
  awsCalls,
  listAudience,
  type Program,
  programs,
  trustPolicy,
  workloadEnvironment,
} from './aws.ts';
import { check, curl, type Scene } from './scene.ts';
import { eventually } from './screen.ts';
import type { Step } from './steps.ts';

const run = '6a0b5c6d7e8f90a1b2c3d4e5';

const takeStep: Step = {
  title: 'A run takes a role by a token, and nothing is written to IAM for it',
  why:
    'With the carrier token, the trust policy is constant and asks for a token with the role’s own audience, which ' +
    'Kubernetes makes for the run. The leader writes that policy once, for all of Dave’s runs.',
  play: async (scene) => {
    const { system, screen } = scene;
    const { target, proxy } = system.roles.report;
    const audience = `irsa/${nameOf(proxy)}`;
    const provider = await listAudience(system, audience);
    const options = [`--open-id-connect-provider-arn ${provider}`, `--client-id ${audience}`];
    screen.command('aws iam add-client-id-to-open-id-connect-provider', ...options);
    const body = { domino_org: 'reports', iam_role_arn: target, proxy_iam_role_arn: proxy, carrier: 'token' };
    await curl(scene, 'POST', '/update_role_mapping', { as: 'admin', body, show: () => '…' });
    const { Condition: condition } = await statement(scene, 'IrsaRoleTokens');
    check(scene, JSON.stringify(condition).includes(`:aud":"${audience}"`), `the trust policy asks for ${audience}`);

    const before = await awsCalls(system);
    await startRun(scene);
    const written = JSON.stringify(tokenClaims(scene).aud);
    screen.command('cut -d. -f2 $ROLE_TOKEN_DIR/* | base64 -d');
    screen.answer(`… "aud": ${written} …`);
    const program = await present();
    const { code, stdout, stderr } = await program.run(workloadEnvironment(system, nameOf(target)));
    screen.command(`AWS_PROFILE=${nameOf(target)}`, ...program.typed);
    screen.answer(stdout.trim());
    assert.equal(code, 0, `${program.name}: ${stderr}`);
    check(scene, stdout.includes(`:assumed-role/${nameOf(target)}/dave-${run}`), `${program.name} holds the role`);

    const after = await awsCalls(system);
    const more = (action: string) => (after[action] ?? 0) - (before[action] ?? 0);
    const [taken, writes] = [more('AssumeRoleWithWebIdentity'), more('UpdateAssumeRolePolicy')];
    screen.note(
      `AWS’s counters since the run began: AssumeRoleWithWebIdentity ${taken}, UpdateAssumeRolePolicy ${writes}.`,
    );
    check(scene, taken > 0 && writes === 0, 'STS took the token, and IAM saw no write for this run');
  },
};

const revokeStep: Step = {
  title: 'That run is revoked, and its token opens nothing any more',
  why: 'It gets no new token, and the leader keeps a Deny in the role until the last one that it holds has expired.',
  play: async (scene) => {
    const { system, screen, tokenRun } = scene;
    const { proxy } = system.roles.report;
    const token = roleToken(scene);
    check(scene, 'arn' in (await assumeProxy(system, token, proxy)), 'STS takes the token until then');
    const body = { run_id: run, reason: 'Dave’s laptop was lost' };
    const start = performance.now();
    await curl(scene, 'POST', '/revoke_run', { as: 'admin', body });
    screen.command(`aws iam get-role --role-name ${nameOf(proxy)}`, '--query …AssumeRolePolicyDocument.Statement[-1]');
    screen.answer(JSON.stringify(await statement(scene, 'IrsaRevokedRoleTokens'), null, 1));
    const refused = await eventually('STS refuses the token', async () => {
      const assumed = await assumeProxy(system, token, proxy);
      return 'refused' in assumed ? assumed : undefined;
    });
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    screen.command(...assumeWords(proxy, '$ROLE_TOKEN_DIR/*'));
    screen.answer(assumedText(refused));
    check(scene, refused.refused.startsWith('AccessDenied'), `access denied by STS, ${seconds} s after the call`);
    const asked = { run_id: run, pod: tokenRun?.pod };
    const { text } = await curl(scene, 'POST', '/role_tokens', { as: 'dave', body: asked, status: 403 });
    check(scene, (JSON.parse(text) as { code: string }).code === 'run_revoked', 'and the run gets no new token');
    await system.endRun(run);
    await tokenRun?.sidecar.stop();
  },
};

export const tokenSteps: readonly Step[] = [takeStep, revokeStep];

/** Dave's run, with a sidecar that keeps role tokens. */
async function startRun(scene: Scene): Promise<void> {
  const { system, screen } = scene;
  const { pod } = await system.startRun('dave', run);
  screen.note(`Dave starts a run: ${pod}, with a sidecar as before.`);
  const sidecar = await system.startSidecar('dave', { ROLE_TOKEN_DIR: system.files.roleTokens, POD_NAME: pod });
  scene.tokenRun = { pod, sidecar };
  const profiles = await eventually('the sidecar proved the role', async () => {
    const status = (await (await fetch(`${sidecar.url}/status`)).json()) as StatusView;
    return status.state === 'ready' ? status.profiles : undefined;
  });
  const seconds = (performance.now() - sidecar.child.startedAt) / 1000;
  const isProved = profiles.length === 1 && profiles[0]?.proved === true;
  check(scene, isProved, `one role, proved ${seconds.toFixed(1)} s after the sidecar’s start`);
}

/** Waits until the role's trust policy has the statement, and returns it. */
function statement({ system }: Scene, sid: string) {
  return eventually(`the statement ${sid}`, async () => {
    const { Statement: statements } = await trustPolicy(system, system.roles.report.proxy);
    return statements.find(({ Sid: found }) => found === sid);
  });
}

/** The token that the sidecar wrote for the workload. */
function roleToken({ system }: Scene): string {
  return readFileSync(join(system.files.roleTokens, nameOf(system.roles.report.target)), 'utf8');
}

function tokenClaims(scene: Scene): { aud: string[] } {
  const [, claims = ''] = roleToken(scene).split('.');
  return JSON.parse(Buffer.from(claims, 'base64url').toString()) as { aud: string[] };
}

/** boto3, if this machine has it. */
async function present(): Promise<Program> {
  const [first, boto3] = programs;
  assert.ok(first);
  return boto3 && (await boto3.present()) ? boto3 : first;
}

const nameOf = (arn: string) => arn.slice(arn.lastIndexOf('/') + 1);
