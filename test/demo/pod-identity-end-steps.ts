/** Owns the demo's last steps with EKS Pod Identity: the service repairs external changes, and a deleted mapping leaves nothing. */
import { associations, trustPolicy } from './aws.ts';
import { demoCluster } from './cluster.ts';
import { mutationName, untilReport, workloadOf } from './pod-identity-steps.ts';
import { check, curl, type Scene } from './scene.ts';
import { eventually } from './screen.ts';
import type { Step } from './steps.ts';
import { endWorkload } from './workload.ts';

const repairStep: Step = {
  title: 'Somebody applies the Mutation from an old file',
  why: 'With kubectl apply the last one wins. The leader compares, puts it right, and says that it happened.',
  play: async (scene) => {
    const { system, screen } = scene;
    const cluster = demoCluster(system.stack);
    const before = await cluster.mutation(mutationName);
    const rules = before?.rules ?? [];
    const [rule] = rules;
    const old = { ...rule?.cloudWorkloadIdentity, user_mappings: { 'svc-user-2': 'svc-user-2-sa' } };
    screen.command('kubectl apply -f old.yaml', '# user_mappings has svc-user-2 alone');
    await cluster.replaceRules(mutationName, [{ ...rule, cloudWorkloadIdentity: old }]);
    const start = performance.now();
    await eventually('the Mutation is repaired', async () => {
      const now = await cluster.mutation(mutationName);
      return JSON.stringify(now?.rules) === JSON.stringify(rules) ? true : undefined;
    });
    check(scene, true, `as it was, after ${((performance.now() - start) / 1000).toFixed(1)} s`);
    screen.command('kubectl -n domino-field get events', '--field-selector reason=PodIdentityChanged');
    const [event] = await eventually('an Event', async () => {
      const found = await cluster.events('PodIdentityChanged');
      return found.length > 0 ? found : undefined;
    });
    screen.answer(event ?? '');
    check(scene, event?.includes(mutationName) ?? false, 'an Event says so, and a line in the log what was missing');
  },
};

const removalStep: Step = {
  title: 'The mapping of svc-user-2 is deleted while its pod runs',
  why: 'First no new pod gets the account, then the role is taken away. The account stays while a pod uses it.',
  play: async (scene) => {
    const { system, screen } = scene;
    const body = { domino_user: 'svc-user-2' };
    const path = '/delete_pod_identity_mapping';
    await curl(scene, 'DELETE', `${path}?dry_run=true`, { as: 'admin', body });
    await curl(scene, 'DELETE', path, { as: 'admin', body });
    const report = await untilReport(scene, 'svc-user-2', (found) => found?.code === 'waiting_for_pods');
    screen.note(`GET /my_pod_identity now says: ${report?.state}, ${report?.reason}.`);
    const left = await associations(system);
    check(
      scene,
      left.every(({ serviceAccount }) => serviceAccount === 'svc-user-1-sa'),
      'its association is gone, and the other one stands',
    );
    const { Statement: statements } = await trustPolicy(system, system.podRoles.two);
    check(scene, statements.length === 1 && statements[0]?.Sid === undefined, 'the role’s trust policy is as it was');
    const { code, stderr } = await workloadOf(scene, 'svc-user-2').whoAmI();
    screen.answer(stderr.trim().split('\n').at(-1) ?? '');
    check(scene, code !== 0, 'clients that start in its pod get nothing more');
    screen.note(
      'Credentials that the pod has live until they expire, for up to six hours, and EKS’s own agent keeps them for it; this stand-in’s agent keeps none.',
    );
  },
};

const cleanUpStep: Step = {
  title: 'All is cleaned up',
  why: 'The pods end, the last mapping is deleted, and the accounts go with the last pod that uses them.',
  play: async (scene) => {
    const { system, screen, workloads } = scene;
    screen.command('kubectl -n domino-compute delete pod', ...[...workloads.values()].map(({ pod }) => pod));
    for (const workload of workloads.values()) await endWorkload(system, workload);
    await curl(scene, 'DELETE', '/delete_pod_identity_mapping', {
      as: 'admin',
      body: { domino_user: 'svc-user-1' },
    });
    const left = await eventually('everything is gone', () => nothingLeft(scene));
    screen.answer(left);
    check(scene, true, 'no account, no association, no trust statement, no Mutation, no status');
  },
};

/** @returns a list of the removed parts; undefined while a part is left. */
async function nothingLeft({ system }: Scene): Promise<string | undefined> {
  const cluster = demoCluster(system.stack);
  const accounts = await Promise.all(['svc-user-1-sa', 'svc-user-2-sa'].map(cluster.serviceAccount));
  const policies = await Promise.all(Object.values(system.podRoles).map((role) => trustPolicy(system, role)));
  const statements = policies.flatMap(({ Statement }) => Statement).filter(({ Sid: sid }) => sid !== undefined);
  const counts = {
    'service accounts': accounts.filter(Boolean).length,
    associations: (await associations(system)).length,
    'trust statements': statements.length,
    Mutations: (await cluster.mutation(mutationName)) ? 1 : 0,
    statuses: await cluster.configMaps('irsa.dominodatalab.com/pod-identity-status'),
  };
  const all = Object.entries(counts);
  return all.every(([, count]) => count === 0) ? all.map(([what, count]) => `${what}: ${count}`).join(', ') : undefined;
}

export const podIdentityEndSteps: readonly Step[] = [repairStep, removalStep, cleanUpStep];
