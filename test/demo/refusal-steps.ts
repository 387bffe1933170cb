/** Owns the demo's last steps: refused calls and their answers, and the removal of roles at the end of a run. */
import {
  assumedText,
  assumeProxy,
  assumeWords,
  programs,
  subjectsOf,
  trustPolicy,
  workloadEnvironment,
} from './aws.ts';
import { podToken, profile } from './grant-steps.ts';
import { check, curl } from './scene.ts';
import { eventually } from './screen.ts';
import type { Step } from './steps.ts';

export const endStep: Step = {
  title: 'The run ends',
  why: 'Its pod and service account go. The leader sees it and takes the run out of each trust policy within seconds.',
  play: async (scene) => {
    const { system, screen, account, sidecar } = scene;
    const { list, read } = system.roles;
    const token = await podToken(scene);
    const label = `dominodatalab.com/execution-id=${scene.run}`;
    screen.command('kubectl -n domino-compute delete pod,serviceaccount', `-l ${label}`);
    await system.endRun(scene.run);
    const start = performance.now();
    const code = await sidecar?.stop();
    const took = performance.now() - start;
    check(scene, code === 0 && took < 1_000, `the sidecar ends with its pod, ${Math.round(took)} ms after SIGTERM`);
    const subject = `*:domino-compute:${account}`;
    const left = await eventually(`${subject} leaves both trust policies`, async () => {
      const policies = await Promise.all([list, read].map(({ proxy }) => trustPolicy(system, proxy)));
      const subjects = policies.map(subjectsOf);
      return subjects.some((names) => names.includes(subject)) ? undefined : subjects;
    });
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    screen.answer(`subjects after ${seconds} s: ${JSON.stringify(left[0])}`);
    screen.note('With nobody in, the list holds a subject that no token can have: an empty list could mean anybody.');
    check(
      scene,
      left.flat().every((name) => name === 'irsa-svc:no-live-runs'),
      'the run is in neither trust policy',
    );

    screen.command(...assumeWords(list.proxy));
    const assumed = await assumeProxy(system, token, list.proxy);
    screen.answer(assumedText(assumed));
    check(scene, 'refused' in assumed && assumed.refused.startsWith('AccessDenied'), 'its old token opens nothing');
    const [client] = programs;
    const result = await client?.run(workloadEnvironment(system, profile));
    check(scene, result?.code !== 0, `nor does its old config file, for ${client?.name}`);
    screen.note('Sessions that AWS had issued before live on until they expire, as a rule for an hour.');
  },
};

export const refusalSteps: readonly Step[] = [
  {
    title: 'Bob tries to get the roles of Alice’s run',
    why: 'A run belongs to the person who started its live pods. Someone else’s run looks the same as one that does not exist.',
    play: async (scene) => {
      const body = { run_id: scene.run };
      const { text } = await curl(scene, 'POST', '/map_iam_roles_to_pod_sa', { as: 'bob', body, status: 404 });
      check(scene, codeOf(text) === 'run_not_found', 'refused as problem+json; clients match on its code');
      const mapping = { domino_org: 'finance' };
      const denied = await curl(scene, 'DELETE', '/delete_role_mapping', { as: 'bob', body: mapping, status: 403 });
      check(scene, codeOf(denied.text) === 'forbidden', 'and mappings are for administrators');
    },
  },
  {
    title: 'A forged token, and a user without a mapping',
    why: 'Tokens are verified against the keys of Domino’s realm. Being known is not enough: some organization must be mapped.',
    play: async (scene) => {
      const { system, run } = scene;
      const [header, claims, signature] = (await system.stack.token('alice', 300)).split('.');
      const changed = { ...JSON.parse(Buffer.from(claims ?? '', 'base64url').toString()), preferred_username: 'admin' };
      const token = [header, Buffer.from(JSON.stringify(changed)).toString('base64url'), signature].join('.');
      const forged = { token, tokenName: '$ALICE_WITH_A_CLAIM_CHANGED', body: { run_id: run }, status: 401 };
      const { text } = await curl(scene, 'POST', '/map_iam_roles_to_pod_sa', forged);
      check(scene, codeOf(text) === 'unauthenticated', 'a changed token is no token');

      const other = '646f604955daf764547c5b77';
      await system.stack.order('start-runs', { user: 'carol', runs: [other] });
      const own = { as: 'carol', body: { run_id: other } };
      const answer = await curl(scene, 'POST', '/map_iam_roles_to_pod_sa', own);
      check(
        scene,
        /^# [^\n]*\n$/.test(answer.text),
        'a run of a user without roles gets one comment line, and works on',
      );
      await system.endRun(other);
    },
  },
  endStep,
];

function codeOf(text: string): string {
  return (JSON.parse(text) as { code: string }).code;
}
