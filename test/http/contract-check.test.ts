/** Proves that the contract's check is compiled before the first request, so that requests compile nothing. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import express, { type Express } from 'express';
import request from 'supertest';
import { readContract } from '../../src/http/contract.ts';
import { createContractCheck } from '../../src/http/contract-check.ts';
import { buildService, type ReplicaProcess, type StackProcess, startReplica, startStack } from '../stack/processes.ts';
import { root } from '../support/pages.ts';

describe('the check of requests against the contract', () => {
  const contract = readContract();
  const { Function: native } = globalThis;
  let compiled: number;
  let app: Express;
  let prepare: () => Promise<void>;

  beforeEach(() => {
    compiled = 0;
    // Here only the check constructs functions.
    globalThis.Function = new Proxy(native, {
      construct: (target, given) => {
        compiled += 1;
        return Reflect.construct(target, given);
      },
    });
    const { check, prepare: prepareFor } = createContractCheck(contract);
    app = express();
    app.use(express.json(), check, (_req, res) => void res.json({ passed: true }));
    app.use(((error, _req, res, _next) => {
      res.status(error.status).json({ failed: error.errors });
    }) satisfies express.ErrorRequestHandler);
    prepare = () => prepareFor(app);
  });
  afterEach(() => {
    globalThis.Function = native;
  });

  /** The calls with a body that every user may make. */
  const calls = [...contract.calls].flatMap(([path, ofPath]) =>
    [...ofPath].flatMap(([method, { adminOnly, maxBodyBytes }]) =>
      adminOnly || maxBodyBytes === 0
        ? []
        : [{ method: method === 'POST' ? ('post' as const) : ('delete' as const), path }],
    ),
  );

  it('compiles during a request where it was not prepared', async () => {
    await request(app).post('/revoke_run').send({ run_id: '1' });
    assert.ok(compiled > 0);
  });

  it('compiles nothing during the calls of runs once it is prepared', async () => {
    await prepare();
    assert.ok(compiled > 0);
    compiled = 0;
    assert.ok(calls.some(({ path }) => path === '/map_iam_roles_to_pod_sa'));
    for (const { method, path } of calls) {
      assert.equal((await request(app)[method](path).send({})).status, 400, path);
    }
    assert.equal(compiled, 0);
  });
});

describe('a replica that has just started', () => {
  let stack: StackProcess;
  let replica: ReplicaProcess;

  before(async function () {
    this.timeout(120_000);
    await buildService();
    stack = await startStack();
    const counting = join(root, 'test/support/count-compiled.mjs');
    replica = await startReplica(stack, { nodeOptions: ['--import', counting], settings: { LOG_LEVEL: 'info' } });
    await replica.ready;
  });
  after(async () => {
    await replica?.child.stop();
    await stack?.stop();
  });

  it('compiles nothing during the first request of a run', async () => {
    const compiled = () => replica.child.output.filter((line) => line.includes('"compiled"')).length;
    const before = compiled();
    assert.ok(before > 0);
    await stack.order('add-user', { name: 'alice', orgs: [] });
    const authorization = `Bearer ${await stack.token('alice')}`;
    const headers = { authorization, 'content-type': 'application/json' };
    const run_id = '646d27b817c28b5ea4b5b0c1';
    await stack.order('start-runs', { user: 'alice', runs: [run_id] });
    const logged = replica.child.line(({ msg, status }) => msg === 'request' && status === 200);
    const body = JSON.stringify({ run_id });
    const answer = await fetch(`${replica.url}/map_iam_roles_to_pod_sa`, { method: 'POST', headers, body });
    assert.equal(answer.status, 200, await answer.text());
    await logged;
    assert.equal(compiled(), before);
  });
});
