/** Owns the demo's first steps: the service runs, an administrator maps organizations, a user sees the roles that she may have. */
import { check, curl } from './scene.ts';
import type { Step } from './steps.ts';

export const mapStep: Step = {
  title: 'An administrator maps two organizations to AWS roles',
  why:
    'Each mapping names the role with the permissions (account 222222222222) and the proxy role in the cluster’s own ' +
    'account (111111111111) through which it is reached. Only the proxy role’s trust policy ever changes.',
  play: async (scene) => {
    const { list, read, update } = scene.system.roles;
    const entry = ({ target, proxy }: typeof list) => ({ iam_role_arn: target, proxy_iam_role_arn: proxy });
    const two = { domino_org: 'data-science', role_data: [entry(list), entry(read)] };
    await curl(scene, 'POST', '/update_multirole_mapping', { as: 'admin', body: two });
    await curl(scene, 'POST', '/update_role_mapping', {
      as: 'admin',
      body: { domino_org: 'finance', ...entry(update) },
    });
    const all = await scene.system.call('GET', '/role_mappings', { as: 'admin' });
    const { all_role_mappings: stored } = JSON.parse(all.text) as { all_role_mappings: Record<string, unknown[]> };
    const counts = Object.entries(stored).map(([org, roles]) => `${org} ${roles.length}`);
    check(scene, counts.join() === 'data-science 2,finance 1', `stored: ${counts.join(', ')}`);
  },
};

export const setUpSteps: readonly Step[] = [
  {
    title: 'The service is up',
    why: 'Kubernetes asks these two. Ready means: the watches are in step, Domino’s keys are here, AWS said who we are.',
    play: async (scene) => {
      await curl(scene, 'GET', '/healthz');
      await curl(scene, 'GET', '/readyz');
      const seconds = (await scene.system.replica.ready) / 1000;
      check(scene, seconds < 10, `ready ${seconds.toFixed(1)} s after its process began`);
    },
  },
  mapStep,
  {
    title: 'Alice lists the roles that she may have',
    why: 'Who she is and which organizations she is in, the service asks Domino, with her own token.',
    play: async (scene) => {
      const { text } = await curl(scene, 'GET', '/my_role_mappings', { as: 'alice' });
      const { my_role_mappings: mine } = JSON.parse(text) as { my_role_mappings: { domino_org: string }[] };
      const orgs = mine.map(({ domino_org: org }) => org);
      check(scene, orgs.join() === 'data-science,data-science', 'the two roles of data-science, and none of finance');
    },
  },
];
