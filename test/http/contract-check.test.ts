/** Owns the tests of the contract's check: compiled before the first request, with nothing left for a request to compile. */
import assert from 'node:assert/strict';
import express, { type Express } from 'express';
import request from 'supertest';
import { readContract } from '../../src/http/contract.ts';
import { createContractCheck } from '../../src/http/contract-check.ts';

describe('the check of requests against the contract', () => {
  const contract = readContract();
  const { Function: native } = globalThis;
  let compiled: number;
  let app: Express;
  let prepare: () => Promise<void>;

  beforeEach(() => {
    compiled = 0;
    // The check's code is made by it, and by nothing else here.
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

  const askAll = async () => {
    for (const path of contract.paths()) {
      for (const [method, { maxBodyBytes }] of contract.at(path) ?? []) {
        const call =
          method === 'GET'
            ? request(app).get(`${path}?odd=1`)
            : request(app)[method === 'POST' ? 'post' : 'delete'](path);
        const { status } = await (maxBodyBytes > 0 ? call.send({}) : call);
        assert.equal(status, 400, `${method} ${path}`);
      }
    }
  };

  it('is compiled by the requests where it was not prepared', async () => {
    await request(app).post('/revoke_run').send({ run_id: '1' });
    assert.ok(compiled > 0);
  });

  it('leaves nothing for any request to compile once it is prepared', async () => {
    await prepare();
    assert.ok(compiled > 0);
    compiled = 0;
    await askAll();
    assert.equal(compiled, 0);
  });
});
