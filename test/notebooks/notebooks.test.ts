/** Proves the notebooks: their cells, run unchanged by plain Python against the whole system in processes of its own. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseConfig } from '../../src/sidecar/profiles.ts';
import { statusView } from '../../src/sidecar/status.ts';
import { stsProblem } from '../../src/sidecar/sts-problem.ts';
import { send } from '../demo/https.ts';
import {
  buildService,
  makeCertificate,
  type ReplicaProcess,
  type StackProcess,
  startReplica,
  startStack,
} from '../stack/processes.ts';
import { type RunningServer, startServer } from '../stack/server.ts';
import { fillPod, type PodFiles, podFiles, type SidecarProcess, startSidecarProcess } from '../stack/sidecars.ts';
import { until } from '../support/clock.ts';
import { folder, hasPython, type Notebook, readNotebook, runNotebook } from './notebook.ts';

const run = '646d27b817c28b5ea4b5b0c1';
const account = `run-${run}`;
const names = ['1-verify', '2-map', '3-try'];
const role = (name: string) => `arn:aws:iam::222222222222:role/${name}`;
const proxy = (name: string) => `arn:aws:iam::111111111111:role/${name}`;
const [list, read] = ['acme-list-bucket-role', 'acme-read-bucket-role'];

describe('the notebooks', () => {
  it('are exactly the three that the tests know', () => {
    const files = readdirSync(folder).filter((name) => name.endsWith('.ipynb'));
    assert.deepEqual(
      files.sort(),
      names.map((name) => `${name}.ipynb`),
    );
  });

  for (const name of names) {
    it(`${name} is a notebook of format 4.5, without outputs, with a text before each code cell`, () => {
      const notebook: Notebook = readNotebook(name);
      assert.deepEqual([notebook.nbformat, notebook.nbformat_minor], [4, 5]);
      assert.equal(notebook.metadata.kernelspec.language, 'python');
      const { cells } = notebook;
      assert.equal(new Set(cells.map(({ id }) => id)).size, cells.length);
      for (const [index, cell] of cells.entries()) {
        assert.match(cell.id, /^[a-zA-Z0-9-_]{1,64}$/);
        assert.deepEqual(cell.metadata, {});
        assert.ok(cell.source.every((line, at) => line.endsWith('\n') === at < cell.source.length - 1));
        const others = Object.keys(cell).filter((key) => !['cell_type', 'id', 'metadata', 'source'].includes(key));
        if (cell.cell_type === 'markdown') {
          assert.deepEqual(others, []);
          continue;
        }
        assert.deepEqual(others.sort(), ['execution_count', 'outputs']);
        assert.deepEqual([cell.execution_count, cell.outputs], [null, []]);
        const text = cell.source.join('');
        assert.doesNotMatch(text, /verify\s*=\s*False|^[!%]/m, 'plain Python, and certificates verified');
        const before = cells[index - 1];
        assert.equal(before?.cell_type, 'markdown', 'a text introduces each code cell');
      }
    });
  }

  it('read only variables that the chart’s Mutation, Domino or the notebook itself sets', () => {
    const mutation = readFileSync(join(folder, '..', 'helm', 'irsa', 'templates', 'mutation.yaml'), 'utf8');
    const given = [...mutation.matchAll(/^ +- name: ([A-Z_]+)$/gm)].map(([, name]) => name);
    assert.ok(given.length > 8);
    for (const name of names) {
      const text = readNotebook(name)
        .cells.map(({ source }) => source.join(''))
        .join('\n');
      const read = [...text.matchAll(/environ(?:\.\w+\(|\[)"(\w+)"/g)].map(([, variable = '']) => variable);
      const told = [...text.matchAll(/%env (\w+)=/g)].map(([, variable]) => variable);
      const has = [...given, ...told, 'DOMINO_RUN_ID', 'DOMINO_API_PROXY'];
      assert.ok(read.length > 2);
      assert.deepEqual(
        read.filter((variable) => !has.includes(variable)),
        [],
        name,
      );
    }
  });

  it('2-map names an organization of Terraform’s example, and reads the file that it writes', () => {
    const text = readNotebook('2-map')
      .cells.map(({ source }) => source.join(''))
      .join('\n');
    const [, organization = '', written = ''] = /jq -r '\."([^"]+)"' > (\S+)/.exec(text) ?? [];
    const example = readFileSync(
      join(folder, '..', 'terraform', 'examples', 'acme', 'terraform.tfvars.example'),
      'utf8',
    );
    const [, organizations = ''] = /^organizations = \{\n([\s\S]*?)^\}/m.exec(example) ?? [];
    assert.match(organizations, new RegExp(`^ +${organization} += \\[`, 'm'));
    assert.equal(/%env MAPPING_FILE=(\S+)/.exec(text)?.[1], written);
  });

  describe('run by Python', function () {
    this.timeout(120_000);
    let stack: StackProcess;
    let replica: ReplicaProcess;
    let sidecar: SidecarProcess;
    let files: PodFiles;
    let work: string;
    let certificate: string;
    const tokenProxies: RunningServer[] = [];

    before(async function () {
      if (!(await hasPython('requests', 'boto3'))) {
        console.warn('SKIPPED: the notebooks are not run: this machine has no python3 with requests and boto3');
        return this.skip();
      }
      work = mkdtempSync(join(tmpdir(), 'irsa-svc-notebooks-'));
      files = podFiles(work);
      certificate = join(work, 'service.crt');
      [stack] = await Promise.all([startStack(), buildService()]);
      for (const person of [
        { name: 'admin', admin: true, orgs: [] },
        { name: 'alice', orgs: ['acme'] },
        { name: 'bob', orgs: [] },
      ]) {
        await stack.order('add-user', person);
      }
      for (const name of [list, read]) await stack.order('add-role-pair', { name });
      replica = await startReplica(stack, { https: true, settings: { WEB_IDENTITY_TOKEN_PATH: files.token } });
      await replica.ready;
      writeFileSync(certificate, replica.ca ?? '');
      await stack.order('start-runs', { user: 'alice', runs: [run] });
      await fillPod(stack, files, run);
    });
    after(async () => {
      await sidecar?.stop();
      await replica?.stop();
      await stack?.stop();
      await Promise.all(tokenProxies.map((server) => server.close()));
      if (work) rmSync(work, { recursive: true, force: true });
    });

    /** What a workload of this user finds in its environment. */
    async function workload(user: string, more: Record<string, string> = {}): Promise<Record<string, string>> {
      const server = await startServer(async (_request, response) => void response.end(await stack.token(user, 300)));
      tokenProxies.push(server);
      return {
        DOMINO_RUN_ID: run,
        DOMINO_API_PROXY: server.url,
        DOMINO_IRSA_ENDPOINT: `${replica.url}/map_iam_roles_to_pod_sa`,
        DOMINO_IRSA_SSL_CERT: certificate,
        AWS_WEB_IDENTITY_TOKEN_FILE: files.token,
        AWS_CONFIG_FILE: files.config,
        // The cluster's STS, which a workload finds by its region.
        AWS_ENDPOINT_URL_STS: stack.awsUrl,
        AWS_EC2_METADATA_DISABLED: 'true',
        HOME: work,
        DOMINO_IRSA_PROXY: `http://localhost:${sidecar ? new URL(sidecar.url).port : 9}`,
        ...more,
      };
    }
    const asAdmin = async (method: string, path: string, body: object) =>
      send(replica.url + path, { method, ca: replica.ca ?? '', token: await stack.token('admin'), body });

    it('1-verify without mappings: the service is healthy, and there is no config file', async () => {
      const printed = await runNotebook('1-verify', await workload('alice'));
      const [addresses, service, besides, mappings, token, config] = printed;
      assert.match(addresses ?? '', /service: {2}https:\/\/127\.0\.0\.1:\d+\nsidecar: http:\/\/localhost:9\n/);
      assert.match(service ?? '', /\/healthz 200 {"status":"Healthy"}\n\/readyz 200/);
      assert.match(besides ?? '', /no sidecar here/);
      assert.equal(mappings, '0 mappings\nDomino knows you as alice in acme\n');
      assert.match(token ?? '', new RegExp(`"sub": "system:serviceaccount:domino-compute:${account}"`));
      assert.match(token ?? '', /"sts\.amazonaws\.com"[\s\S]*expires \d{4}-/);
      assert.ok(!printed.join('').includes(readFileSync(files.token, 'utf8').slice(0, 40)), 'the token is not shown');
      assert.match(config ?? '', /There is no .* yet/);
    });

    it('3-try without mappings, with and without a sidecar: says that the organization is not mapped', async () => {
      const [, written] = await runNotebook('3-try', await workload('alice'));
      assert.match(
        written ?? '',
        new RegExp(`^written: .*\n# irsa-svc: no roles of alice for run ${run}, .*: \\["acme"\\]\n$`),
      );
      const service = replica.url;
      const settings = { IRSA_PROVE: 'true' };
      const beside = await startSidecarProcess(stack, { user: 'alice', files, service, certificate, settings });
      try {
        const environment = await workload('alice', { DOMINO_IRSA_PROXY: beside.url });
        const says = 'Domino knows you as alice, in the organization acme. None is mapped to an AWS role';
        const [, refreshed] = await runNotebook('3-try', environment);
        assert.ok(refreshed?.startsWith(says), refreshed);
        const [, , besides] = await runNotebook('1-verify', environment);
        assert.match(besides ?? '', new RegExp(`state: unmapped {2}run: ${run}\n${says}`));
      } finally {
        await beside.stop();
        rmSync(files.config);
      }
    });

    it('1-verify fails where the CA certificate is wrong', async () => {
      const other = join(work, 'other.crt');
      writeFileSync(other, makeCertificate().cert);
      const environment = await workload('alice', { DOMINO_IRSA_SSL_CERT: other });
      await assert.rejects(runNotebook('1-verify', environment), /cell 2\n[\s\S]*certificate verify failed/);
    });

    it('2-map shows the refusal to a user who is not an administrator', async () => {
      const printed = await runNotebook('2-map', await workload('alice'));
      assert.match(printed.join(''), /403 forbidden: [\s\S]*request id /);
      assert.deepEqual(await stack.order('stored-mappings', undefined as never), {});
    });

    it('2-map: shows the dry run, the stored mapping and the state of the proxy roles', async () => {
      const [, before, mapping, preview, stored, status, deletion] = await runNotebook(
        '2-map',
        await workload('admin'),
      );
      assert.equal(before, '0 organizations are mapped\n');
      assert.match(mapping ?? '', /"domino_org": "acme"/);
      assert.match(preview ?? '', new RegExp(`members of acme gain ${role(list)} when their runs next ask`));
      assert.match(preview ?? '', new RegExp(`${proxy(list)}: not looked at yet`));
      assert.equal(
        stored,
        `acme\n   ${role(list)} by way of ${proxy(list)}\n   ${role(read)} by way of ${proxy(read)}\n`,
      );
      assert.match(status ?? '', new RegExp(`${proxy(list)}\n {3}0 runs are in, [1-9]\\d+ more fit\n`));
      assert.match(deletion ?? '', /members of acme lose|Nothing was deleted\.\n$/);
      assert.deepEqual(Object.keys(await stack.order('stored-mappings', undefined as never)), ['acme']);
    });

    it('3-try without a sidecar: fetches the config file from the service, and STS gives the sessions', async () => {
      const [, refresh, profiles, identities, access] = await runNotebook('3-try', await workload('alice'));
      assert.equal(refresh, `written: ${files.config}\n`);
      assert.equal(profiles, `2 profiles: ${list}, ${read}\n`);
      const session = (name: string) => `${name}: arn:aws:sts::222222222222:assumed-role/${name}/alice-${run}\n`;
      assert.equal(identities, session(list) + session(read));
      assert.match(access ?? '', new RegExp(`^alice is in acme\n[\\s\\S]*${role(list)} by way of acme: granted\n`));
      rmSync(files.config);
    });

    it('1-verify and 3-try with a sidecar: show its roles and that they work', async () => {
      const service = replica.url;
      sidecar = await startSidecarProcess(stack, { user: 'alice', files, service, certificate });
      const environment = await workload('alice');
      const [, refresh, , identities] = await runNotebook('3-try', environment);
      assert.match(refresh ?? '', new RegExp(`^(added|kept): ${list}, ${read}\n$`));
      assert.match(identities ?? '', new RegExp(`assumed-role/${read}/alice-${run}`));
      const [, , besides, mappings, , config] = await runNotebook('1-verify', environment);
      assert.match(besides ?? '', new RegExp(`state: ready {2}run: ${run}\n {3}${list} -> ${role(list)}: works\n`));
      assert.match(mappings ?? '', new RegExp(`^2 mappings\nacme: ${role(list)} by way of ${proxy(list)}\n`));
      assert.match(config ?? '', new RegExp(`\\[profile src_${list}\\]`));
      assert.ok(existsSync(files.config));
    });

    it('1-verify where STS refuses a target role: names the failed step; the other role works', async () => {
      const config = parseConfig(readFileSync(files.config, 'utf8'));
      const proofs = config.profiles.map(({ name }) => ({
        profile: name,
        seconds: 1,
        tries: 2,
        problem: name === read ? stsProblem('target', 'target_refused', 'AccessDenied') : undefined,
      }));
      const changes = { added: [], removed: [], changed: [], kept: [] };
      const rounds = { running: false, last: undefined, nextAt: undefined };
      const what = { run, written: true, config, changes, proofs };
      const written = { what, at: 0 };
      const status = statusView({
        configFile: files.config,
        prove: true,
        ready: true,
        written,
        lastError: undefined,
        rounds,
      });
      const beside = await startServer(async (request, response) => {
        response.end(request.url === '/status' ? JSON.stringify(status) : '{"status":"Healthy"}');
      });
      tokenProxies.push(beside);
      const [, , printed = ''] = await runNotebook(
        '1-verify',
        await workload('alice', { DOMINO_IRSA_PROXY: beside.url }),
      );
      assert.ok(printed.includes(`${list} -> ${role(list)}: works\n`), printed);
      const failed = `${read} -> ${role(read)}: does not work\n      target: the role does not exist, does not trust`;
      assert.ok(printed.includes(failed), printed);
    });

    it('1-verify and 3-try without AWS_WEB_IDENTITY_TOKEN_FILE: find the token’s path in the config file', async () => {
      const { AWS_WEB_IDENTITY_TOKEN_FILE: _, ...environment } = await workload('alice');
      const [, , , , token, config] = await runNotebook('1-verify', environment);
      assert.ok(config?.includes(`web_identity_token_file = ${files.token}\n`), config);
      assert.match(token ?? '', new RegExp(`"sub": "system:serviceaccount:domino-compute:${account}"`));
      const [, , , identities] = await runNotebook('3-try', environment);
      assert.match(identities ?? '', new RegExp(`assumed-role/${read}/alice-${run}`));
      // Without a config file, the notebook tries the usual path, which this machine does not have.
      const bare = { ...environment, AWS_CONFIG_FILE: join(work, 'no-such-config') };
      await assert.rejects(
        runNotebook('1-verify', bare),
        /FileNotFoundError: .*'\/var\/run\/secrets\/eks\.amazonaws\.com\/serviceaccount\/token'/,
      );
    });

    it('2-map with the request body from Terraform: shows which run loses which role', async () => {
      const file = join(work, 'acme.json');
      const data = [{ iam_role_arn: role(read), proxy_iam_role_arn: proxy(read) }];
      writeFileSync(file, JSON.stringify({ domino_org: 'acme', role_data: data }));
      const [, before, , preview, stored] = await runNotebook('2-map', await workload('admin', { MAPPING_FILE: file }));
      assert.match(before ?? '', /^1 organizations are mapped\nacme\n/);
      assert.match(preview ?? '', new RegExp(`run ${run} of alice loses ${role(list)}\n`));
      assert.match(preview ?? '', new RegExp(`${proxy(read)}: [1-9]\\d+ runs still fit\n`));
      assert.equal(stored, `acme\n   ${role(read)} by way of ${proxy(read)}\n`);
    });

    it('2-map and 3-try with a role by tokens: show whether they work, and the refusal without a sidecar', async () => {
      const file = join(work, 'tokens.json');
      const data = [
        { iam_role_arn: role(list), proxy_iam_role_arn: proxy(list), carrier: 'token' },
        { iam_role_arn: role(read), proxy_iam_role_arn: proxy(read) },
      ];
      writeFileSync(file, JSON.stringify({ domino_org: 'acme', role_data: data }));
      const environment = await workload('admin', { MAPPING_FILE: file });
      const [, , , preview, stored, missing] = await runNotebook('2-map', environment);
      assert.match(preview ?? '', new RegExp(`${proxy(list)}: takes tokens, of any number of runs\n`));
      assert.match(stored ?? '', new RegExp(`^ {3}${role(list)} by way of ${proxy(list)}, by tokens$`, 'm'));
      assert.match(
        missing ?? '',
        /its tokens do not work: audience_missing .*add-client-id-to-open-id-connect-provider/,
      );
      // The earlier run keeps its entry in the trust policy.
      const fresh = '646d27b817c28b5ea4b5b0c2';
      await stack.order('start-runs', { user: 'alice', runs: [fresh] });
      const beside = { DOMINO_RUN_ID: fresh, DOMINO_IRSA_PROXY: 'http://localhost:9' };
      const [, refresh] = await runNotebook('3-try', await workload('alice', beside));
      assert.match(refresh ?? '', new RegExp(`^written: .*\n# ${list}: refused, needs_role_tokens: .*\n$`));

      await stack.order('list-audiences', [list]);
      // The service checks a missing audience again some seconds later.
      await until(async () => {
        const [, , , , , lets] = await runNotebook('2-map', environment);
        return lets?.includes('the trust policy lets its tokens in') === true;
      }, 60_000);
      await asAdmin('POST', '/update_multirole_mapping', { domino_org: 'acme', role_data: data.slice(1) });
    });

    it('3-try of a revoked run: shows the reason and what to do', async () => {
      const revoked = await asAdmin('POST', '/revoke_run', { run_id: run, reason: 'the laptop was lost' });
      assert.equal(revoked.status, 200, revoked.text);
      const [, refresh, , identities, access] = await runNotebook('3-try', await workload('alice'));
      assert.match(refresh ?? '', /^run_revoked: .*the laptop was lost[\s\S]*What to do: /);
      assert.match(identities ?? '', /AccessDenied Not authorized to perform sts:AssumeRoleWithWebIdentity/);
      assert.match(access ?? '', /by way of acme: run_revoked\n/);
      await asAdmin('POST', '/allow_run', { run_id: run });
    });

    it('3-try of another user’s run: shows run_not_found', async () => {
      const environment = await workload('bob', { DOMINO_IRSA_PROXY: 'http://localhost:9' });
      const [, refresh, , , access] = await runNotebook('3-try', environment);
      assert.match(refresh ?? '', /^run_not_found: /);
      assert.match(access ?? '', /^404 run_not_found: /);
    });
  });
});
