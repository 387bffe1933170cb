/** Proves that third-party checkers find nothing in the policies of docs and Terraform, nor in those of the service. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { textOf } from '../../support/pages.ts';
import { clusterAccount, runId, startWorld } from '../../support/world.ts';
import { needTerraform, openTerraform } from '../../terraform/terraform.ts';
import { orSkip } from '../tools.ts';
import { iamPolicyJudge, type Judge, startParliament, versions } from './judges.ts';

interface Document {
  Statement: { Principal?: unknown }[];
}

const issuer = 'oidc.eks.us-west-2.amazonaws.com/id/0123456789ABCDEF';
const isTrust = ({ Statement: [first] }: Document) => first?.Principal !== undefined;

/** The documents of the page, by their place on it. */
function documentsOf(page: string): [string, Document][] {
  const blocks = textOf(page).matchAll(/```json\n([\s\S]*?)```/g);
  const texts = [...blocks].map(([, json = '']) => json.replaceAll('<issuer>', issuer));
  const policies = texts.filter((text) => text.includes('"Statement"'));
  return policies.map((text, index) => [`${page}, document ${index + 1}`, JSON.parse(text) as Document]);
}

const role = (name: string, account = '111111111111') => `arn:aws:iam::${account}:role/${name}`;
const cluster = {
  partition: 'aws',
  account_id: '111111111111',
  oidc_provider: issuer,
  oidc_audience: 'sts.amazonaws.com',
};
const service = {
  ...cluster,
  region: 'us-west-2',
  namespace: 'domino-field',
  service_account: 'irsa-svc',
  credentials: 'irsa',
  proxy_role_arns: [],
  proxy_role_prefix: 'acme-',
  cluster_name: null,
  pod_identity_role_arns: [],
};
const target = { role_arn: role('acme-read', '222222222222'), proxies: 2 };
const terraformModules: readonly [string, object][] = [
  ['service-role/policies', service],
  ['service-role/policies', { ...service, proxy_role_prefix: null, proxy_role_arns: [role('acme-read')] }],
  [
    'service-role/policies',
    { ...service, credentials: 'pod-identity', cluster_name: 'acme', pod_identity_role_arns: [role('acme-alice')] },
  ],
  ['proxy-roles/policies', { ...cluster, name_prefix: '', targets: { 'acme-read': target } }],
  ['target-roles/policies', { roles: { 'acme-read': { proxy_role_arns: [role('acme-read')] } } }],
];

const pages = ['docs/aws-permissions.md', 'docs/pod-identity.md', 'docs/security.md'].flatMap(documentsOf);

describe(`policies checked by @cloud-copilot/iam-policy ${versions['@cloud-copilot/iam-policy']}`, function () {
  this.timeout(10 * 60_000);
  let judge: Judge;
  before(async function () {
    judge = await orSkip(this, iamPolicyJudge);
  });

  it('finds an error in a wrong policy', () => {
    const statement = { Effect: 'Allow', Action: 'sts:AssumeRole', Principal: { AWS: '*' }, Resource: '*' };
    assert.notDeepEqual(judge.trust({ Version: '2012-10-17', Statement: [statement] }), []);
    assert.notDeepEqual(judge.permissions({ Version: '2012-10-17', Statement: [statement] }), []);
  });

  for (const [name, document] of pages) {
    it(`finds nothing in ${name}`, () => {
      assert.deepEqual(isTrust(document) ? judge.trust(document) : judge.permissions(document), []);
    });
  }

  it('finds nothing in a trust policy after an edit that it did not find before', () => {
    const folder = join(import.meta.dirname, '..', '..', 'cases', 'trust-policy');
    let edits = 0;
    for (const file of readdirSync(folder)) {
      const { before, after } = JSON.parse(readFileSync(join(folder, file), 'utf8')) as Record<string, unknown>;
      if (typeof before !== 'object' || typeof after !== 'object' || !('Statement' in (after ?? {}))) continue;
      edits += 1;
      const known = new Set(judge.trust(before).map(withoutPlace));
      assert.deepEqual(
        judge.trust(after).filter((finding) => !known.has(withoutPlace(finding))),
        [],
        file,
      );
    }
    assert.ok(edits > 20);
  });

  it('finds nothing in the trust policies that the service writes', async () => {
    const world = await startWorld({ EKS_CLUSTER_NAME: 'acme' });
    try {
      const replica = await world.startReplica();
      world.domino.addUser({ name: 'alice', orgs: ['acme'] });
      world.domino.addUser({ name: 'svc-user-1', orgs: [] });
      await world.map(replica, 'acme', world.addRolePair('acme'));
      for (const number of [1, 2]) {
        world.startRun(runId(number), 'alice');
        const body = { run_id: runId(number) };
        const answer = await replica.call('POST', '/map_iam_roles_to_pod_sa', { as: 'alice', body });
        assert.equal(answer.status, 200, answer.text);
      }
      const { history } = world.aws.role(clusterAccount, 'acme');
      assert.ok(history.length > 2);
      for (const { document } of history.slice(1)) assert.deepEqual(judge.trust(document), []);
    } finally {
      await world.stop();
    }
  });
});

describe(`policies checked by parliament ${versions.parliament}`, function () {
  this.timeout(10 * 60_000);
  let parliament: ReturnType<typeof startParliament>;
  before(async function () {
    parliament = await orSkip(this, startParliament);
  });
  after(() => parliament?.stop());

  it('finds an error in a wrong policy', async () => {
    const statement = { Effect: 'Allow', Action: 'iam:NoSuchAction', Resource: 'arn:aws:s3:::bucket' };
    assert.notDeepEqual(await parliament.permissions({ Version: '2012-10-17', Statement: [statement] }), []);
  });

  for (const [name, document] of pages.filter(([, each]) => !isTrust(each))) {
    it(`finds nothing in ${name}`, async () => {
      assert.deepEqual(await parliament.permissions(document), []);
    });
  }
});

describe('the policies of deploy/terraform, checked by both', function () {
  this.timeout(10 * 60_000);
  const found: [string, Document][] = [];
  before(async function () {
    needTerraform(this);
    const terraform = openTerraform();
    try {
      for (const [module, variables] of terraformModules) {
        found.push(...documentsIn(await terraform.apply(module, variables), module));
      }
    } finally {
      terraform.remove();
    }
  });

  it('have no findings', async function () {
    const judge = await orSkip(this, iamPolicyJudge);
    const parliament = await orSkip(this, startParliament);
    assert.ok(found.length >= 8, `${found.length} documents`);
    for (const [name, document] of found) {
      assert.deepEqual(isTrust(document) ? judge.trust(document) : judge.permissions(document), [], name);
      if (!isTrust(document)) assert.deepEqual(await parliament.permissions(document), [], name);
    }
    await parliament.stop();
  });
});

/** The policies in a module's outputs, however deep, as JSON text or not. */
function documentsIn(value: unknown, name: string): [string, Document][] {
  const parsed: unknown = typeof value === 'string' && value.startsWith('{') ? JSON.parse(value) : value;
  if (typeof parsed !== 'object' || parsed === null) return [];
  if ('Statement' in parsed) return [[name, parsed as Document]];
  return Object.entries(parsed).flatMap(([key, each]) => documentsIn(each, `${name} ${key}`));
}

/** The finding alone: an edit may move a statement. */
const withoutPlace = (finding: string) => finding.replace(/^[^:]*: /, '');
