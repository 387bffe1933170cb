/** Proves the config file with real clients and the real service, and the notebook's own request for it. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../src/lib/clock.ts';
import { createLog } from '../../src/lib/log.ts';
import { loadSidecarConfig } from '../../src/sidecar/config.ts';
import { type Sidecar, startSidecar } from '../../src/sidecar/sidecar.ts';
import { hasAws, hasBoto3, type ProgramResult, runAws, runBoto3, runNode } from '../stack/clients.ts';
import { assetAccount, type Replica, startWorld, type World } from '../support/world.ts';
import { account, changesOf, runId, type Scripted, startScripted } from './support.ts';

describe('the sidecar with the real service', function () {
  // Interpreters start cold on a busy machine.
  this.timeout(60_000);
  let world: World;
  let replica: Replica;
  let tokenProxy: Scripted;
  let sidecar: Sidecar;
  let folder: string;
  let environment: Record<string, string>;
  const name = 'acme-list-bucket-role';
  const arn = `arn:aws:sts::${assetAccount}:assumed-role/${name}/alice-${runId}`;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'irsa-sidecar-'));
    const tokenFile = join(folder, 'token');
    world = await startWorld({ WEB_IDENTITY_TOKEN_PATH: tokenFile });
    world.domino.addUser({ name: 'alice', orgs: ['acme', 'acme-readers'] });
    world.startRun(runId, 'alice');
    replica = await world.startReplica();
    await world.map(replica, 'acme', world.addRolePair(name));
    writeFileSync(tokenFile, await world.issuer.podToken({ serviceAccount: account }));
    tokenProxy = await startScripted({ text: world.domino.token('alice') });
    environment = {
      ...world.aws.environment(),
      AWS_CONFIG_FILE: join(folder, 'config'),
      AWS_WEB_IDENTITY_TOKEN_FILE: tokenFile,
      DOMINO_RUN_ID: runId,
      DOMINO_API_PROXY: tokenProxy.url,
      DOMINO_IRSA_ENDPOINT: `${replica.url}/map_iam_roles_to_pod_sa`,
    };
    const podInfo = { POD_INFO_PATH: join(folder, 'labels'), IRSA_SIDECAR_PORT: '0' };
    writeFileSync(podInfo.POD_INFO_PATH, `dominodatalab.com/execution-id="${runId}"\n`);
    const config = loadSidecarConfig({ ...environment, ...podInfo });
    sidecar = await startSidecar({ config, clock: systemClock, log: createLog('silent') });
    await sidecar.ready;
  });
  after(async () => {
    await sidecar.stop();
    await tokenProxy.close();
    await world.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const profile = () => {
    const { AWS_WEB_IDENTITY_TOKEN_FILE: _, ...rest } = environment;
    return { ...rest, AWS_PROFILE: name };
  };
  const prints = ({ stdout, stderr, code }: ProgramResult, text: string) =>
    assert.deepEqual([stdout.trim(), code], [text, 0], stderr);

  it('proves its profile', () => {
    const { state, profiles } = sidecar.status();
    assert.deepEqual([state, profiles.map(({ proved }) => proved)], ['ready', [true]]);
  });

  it("Python's configparser reads the file", async function () {
    if (!(await hasPython())) return skip(this, 'python3');
    const script = `
import configparser, os
config = configparser.ConfigParser()
config.read(os.environ['AWS_CONFIG_FILE'])
print(config.sections(), config['profile ${name}']['source_profile'])`;
    prints(await runBoto3(script, profile()), `['profile ${name}', 'profile src_${name}'] src_${name}`);
  });

  it('boto3 lists the profiles, and assumes the target role through the proxy role', async function () {
    if (!(await hasBoto3())) return skip(this, 'python3 with boto3');
    const script = `
import boto3
print(boto3.session.Session().available_profiles, boto3.client('sts').get_caller_identity()['Arn'])`;
    prints(await runBoto3(script, profile()), `['${name}', 'src_${name}'] ${arn}`);
  });

  it('the AWS CLI assumes the target role through the proxy role', async function () {
    if (!(await hasAws())) return skip(this, 'the AWS CLI');
    prints(await runAws(['sts', 'get-caller-identity', '--query', 'Arn', '--output', 'text'], profile()), arn);
  });

  it('the AWS SDK for JavaScript assumes the target role through the proxy role', async () => {
    const script = `
      import { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
      console.log((await new STSClient({}).send(new GetCallerIdentityCommand({}))).Arn);`;
    prints(await runNode(script, profile()), arn);
  });

  it("the notebook's emulation of the sidecar gets the same file", async function () {
    if (!(await hasPython('requests'))) return skip(this, 'python3 with requests');
    // The notebook's cell unchanged, except for the two addresses of the stand-ins.
    const script = `
import requests
import os
access_token_endpoint=os.environ['DOMINO_API_PROXY'] + '/access-token'
resp = requests.get(access_token_endpoint)

os.environ['SSL_CERT_DIR']='/etc/ssl/certs/irsa'
token = resp.text
headers = {
             "Content-Type": "application/json",
             "Authorization": "Bearer " + token,
        }
endpoint=os.environ['DOMINO_IRSA_ENDPOINT']
data = {"run_id": os.environ['DOMINO_RUN_ID']} ## It fetches this fom the downward api
resp = requests.post(endpoint,headers=headers,json=data,verify=os.environ['DOMINO_IRSA_SSL_CERT'])
print(resp.status_code, resp.text)`;
    const { stdout, stderr, code } = await runBoto3(script, {
      ...environment,
      DOMINO_IRSA_SSL_CERT: join(folder, 'unused-in-clear.crt'),
    });
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^200 # irsa-svc: roles of alice/);
    const untimed = (text: string) => text.replace(/written \S+/, '').trim();
    const written = readFileSync(environment.AWS_CONFIG_FILE ?? '', 'utf8');
    assert.equal(untimed(stdout.replace(/^200 /, '')), untimed(written));
  });

  it('adds newly mapped roles at a refresh, lists refusals with their codes, and removes deleted mappings', async () => {
    const refresh = async () => {
      tokenProxy.always = { text: world.domino.token('alice') };
      return await sidecar.refresh();
    };
    const missing = { target: `arn:aws:iam::${assetAccount}:role/acme-gone`, proxies: [goneProxy] };
    await world.map(replica, 'acme-readers', world.addRolePair('acme-read-bucket-role'), missing);
    const added = await refresh();
    assert.deepEqual(changesOf(added), {
      config: 'written',
      added: ['acme-read-bucket-role'],
      removed: [],
      changed: undefined,
      kept: [name],
    });
    assert.deepEqual(
      added.refused?.map(({ name: role, code }) => `${role} ${code}`),
      ['acme-gone role_not_found'],
    );
    const deleted = await replica.call('DELETE', '/delete_role_mapping', {
      as: 'admin',
      body: { domino_org: 'acme-readers' },
    });
    assert.equal(deleted.status, 200);
    assert.deepEqual((await refresh()).removed, ['acme-read-bucket-role']);
    assert.equal(sidecar.status().profiles.length, 1);
  });
});

const goneProxy = 'arn:aws:iam::111111111111:role/acme-gone-proxy';

function hasPython(module = 'configparser'): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn('python3', ['-c', `import ${module}`], { stdio: 'ignore' });
    child.on('error', () => resolve(false));
    child.on('close', (code) => resolve(code === 0));
  });
}

function skip(test: Mocha.Context, what: string): void {
  console.warn(`SKIPPED: ${test.test?.fullTitle()}: this machine has no ${what}`);
  test.skip();
}
