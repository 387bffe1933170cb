/** Owns the main steps of the demo: a run starts, requests its roles, and plain AWS clients assume them. */
import assert from 'node:assert/strict';
import {
  assumedText,
  assumeProxy,
  assumeWords,
  programs,
  subjectsOf,
  trustPolicy,
  workloadEnvironment,
} from './aws.ts';
import { check, type Scene } from './scene.ts';
import { eventually } from './screen.ts';
import { byHandStep, sidecarStep } from './sidecar-steps.ts';
import type { Step } from './steps.ts';

export const profile = 'acme-list-bucket-role';

export const startStep: Step = {
  title: 'Alice starts a run',
  why: 'Domino makes a pod and a service account of its own for it. EKS puts a signed token into the pod that says so.',
  play: async (scene) => {
    const { system, screen } = scene;
    scene.account = (await system.startRun('alice', scene.run)).account;
    screen.command('kubectl -n domino-compute get pods,serviceaccounts');
    screen.answer(`pod/run-${scene.run}-…        Running   started by alice\nserviceaccount/${scene.account}`);
    screen.command('cut -d. -f2 $AWS_WEB_IDENTITY_TOKEN_FILE | base64 -d');
    const claims = tokenClaims(await podToken(scene));
    screen.answer(`… "aud": ${JSON.stringify(claims.aud)},\n  "sub": ${JSON.stringify(claims.sub)} …`);
    check(scene, claims.sub.endsWith(`:domino-compute:${scene.account}`), 'the token names the run’s service account');
  },
};

export const refusedStep: Step = {
  title: 'Until the run asks, AWS refuses it',
  why: 'The token is real and AWS knows its issuer, but the proxy role’s trust policy does not name this run.',
  play: async (scene) => {
    const { list } = scene.system.roles;
    scene.screen.command(...assumeWords(list.proxy));
    const assumed = await assumeProxy(scene.system, await podToken(scene), list.proxy);
    scene.screen.answer(assumedText(assumed));
    check(scene, 'refused' in assumed && assumed.refused.startsWith('AccessDenied'), 'access denied by STS');
  },
};

export const policyStep: Step = {
  title: 'The trust policy, as IAM has it now',
  why: 'The leader keeps the list of subjects; everything else in the document stays as its owner wrote it.',
  play: async (scene) => {
    const { list } = scene.system.roles;
    const name = list.proxy.slice(list.proxy.lastIndexOf('/') + 1);
    scene.screen.command(`aws iam get-role --role-name ${name}`, '--query Role.AssumeRolePolicyDocument');
    const policy = await trustPolicy(scene.system, list.proxy);
    const issuer = scene.system.stack.environment.OIDC_PROVIDER ?? '';
    scene.screen.answer(JSON.stringify(policy, null, 2).replaceAll(issuer, '<issuer>'));
    scene.screen.note(`<issuer> is ${issuer}`);
    check(scene, subjectsOf(policy).join() === `*:domino-compute:${scene.account}`, 'it lets in this run and no other');
  },
};

export const grantSteps: readonly Step[] = [
  startStep,
  refusedStep,
  sidecarStep,
  byHandStep,
  policyStep,
  {
    title: 'AWS clients take the role through the chain',
    why: 'They read the config file: the pod’s token gets them the proxy role, the proxy role gets them the target role. No keys.',
    play: async (scene) => {
      const environment = workloadEnvironment(scene.system, profile);
      const { list } = scene.system.roles;
      const expected = `${list.target.replace(':iam:', ':sts:').replace(':role/', ':assumed-role/')}/alice-${scene.run}`;
      // Started together, since interpreters start slowly; shown one after the other.
      const results = programs.map(async (program) => {
        return (await program.present()) ? program.run(environment) : undefined;
      });
      for (const [index, program] of programs.entries()) {
        const result = await results[index];
        if (!result) {
          scene.screen.line();
          scene.screen.skipped(`${program.name} is not on this machine`);
          continue;
        }
        scene.screen.command(`AWS_PROFILE=${profile}`, ...program.typed);
        scene.screen.answer(result.stdout.trim() || result.stderr.trim().slice(-500));
        assert.equal(result.code, 0, `${program.name}: ${result.stderr}`);
        check(scene, result.stdout.trim() === expected, `${program.name} holds the target role, in alice’s name`);
      }
    },
  },
];

export const operatorStep: Step = {
  title: 'What an operator sees',
  why: 'One line in the log for each decision, and metrics on a port of their own.',
  play: async (scene) => {
    const { child, metricsUrl } = scene.system.replica;
    const line = child.output.map(parsed).findLast((entry) => entry.audit === 'grant');
    const { time, user, run, decision, granted } = line ?? {};
    scene.screen.command(`kubectl -n domino-field logs deploy/irsa-svc | grep '"audit":"grant"'`);
    scene.screen.answer(JSON.stringify({ time, audit: 'grant', user, run, decision, granted, '…': '…' }, null, 1));
    check(scene, decision === 'granted' && user === 'alice', 'who got which roles for which run, and when');
    scene.screen.command('curl $METRICS/metrics | grep irsa_proxy_role_members');
    const shown = await eventually('the gauge of members', async () => {
      const text = await (await fetch(metricsUrl)).text();
      const found = text.split('\n').filter((one) => one.startsWith('irsa_proxy_role_members{'));
      return found.filter((one) => one.endsWith(' 1')).length === 2 ? found : undefined;
    });
    scene.screen.answer(shown.join('\n'));
    check(scene, shown.length > 0, 'two proxy roles with one member each');
  },
};

/** A fresh token of the run's pod. */
export function podToken({ system, account }: Scene): Promise<string> {
  return system.stack.order('pod-token', { serviceAccount: account });
}

function tokenClaims(token: string): { aud: string[]; sub: string } {
  return JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as { aud: string[]; sub: string };
}

function parsed(line: string): Record<string, unknown> {
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return {};
  }
}
