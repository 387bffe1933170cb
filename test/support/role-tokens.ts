/** Owns the start of tests of role tokens: a proxy role that may accept tokens, and an organization that the test maps. */
import assert from 'node:assert/strict';
import { trustStatusLabel } from '../../src/proxy-roles/status.ts';
import { until } from './clock.ts';
import type { Replica } from './replica.ts';
import { assumes } from './roles.ts';
import { startWorld, type World } from './world.ts';

export interface TokenWorld {
  world: World;
  replica: Replica;
  /** The proxy role `list` and its target role; the OIDC provider lists the proxy role's audience. */
  proxy: string;
  target: string;
}

/** @param users the members of the organization `acme`. */
export async function startTokenWorld(users: readonly string[]): Promise<TokenWorld> {
  const world = await startWorld({
    ROLE_TOKEN_SECONDS: '600',
    LEASE_SECONDS: '60',
    IAM_READS_PER_SECOND: '100',
    IAM_WRITES_PER_SECOND: '100',
  });
  const replica = await world.startReplica();
  for (const name of users) world.domino.addUser({ name, orgs: ['acme'] });
  const { target, proxies } = world.addRolePair('list');
  world.aws.trustIssuer(world.issuer.issuer, world.issuer.jwks, { clientIds: ['sts.amazonaws.com', 'irsa/list'] });
  return { world, replica, proxy: proxies[0] ?? '', target };
}

/** Replaces the organization's mappings. */
export async function mapRoles(replica: Replica, org: string, ...data: object[]): Promise<void> {
  const body = { domino_org: org, role_data: data };
  const answer = await replica.call('POST', '/update_multirole_mapping', { as: 'admin', body });
  assert.equal(answer.status, 200, answer.text);
}

/** Asks until the run's pod gets a token with which STS lets it into the role. @param as the user who started the run. */
export async function workingToken(
  { replica, proxy }: Pick<TokenWorld, 'replica' | 'proxy'>,
  { run, pod }: { run: string; pod: string },
  as = 'alice',
): Promise<string> {
  let token = '';
  await until(async () => {
    const answer = await replica.call('POST', '/role_tokens', { as, body: { run_id: run, pod } });
    token = answer.body.tokens?.[0]?.token ?? '';
    return token !== '' && (await assumes(token, proxy));
  }, 20_000);
  return token;
}

/** As if a leader had ended before it published them. */
export function removeStatuses({ kubernetes }: World): void {
  for (const { metadata } of kubernetes.list('configmaps')) {
    if (metadata?.labels?.[trustStatusLabel]) kubernetes.remove('configmaps', 'domino-field', metadata.name ?? '');
  }
}
