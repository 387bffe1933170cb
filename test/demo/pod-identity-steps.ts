/** Owns the demo's steps with EKS Pod Identity, as in docs/pod-identity.md: a user is mapped, the parts are made, pods use the role. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { stringify } from 'yaml';
import type { PodIdentityReport } from '../../src/reports/pod-identity.ts';
import { associations, trustPolicy } from './aws.ts';
import { demoCluster } from './cluster.ts';
import { check, curl, type Scene } from './scene.ts';
import { eventually } from './screen.ts';
import type { Step } from './steps.ts';
import { client, startWorkload, type Workload } from './workload.ts';

export const mutationName = 'irsa-pod-identity';
const runs = { early: 1, one: 2, two: 3, three: 4 } as const;
const runId = (number: number) => `6650c1d2e3f4a5b6c7d8e9f${number}`;
const update = '/update_pod_identity_mapping';

const mapStep: Step = {
  title: 'EKS Pod Identity: an administrator gives Domino service accounts one role each',
  why:
    'Plain boto3 without profiles needs default credentials. EKS gives them to pods whose service account is tied to a ' +
    'role, so svc-user-1 and svc-user-2 get an account each; svc-user-3 is left as it is. A dry run first.',
  play: async (scene) => {
    const { system, screen } = scene;
    const early = await startWorkload(system, 'svc-user-1', runId(runs.early));
    screen.note(`svc-user-1 has had a run going: ${early.pod}.`);
    scene.workloads.set('early', early);
    const one = { domino_user: 'svc-user-1', iam_role_arn: system.podRoles.one };
    const { text } = await curl(scene, 'POST', `${update}?dry_run=true`, { as: 'admin', body: one });
    const preview = JSON.parse(text) as { before: unknown; pods_to_restart: string[] };
    check(
      scene,
      preview.before === null && preview.pods_to_restart.join() === early.pod,
      'nothing is written, and it names the pod that would have to be restarted',
    );
    await curl(scene, 'POST', update, { as: 'admin', body: one });
    const two = { domino_user: 'svc-user-2', iam_role_arn: system.podRoles.two };
    await curl(scene, 'POST', update, { as: 'admin', body: two });
    const start = performance.now();
    await Promise.all(['svc-user-1', 'svc-user-2'].map((user) => untilReport(scene, user, isInPlace)));
    check(scene, true, `both in place after ${((performance.now() - start) / 1000).toFixed(1)} s`);
  },
};

const partsStep: Step = {
  title: 'What was put in place',
  why:
    'In this order: a service account, a trust statement that lets EKS in for just that account, an association, and ' +
    'last the Mutation by which domsed gives the account to the user’s new pods. The leader keeps all four.',
  play: async (scene) => {
    const { system, screen } = scene;
    const cluster = demoCluster(system.stack);
    screen.command('kubectl -n domino-compute get serviceaccount svc-user-1-sa -o yaml');
    const account = await cluster.serviceAccount('svc-user-1-sa');
    const { labels, name } = account?.metadata ?? {};
    screen.answer(stringify({ kind: 'ServiceAccount', metadata: { name, labels } }));
    check(scene, labels?.['app.kubernetes.io/managed-by'] === 'irsa-svc', 'an account that says whose it is');

    screen.command(`aws iam get-role --role-name ${nameOf(system.podRoles.one)}`, '--query …AssumeRolePolicyDocument');
    const policy = await trustPolicy(system, system.podRoles.one);
    screen.answer(JSON.stringify(policy, null, 2));
    const [first, ours] = policy.Statement;
    check(
      scene,
      first?.Sid === undefined && ours?.Sid === 'AllowEksAuthToAssumeRoleForPodIdentity',
      'the role’s own statement as it was, and AWS’s beside it, narrowed to this account',
    );

    screen.command(`aws eks list-pod-identity-associations --cluster-name ${system.cluster}`, '…');
    const found = await associations(system);
    const shown = found.map(({ serviceAccount, roleArn, associationId }) => ({
      associationId,
      serviceAccount,
      roleArn,
    }));
    screen.answer(shown.map((one) => JSON.stringify(one, null, 1)).join('\n'));
    const pairs = found.map(({ serviceAccount, roleArn = '' }) => `${serviceAccount} ${nameOf(roleArn)}`).sort();
    const expected = [1, 2].map((number) => `svc-user-${number}-sa example-eks-pod-identity${number}-role`);
    check(scene, pairs.join() === expected.join(), 'an association each');

    screen.command(`kubectl -n domino-platform get mutation ${mutationName} -o yaml`);
    const mutation = await cluster.mutation(mutationName);
    const { apiVersion, kind, rules } = mutation ?? { rules: [] };
    screen.answer(stringify({ apiVersion, kind, metadata: { name: mutationName }, rules }));
    const users = rules[0]?.cloudWorkloadIdentity?.user_mappings;
    check(
      scene,
      JSON.stringify(users) === '{"svc-user-1":"svc-user-1-sa","svc-user-2":"svc-user-2-sa"}',
      'the Mutation that one would write by hand',
    );
  },
};

const podsStep: Step = {
  title: 'Two workloads start',
  why: 'domsed gives the pod its account as it is created, and EKS sees that the account has an association.',
  play: async (scene) => {
    for (const [user, number] of [['svc-user-1', runs.one] as const, ['svc-user-2', runs.two] as const]) {
      const workload = await startWorkload(scene.system, user, runId(number));
      scene.workloads.set(user, workload);
      showPod(scene, workload);
      check(
        scene,
        workload.account === `${user}-sa` && 'AWS_CONTAINER_CREDENTIALS_FULL_URI' in workload.variables,
        `the account of ${user}, and the variables that lead AWS clients to EKS’s agent`,
      );
    }
  },
};

const identityStep: Step = {
  title: 'Who they are to AWS',
  why: 'No profile, no config file, no key: the client finds the agent by itself, which takes the role for the pod.',
  play: async (scene) => {
    const { name, typed } = await client();
    const results = ['svc-user-1', 'svc-user-2'].map((user) => ({ user, result: workloadOf(scene, user).whoAmI() }));
    for (const [index, { user, result }] of results.entries()) {
      const { pod } = workloadOf(scene, user);
      const { code, stdout, stderr } = await result;
      scene.screen.command(`kubectl -n domino-compute exec -it ${pod} --`, ...typed);
      // The last of boto3's log lines about its search names the place where it found credentials.
      scene.screen.answer([...stderr.trim().split('\n').slice(-2), stdout.trim()].filter(Boolean).join('\n'));
      assert.equal(code, 0, `${name} in ${pod}: ${stderr}`);
      const role = `example-eks-pod-identity${index + 1}-role`;
      const expected = new RegExp(`^arn:aws:sts::111111111111:assumed-role/${role}/eks-acme-`);
      check(scene, expected.test(stdout.trim()), `${name} in a pod of ${user} holds ${role}`);
    }
  },
};

const dynamicStep: Step = {
  title: 'svc-user-3 was not mapped, and nothing changes for its pods',
  why: 'The Mutation says assume_sa_mapping: false, so who is not listed keeps the account that Domino makes for the run.',
  play: async (scene) => {
    const workload = await startWorkload(scene.system, 'svc-user-3', runId(runs.three));
    scene.workloads.set('svc-user-3', workload);
    showPod(scene, workload);
    const isOwn = workload.account === `run-${workload.run}` && Object.keys(workload.variables).length === 0;
    check(scene, isOwn, 'the account of the run, and no variable for AWS');
    const { code, stderr } = await workload.whoAmI();
    scene.screen.answer(stderr.trim().split('\n').at(-1) ?? '');
    check(scene, code !== 0, 'AWS clients find no credentials in it');
  },
};

const ownStep: Step = {
  title: 'svc-user-1 asks what it has, and what to restart',
  why: 'EKS and domsed act when a pod is created. A pod that is older goes on without, and nobody would tell.',
  play: async (scene) => {
    const [early, late] = [workloadOf(scene, 'early'), workloadOf(scene, 'svc-user-1')];
    await untilReport(scene, 'svc-user-1', (report) => report?.pods.includes(late.pod) ?? false);
    const { text } = await curl(scene, 'GET', '/my_pod_identity', { as: 'svc-user-1' });
    const { pod_identity: report } = JSON.parse(text) as { pod_identity: PodIdentityReport };
    const restart = report.restart.map(({ pod }) => pod);
    check(scene, restart.join() === early.pod && report.pods.join() === late.pod, 'one pod has it, one is to restart');
    const none = await curl(scene, 'GET', '/my_pod_identity', { as: 'svc-user-3' });
    check(scene, JSON.parse(none.text).pod_identity === null, 'and svc-user-3 has none');
  },
};

const besideStep: Step = {
  title: 'Profiles of this service work beside it',
  why:
    'svc-user-1 is in the organization finance, which has a role of the other account. The workload asks for it as any ' +
    'run does; it is the account of the pod that gets it. A profile is used where it is named, Pod Identity elsewhere.',
  play: async (scene) => {
    const { system, screen } = scene;
    const workload = workloadOf(scene, 'svc-user-1');
    const { target } = system.roles.update;
    const { text } = await curl(scene, 'POST', '/map_iam_roles_to_pod_sa', {
      as: 'svc-user-1',
      body: { run_id: workload.run },
    });
    writeFileSync(system.files.config, text);
    const token = await system.stack.order('pod-token', { serviceAccount: workload.account });
    writeFileSync(system.files.token, token);
    const file = { AWS_CONFIG_FILE: system.files.config };
    const results = [{ ...file, AWS_PROFILE: nameOf(target) }, file].map((more) => workload.whoAmI(more));
    const [byProfile, byDefault] = await Promise.all(results);
    const { name, typed } = await client();
    screen.command(`AWS_PROFILE=${nameOf(target)}`, ...typed);
    screen.answer(byProfile?.stdout.trim() ?? '');
    check(
      scene,
      byProfile?.stdout.includes(`:assumed-role/${nameOf(target)}/svc-user-1-`) ?? false,
      `${name} with the profile holds the organization’s role`,
    );
    screen.command(...typed);
    screen.answer(byDefault?.stdout.trim() ?? '');
    check(
      scene,
      byDefault?.stdout.includes(`/${nameOf(system.podRoles.one)}/eks-acme-`) ?? false,
      'and without a profile the role of Pod Identity',
    );
  },
};

export const podIdentitySteps: readonly Step[] = [
  mapStep,
  partsStep,
  podsStep,
  identityStep,
  dynamicStep,
  ownStep,
  besideStep,
];

export function workloadOf({ workloads }: Scene, name: string): Workload {
  const found = workloads.get(name);
  assert.ok(found, `no workload of ${name} was started`);
  return found;
}

/** Waits until the administrator's report has this state. */
export async function untilReport(
  { system }: Scene,
  user: string,
  holds: (report: PodIdentityReport | undefined) => boolean,
): Promise<PodIdentityReport | undefined> {
  let last: PodIdentityReport | undefined;
  const look = async () => {
    const { text } = await system.call('GET', '/trust_status', { as: 'admin' });
    const { pod_identities: all } = JSON.parse(text) as { pod_identities: PodIdentityReport[] };
    last = all.find((one) => one.domino_user === user);
    return holds(last) ? true : undefined;
  };
  await eventually(`Pod Identity of ${user}`, look).catch((error: unknown) => {
    throw new Error(`${String(error)}; it says ${JSON.stringify(last)}`);
  });
  return last;
}

const isInPlace = (report: PodIdentityReport | undefined) => report?.state === 'in_place';

function showPod({ screen }: Scene, { pod, account, variables }: Workload): void {
  screen.command(`kubectl -n domino-compute get pod ${pod} -o yaml`);
  const env = Object.entries(variables).map(([name, value]) => `- name: ${name}\n      value: ${value}\n    `);
  screen.answer(`serviceAccountName: ${account}\ncontainers:\n- name: run\n  env:\n    ${env.join('')}- …`);
}

function nameOf(arn: string): string {
  return arn.slice(arn.lastIndexOf('/') + 1);
}
