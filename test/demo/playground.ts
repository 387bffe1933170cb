/** Owns the content of `npm run dev`: the demo's system with mapped roles and live runs, and lines to copy and paste. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { PodIdentityReport } from '../../src/reports/pod-identity.ts';
import { which } from '../stack/clients.ts';
import { consoleClientId } from '../stack/domino.ts';
import type { SidecarProcess } from '../stack/sidecars.ts';
import { podIdentityLines } from './pod-identity-lines.ts';
import { variableOf } from './scene.ts';
import { eventually } from './screen.ts';
import { type Seeded, seed } from './seed.ts';
import { people, type System, startSystem } from './system.ts';

export interface Playground {
  readonly system: System;
  /** The sidecar of alice's run. */
  readonly sidecar: SidecarProcess;
  /** A shell file that sets the variables for the lines. */
  readonly variables: string;
  readonly seeded: Seeded;
}

/** One line to try. */
export interface Line {
  readonly about: string;
  readonly typed: string;
  /** Text in the line's output when it works. */
  readonly shows: RegExp;
  /** The program that the line needs besides curl. */
  readonly needs?: string;
}

/** Alice's run, which is live when the playground opens, and another run to try things with. */
const run = '646d27b817c28b5ea4b5b0c1';
const otherRun = '646f604955daf764547c5b77';
const json = '-H Content-Type:application/json';
const map = `curl --cacert $CA -X POST $IRSA/map_iam_roles_to_pod_sa ${json}`;

export const lines: readonly Line[] = [
  { about: 'is the service ready?', typed: 'curl --cacert $CA $IRSA/readyz', shows: /"status":"Ready"/ },
  {
    about: 'alice’s role mappings',
    typed: 'curl --cacert $CA $IRSA/my_role_mappings -H "Authorization: Bearer $ALICE"',
    shows: /acme-list-bucket-role/,
  },
  {
    about: 'all role mappings, for an administrator',
    typed: 'curl --cacert $CA $IRSA/role_mappings -H "Authorization: Bearer $ADMIN"',
    shows: /"finance"/,
  },
  {
    about: 'give an organization a role (this replaces what it has)',
    typed: `curl --cacert $CA -X POST $IRSA/update_role_mapping ${json} -H "Authorization: Bearer $ADMIN" -d '{"domino_org":"finance","iam_role_arn":"arn:aws:iam::222222222222:role/acme-update-bucket-role","proxy_iam_role_arn":"arn:aws:iam::111111111111:role/acme-update-bucket-role"}'`,
    shows: /"role_data"/,
  },
  {
    about: 'the roles that the sidecar of alice’s run has, and whether AWS accepts them',
    typed: 'curl -s $SIDECAR/status',
    shows: /"state": "ready"[\s\S]*"acme-read-bucket-role"[\s\S]*"proved": true/,
  },
  {
    about: 'give alice’s other organization a role',
    typed: `curl --cacert $CA -X POST $IRSA/update_role_mapping ${json} -H "Authorization: Bearer $ADMIN" -d '{"domino_org":"research","iam_role_arn":"arn:aws:iam::222222222222:role/acme-update-bucket-role","proxy_iam_role_arn":"arn:aws:iam::111111111111:role/acme-update-bucket-role"}'`,
    shows: /"role_data"/,
  },
  {
    about: 'make the sidecar refresh its roles now; by itself it does so every 15 minutes',
    typed: 'curl -s $SIDECAR/refresh',
    shows: /"added": \[ "acme-update-bucket-role" \]/,
  },
  {
    about: 'the roles of alice’s run without the sidecar, written where AWS clients look for them',
    typed: `${map} -H "Authorization: Bearer $ALICE" -d '{"run_id":"${run}"}' | tee $AWS_CONFIG_FILE`,
    shows: /\[profile acme-list-bucket-role\]/,
  },
  {
    about: 'assume a role with them (HOME is another folder, since the CLI keeps sessions there)',
    typed: 'HOME=$FOLDER aws sts get-caller-identity --profile acme-list-bucket-role',
    shows: /assumed-role\/acme-list-bucket-role\/alice-/,
    needs: 'aws',
  },
  {
    about: 'the subjects that the trust policy of a proxy role admits',
    typed: `curl -X POST $CONTROL/subjects -d '"acme-list-bucket-role"'`,
    shows: new RegExp(`domino-compute:run-${run}`),
  },
  {
    about: 'bob is refused alice’s run',
    typed: `${map} -H "Authorization: Bearer $BOB" -d '{"run_id":"${run}"}'`,
    shows: /"code":"run_not_found"/,
  },
  {
    about: 'start a run of bob’s',
    typed: `curl -X POST $CONTROL/start-runs -d '{"user":"bob","runs":["${otherRun}"]}'`,
    shows: new RegExp(`run-${otherRun}`),
  },
  {
    about: 'the pods, as Kubernetes has them',
    typed: 'kubectl -n domino-compute get pods',
    shows: new RegExp(`run-${otherRun}`),
    needs: 'kubectl',
  },
  {
    about: 'bob’s roles for it',
    typed: `${map} -H "Authorization: Bearer $BOB" -d '{"run_id":"${otherRun}"}'`,
    shows: /acme-update-bucket-role/,
  },
  { about: 'end bob’s run', typed: `curl -X POST $CONTROL/end-runs -d '["${otherRun}"]'`, shows: /\{\}/ },
  ...podIdentityLines,
  { about: 'metrics', typed: "curl -s $METRICS | grep '^irsa_'", shows: /irsa_proxy_role_members/ },
  {
    about: 'a fresh token of alice’s, good for five minutes as Domino’s are',
    typed: 'ALICE=$(curl -s "$DOMINO/__stack/token?user=alice"); echo $ALICE',
    shows: /^ey\w+\.ey/,
  },
  {
    about: 'make IAM slow (and what else can go wrong: test/stack/aws-knobs.ts)',
    typed: `curl -X POST $AWS_ENDPOINT_URL/__stack/knobs -d '{"latencyMs":{"UpdateAssumeRolePolicy":2000}}'`,
    shows: /2000/,
  },
];

