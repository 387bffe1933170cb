/** Owns the demo's steps with the sidecar: it starts beside the run, and keeps the run's roles in line with the mappings. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { RefreshView, StatusView } from '../../src/sidecar/status.ts';
import { sidecarCommand } from '../stack/sidecars.ts';
import { programs, subjectsOf, trustPolicy, workloadEnvironment } from './aws.ts';
import { check, curl, type Scene } from './scene.ts';
import { eventually } from './screen.ts';
import type { Step } from './steps.ts';

export const sidecarStep: Step = {
  title: 'The sidecar starts beside the run',
  why:
    'In the same pod: the run’s id from the pod’s labels, Alice’s token from Domino’s proxy, then the service. Once ' +
    'IAM has accepted the run, the answer goes into $AWS_CONFIG_FILE, and AWS is asked whether each role works.',
  play: async (scene) => {
    const { system, screen } = scene;
    screen.command('cat $POD_INFO_PATH');
    screen.answer(readFileSync(system.files.labels, 'utf8'));
    screen.command('DOMINO_IRSA_SSL_CERT=$CA', ...sidecarCommand.split(' '));
    const sidecar = await system.startSidecar('alice');
    scene.sidecar = sidecar;
    screen.note(`This one listens on ${sidecar.host}; in a pod it is localhost:6003.`);
    await eventually('the sidecar is ready', async () =>
      (await fetch(`${sidecar.url}/readyz`)).status === 200 ? true : undefined,
    );
    const seconds = (performance.now() - sidecar.child.startedAt) / 1000;
    const { state, profiles } = await ask<StatusView>(scene, '/status');
    const proved = profiles.filter((profile) => profile.proved === true);
    check(scene, state === 'ready' && proved.length === 2, `two roles, proved ${seconds.toFixed(1)} s after its start`);

    screen.command('cat $AWS_CONFIG_FILE');
    const config = readFileSync(system.files.config, 'utf8');
    screen.answer(config);
    const names = [...config.matchAll(/^\[profile (.+)\]$/gm)];
    check(scene, names.length === 4, 'two profiles, each with its source profile');
  },
};

export const byHandStep: Step = {
  title: 'The same by hand, from a notebook',
  why: 'The sidecar makes one call that anybody in the pod can make: the answer is the AWS config file as it is.',
  play: async (scene) => {
    const body = { run_id: scene.run };
    const call = { as: 'alice', body, show: firstLine };
    const { text } = await curl(scene, 'POST', '/map_iam_roles_to_pod_sa', call);
    const written = readFileSync(scene.system.files.config, 'utf8');
    check(scene, profilesOf(text) === profilesOf(written), 'the profiles that the sidecar wrote');
  },
};

export const refreshSteps: readonly Step[] = [
  {
    title: 'A mapping is added, and a refresh brings it',
    why: 'Alice is in the organization research too. The sidecar looks every 15 minutes by itself, and when it is asked.',
    play: async (scene) => {
      const { target, proxy } = scene.system.roles.update;
      const body = { domino_org: 'research', iam_role_arn: target, proxy_iam_role_arn: proxy };
      await curl(scene, 'POST', '/update_role_mapping', { as: 'admin', body, show: () => '…' });
      const { added, kept } = await ask<RefreshView>(scene, '/refresh');
      check(scene, added?.join() === nameOf(target) && kept?.length === 2, 'it is added, and the others are kept');
      const [client] = programs;
      assert.ok(client);
      const { code, stdout, stderr } = await client.run(workloadEnvironment(scene.system, nameOf(target)));
      assert.equal(code, 0, stderr);
      check(scene, stdout.includes(`assumed-role/${nameOf(target)}/alice-`), `${client.name} holds that role at once`);
    },
  },
  {
    title: 'The mapping is deleted, and a refresh drops it',
    why: 'The service takes the run out of the trust policy without being asked; the refresh tidies the file.',
    play: async (scene) => {
      const { target, proxy } = scene.system.roles.update;
      const call = { as: 'admin', body: { domino_org: 'research' }, show: () => '…' };
      await curl(scene, 'DELETE', '/delete_role_mapping', call);
      const { removed, kept } = await ask<RefreshView>(scene, '/refresh');
      check(scene, removed?.join() === nameOf(target) && kept?.length === 2, 'it is removed, and the others are kept');
      const config = readFileSync(scene.system.files.config, 'utf8');
      check(scene, !config.includes(nameOf(target)), 'the file does not name it any more');
      await eventually('the run leaves the trust policy', async () => {
        const left = subjectsOf(await trustPolicy(scene.system, proxy));
        return left.some((subject) => subject.endsWith(`:${scene.account}`)) ? undefined : true;
      });
      check(scene, true, 'nor does the role’s trust policy name the run');
    },
  },
];

/** Calls the sidecar as a person would with curl, and shows command and answer. */
async function ask<T>({ screen, sidecar }: Scene, path: string): Promise<T> {
  assert.ok(sidecar, 'the sidecar was not started');
  screen.command(`curl ${sidecar.host}${path}`);
  const text = await (await fetch(`${sidecar.url}${path}`)).text();
  screen.answer(text);
  return JSON.parse(text) as T;
}

const firstLine = (text: string) => `${text.slice(0, text.indexOf('\n'))}\n…`;
const nameOf = (arn: string) => arn.slice(arn.lastIndexOf('/') + 1);
/** The text without comment lines, since the first one has the time. */
const profilesOf = (config: string) => config.replace(/^#.*\n/gm, '');
