/** Proves the service against third-party AWS emulators: each check reads the emulator with a client of its own. */
import assert from 'node:assert/strict';
import { CreateRoleCommand } from '@aws-sdk/client-iam';
import { until } from '../../support/clock.ts';
import { assetAccount, clusterAccount, runId } from '../../support/world.ts';
import { skipLoudly, Unavailable } from '../tools.ts';
import { type Emulator, emulators } from './emulators.ts';
import { faultCases } from './fault-cases.ts';
import { ownersStatement, putTrust, type Scene, startScene } from './scene.ts';

/** Those that hold trust policies to their quota, AWS's default, are filled up to it. */
const maxCharsOf = ({ judgesSize }: Emulator) => (judgesSize ? 2048 : 1400);
const target = (name: string) => `arn:aws:iam::${assetAccount}:role/${name}`;

for (const emulator of emulators) {
  describe(`AWS: ${emulator.name} ${emulator.version}`, function () {
    this.timeout(30 * 60_000);
    const maxChars = maxCharsOf(emulator);
    let scene: Scene;
    let next = 500;
    let proxy: string;
    let pathProxy: string;

    before(async function () {
      const cluster = emulator.podIdentity ? { EKS_CLUSTER_NAME: 'acme' } : {};
      try {
        scene = await startScene(emulator, { TRUST_POLICY_MAX_CHARS: String(maxChars), ...cluster });
      } catch (error) {
        if (error instanceof Unavailable) skipLoudly(this, error.message);
        throw error;
      }
      proxy = await scene.addProxy('acme-proxy');
      pathProxy = await scene.addProxy('acme-path-proxy', '/team/data/');
      await scene.map('acme', target('acme-list'), proxy);
    });
    after(() => scene?.stop());

    function newRun(user = 'alice'): string {
      const run = runId(next++);
      scene.world.startRun(run, user);
      return run;
    }
    async function granted(): Promise<string> {
      const run = newRun();
      const answer = await scene.ask(run);
      assert.equal(answer.status, 200, answer.text);
      assert.match(answer.text, /^\[profile acme-list\]$/m);
      return run;
    }
    const asAdmin = (path: string, body: object) => scene.replica.call('POST', path, { as: 'admin', body });

    it('a run becomes a member, and the owner’s statement stays unchanged', async () => {
      const before = await scene.trust('acme-proxy');
      const run = newRun();
      const refused = await scene.assume(proxy, run);
      assert.equal(refused, emulator.judgesTrust === 'no' ? 'ok' : 'AccessDenied');
      assert.equal((await scene.ask(run)).status, 200);
      const after = await scene.trust('acme-proxy');
      assert.deepEqual(await scene.subjects('acme-proxy'), [`*:domino-compute:run-${run}`]);
      type Shown = { Role: { AssumeRolePolicyDocument: object } };
      const shown = await scene.cli<Shown>('iam', 'get-role', '--role-name', 'acme-proxy');
      assert.deepEqual(shown.Role.AssumeRolePolicyDocument, after);
      assert.deepEqual(after.Statement[0], ownersStatement);
      assert.deepEqual([after.Version, after.Statement.length], [before.Version, before.Statement.length]);
      assert.equal(await scene.assume(proxy, run), emulator.judgesTrust === 'refuses all' ? refused : 'ok');
      assert.equal(await scene.assume(proxy, runId(1)), refused);
    });

    it('a role with a path is found by its name; the same name under another path is role_not_found', async () => {
      scene.world.domino.addUser({ name: 'carol', orgs: ['paths'] });
      await scene.map('paths', target('acme-path'), pathProxy);
      const run = newRun('carol');
      const answer = await scene.ask(run, 'carol');
      assert.match(answer.text, new RegExp(`^role_arn = ${pathProxy}$`, 'm'));
      await scene.untilMember('acme-path-proxy', run, true);
      await scene.map('paths', target('acme-path'), pathProxy.replace('/team/', '/other/'));
      const other = newRun('carol');
      assert.match((await scene.ask(other, 'carol')).text, /^# acme-path: refused, role_not_found/m);
    });

    it('a missing role is named with its reason, and the run gets its other roles', async () => {
      scene.world.domino.addUser({ name: 'dave', orgs: ['dave-org'] });
      const gone = `arn:aws:iam::${clusterAccount}:role/acme-gone-proxy`;
      await scene.map('dave-org', target('acme-gone'), gone);
      await scene.map('acme', target('acme-list'), proxy);
      scene.world.domino.addUser({ name: 'erin', orgs: ['acme', 'dave-org'] });
      const answer = await scene.ask(newRun('erin'), 'erin');
      assert.equal(answer.status, 200, answer.text);
      assert.match(answer.text, /^\[profile acme-list\]$/m);
      assert.match(
        answer.text,
        /^# acme-gone: refused, role_not_found: no IAM role acme-gone-proxy in account 1{12}$/m,
      );
    });

    it('a revoked run is removed, and is a member again when it is allowed', async () => {
      const run = await granted();
      const revoked = await asAdmin('/revoke_run', { run_id: run, reason: 'a lost laptop' });
      assert.deepEqual([revoked.status, revoked.body.left], [200, true], revoked.text);
      await scene.untilMember('acme-proxy', run, false);
      assert.equal((await scene.ask(run)).body.code, 'run_revoked');
      assert.equal((await asAdmin('/allow_run', { run_id: run })).status, 200);
      await scene.untilMember('acme-proxy', run, true);
    });

    it('a run that ends is removed, and another run stays a member', async () => {
      const [run, neighbour] = [await granted(), await granted()];
      scene.world.endRun(run);
      await scene.untilMember('acme-proxy', run, false);
      await scene.untilMember('acme-proxy', neighbour, true);
    });

    it('an external change of a managed subject is undone, and a statement that the owner adds stays', async () => {
      const run = await granted();
      const document = await scene.trust('acme-proxy');
      // Short, so that the document keeps capacity for the runs.
      const audit = {
        Sid: 'Audit',
        Effect: 'Deny',
        Principal: { AWS: ownersStatement.Principal.AWS },
        Action: emulator.takesTagSession ? 'sts:TagSession' : 'sts:AssumeRoleWithSAML',
      };
      const text = JSON.stringify(document).replace(`:run-${run}`, ':run-of-a-stranger');
      const changed = JSON.parse(text) as typeof document;
      await putTrust(scene.iam, 'acme-proxy', { ...changed, Statement: [...changed.Statement, audit] });
      await scene.untilMember('acme-proxy', run, true);
      const mended = await scene.trust('acme-proxy');
      assert.ok(!JSON.stringify(mended).includes('run-of-a-stranger'));
      assert.deepEqual(mended.Statement.at(-1), audit);
      await putTrust(scene.iam, 'acme-proxy', { ...mended, Statement: mended.Statement.slice(0, -1) });
    });

    it('a pool fills up to the allowed size, and has capacity again after a run has ended', async () => {
      const pool = [await scene.addProxy('acme-filled-1'), await scene.addProxy('acme-filled-2')];
      await scene.map('filled', target('acme-filled'), ...pool);
      const runs: string[] = [];
      let last = await scene.ask(newRun('bob'), 'bob');
      for (; last.status === 200 && runs.length < 100; last = await scene.ask(runs.at(-1) ?? '', 'bob')) {
        runs.push(newRun('bob'));
      }
      assert.deepEqual([last.status, last.body.code], [503, 'trust_policy_full']);
      const sizes = await Promise.all(
        ['acme-filled-1', 'acme-filled-2'].map(async (name) => JSON.stringify(await scene.trust(name))),
      );
      for (const text of sizes) {
        assert.ok(text.length <= maxChars, `${text.length} characters`);
        assert.ok(text.length > maxChars - 60, `${text.length} characters leave capacity`);
      }
      scene.world.endRun(runs[0] ?? '');
      await until(async () => (await scene.ask(runs.at(-1) ?? '', 'bob')).status === 200, 30_000);
    });

    it('the service calls nothing that its documented policy does not allow', async function () {
      if (!emulator.checksCallers) return this.skip();
      await granted();
      assert.equal(await scene.withWrongSecret(), 'SignatureDoesNotMatch');
      // AWS allows it to every caller, so that it is in no policy.
      assert.deepEqual([...new Set(scene.denied())], ['sts:GetCallerIdentity']);
    });

    it('the emulator still differs from AWS as emulators.ts says', async () => {
      // A version of the emulator that fixes a difference fails this: then remove the entry in emulators.ts.
      const code = (document: object) =>
        putTrust(scene.iam, 'acme-differs', document).then(
          () => 'ok',
          (error: Error) => error.name,
        );
      await scene.addProxy('acme-differs');
      const { Statement: statements } = await scene.trust('acme-differs');
      const long = {
        Version: '2012-10-17',
        Statement: Array.from({ length: 40 }, () => ({ ...ownersStatement, Sid: '' })),
      };
      assert.equal(await code(long), emulator.judgesSize ? 'LimitExceededException' : 'ok');
      const unknown = { Version: '2012-10-17', Statement: statements, Nonsense: 1 };
      assert.equal(await code(unknown), emulator.judgesGrammar ? 'MalformedPolicyDocumentException' : 'ok');
      const tagging = { ...ownersStatement, Action: ['sts:AssumeRole', 'sts:TagSession'] };
      const tagged = await code({ Version: '2012-10-17', Statement: [tagging] });
      assert.equal(tagged, emulator.takesTagSession ? 'ok' : 'MalformedPolicyDocumentException');
      const listed = await scene.assume(proxy, await granted(), 'as issued');
      const matchesLists = emulator.judgesTrust === 'yes' || emulator.judgesTrust === 'no';
      assert.equal(listed, matchesLists ? 'ok' : 'AccessDenied');
    });

    faultCases(() => scene);

    if (!emulator.podIdentity) return;
    it('Pod Identity: an association and its trust statement are created, and removed with the mapping', async () => {
      const trust = { ...ownersStatement, Sid: 'TheOwnersOwn' };
      const Document = JSON.stringify({ Version: '2012-10-17', Statement: [trust] });
      const { Role } = await scene.iam.send(
        new CreateRoleCommand({ RoleName: 'pod-role', AssumeRolePolicyDocument: Document }),
      );
      scene.world.domino.addUser({ name: 'svc-user-1', orgs: [] });
      const body = { domino_user: 'svc-user-1', iam_role_arn: Role?.Arn };
      const mapped = await asAdmin('/update_pod_identity_mapping', body);
      assert.equal(mapped.status, 200, mapped.text);
      type Listed = { associations: { associationId: string; serviceAccount: string }[] };
      const list = () => scene.cli<Listed>('eks', 'list-pod-identity-associations', '--cluster-name', 'acme');
      await until(async () => (await list()).associations.length === 1, 60_000);
      const [one] = (await list()).associations;
      scene.acting.add('svc-user-1-sa');
      const described = await scene.cli<{ association: { roleArn: string; tags: Record<string, string> } }>(
        ...['eks', 'describe-pod-identity-association', '--cluster-name', 'acme'],
        ...['--association-id', one?.associationId ?? ''],
      );
      assert.equal(one?.serviceAccount, 'svc-user-1-sa');
      assert.equal(described.association.roleArn, Role?.Arn);
      assert.equal(described.association.tags['app.kubernetes.io/managed-by'], 'irsa-svc');
      await until(async () => (await report(scene))?.state === 'in_place', 60_000);
      const document = await scene.trust('pod-role');
      assert.deepEqual([document.Statement[0], document.Statement.length], [trust, 2]);
      const removed = await scene.replica.call('DELETE', '/delete_pod_identity_mapping', {
        as: 'admin',
        body: { domino_user: 'svc-user-1' },
      });
      assert.equal(removed.status, 200, removed.text);
      await until(async () => (await list()).associations.length === 0, 60_000);
      await until(async () => (await scene.trust('pod-role')).Statement.length === 1, 60_000);
      assert.deepEqual((await scene.trust('pod-role')).Statement, [trust]);
    });
  });
}

async function report(scene: Scene): Promise<{ state: string } | undefined> {
  const { body } = await scene.replica.call('GET', '/trust_status', { as: 'admin' });
  return (body as { pod_identities: { domino_user: string; state: string }[] }).pod_identities.find(
    ({ domino_user: user }) => user === 'svc-user-1',
  );
}