/** The lines whose programs this machine has. */
export function usableLines(): readonly Line[] {
  return lines.filter(({ needs }) => needs === undefined || which(needs) !== undefined);
}

/** @param settings further settings of the service. */
export async function openPlayground(settings: Record<string, string> = {}): Promise<Playground> {
  const system = await startSystem({ CONSOLE_CLIENT_ID: consoleClientId, ...settings });
  const { list, read, update } = system.roles;
  const entry = ({ target, proxy }: typeof list) => ({ iam_role_arn: target, proxy_iam_role_arn: proxy });
  for (const [org, roles] of Object.entries({ 'data-science': [list, read], finance: [update] })) {
    const body = { domino_org: org, role_data: roles.map(entry) };
    const { status, text } = await system.call('POST', '/update_multirole_mapping', { as: 'admin', body });
    if (status !== 200) throw new Error(`${org} was not mapped: ${text}`);
  }
  await system.startRun('alice', run);
  const sidecar = await system.startSidecar('alice');
  await eventually('the sidecar is ready', async () =>
    (await fetch(`${sidecar.url}/readyz`)).status === 200 ? true : undefined,
  );
  await mapToPodIdentity(system);
  const seeded = await seed(system);
  return { system, sidecar, seeded, variables: await writeVariables(system, sidecar) };
}

async function mapToPodIdentity(system: System): Promise<void> {
  const [user, role] = ['svc-user-1', system.podRoles.one];
  const body = { domino_user: user, iam_role_arn: role };
  const { status, text } = await system.call('POST', '/update_pod_identity_mapping', { as: 'admin', body });
  if (status !== 200) throw new Error(`${user} was not mapped: ${text}`);
  await eventually(`${user} has ${role}`, async () => {
    const answer = await system.call('GET', '/my_pod_identity', { as: user });
    const { pod_identity: report } = JSON.parse(answer.text) as { pod_identity: PodIdentityReport | null };
    return report?.state === 'in_place' ? true : undefined;
  });
}

async function writeVariables({ stack, replica, files, agentUrl }: System, sidecar: SidecarProcess): Promise<string> {
  const kubeconfig = join(files.folder, 'kubeconfig');
  writeFileSync(kubeconfig, stack.kubeconfig);
  const variables: Record<string, string> = {
    FOLDER: files.folder,
    IRSA: replica.url,
    CA: files.certificate,
    METRICS: replica.metricsUrl,
    SIDECAR: sidecar.url,
    DOMINO: stack.dominoUrl,
    CONTROL: stack.controlUrl,
    KUBECONFIG: kubeconfig,
    AWS_ENDPOINT_URL: stack.awsUrl,
    AWS_CONFIG_FILE: files.config,
    AWS_REGION: 'us-west-2',
    AWS_DEFAULT_REGION: 'us-west-2',
    AGENT: agentUrl,
  };
  for (const { name } of people) variables[variableOf(name)] = await stack.token(name, 8 * 3600);
  const path = join(files.folder, 'variables');
  const set = Object.entries(variables).map(([name, value]) => `export ${name}='${value}'\n`);
  // AWS clients would use the keys of a real account in place of the profile.
  writeFileSync(
    path,
    `unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_PROFILE AWS_ROLE_ARN AWS_WEB_IDENTITY_TOKEN_FILE\n${set.join('')}`,
  );
  return path;
}
