/** Proves that the contract loads in its validator, names every error code, and refuses invalid requests. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import express, { type ErrorRequestHandler, type Express } from 'express';
import { middleware } from 'express-openapi-validator';
import request from 'supertest';
import { statusOfCode } from '../../src/lib/errors.ts';

const contract = fileURLToPath(new URL('../../openapi.yaml', import.meta.url));
const run = '646d27b817c28b5ea4b5b0c1';
const target = 'arn:aws:iam::222222222222:role/acme-list-bucket-role';
const proxy = 'arn:aws:iam::111111111111:role/team/acme-proxy';
const mapping = { domino_org: 'acme', iam_role_arn: target, proxy_iam_role_arn: proxy };

describe('openapi.yaml', () => {
  let app: Express;

  before(() => {
    app = express();
    app.use(express.json());
    app.use(middleware({ apiSpec: contract, validateSecurity: false }));
    app.use((req, res) => {
      res.json(req.body ?? {});
    });
    const onError: ErrorRequestHandler = (error, _req, res, _next) => {
      res.status(error.status ?? 500).json({ errors: error.errors });
    };
    app.use(onError);
  });

  it('names exactly the error codes of the service, and gives each example its status', () => {
    const text = readFileSync(contract, 'utf8');
    const problem = text.slice(text.indexOf('\n    Problem:'));
    const codes = [...problem.matchAll(/^ {12}- (\w+)$/gm)].map(([, code]) => code);
    assert.deepEqual(codes, Object.keys(statusOfCode));
    const examples = [...text.matchAll(/status: (\d{3})\n +code: (\w+)\n/g)];
    assert.ok(examples.length >= 15);
    for (const [, status, code] of examples)
      assert.equal(statusOfCode[code as keyof typeof statusOfCode], Number(status));
  });

  const post = (path: string, body: object) => request(app).post(path).send(body);

  const accepted: [string, string, object][] = [
    ['/map_iam_roles_to_pod_sa', 'a bare run id', { run_id: run }],
    ['/map_iam_roles_to_pod_sa', 'a run id with run-', { run_id: `run-${run}`, irsa_workload_type: 'cluster-edge' }],
    ['/update_role_mapping', 'a mapping', mapping],
    ['/update_role_mapping', 'the boolean false', { ...mapping, update_iam_role_trust_policy: false }],
    ['/update_role_mapping', 'the string "true"', { ...mapping, update_iam_role_trust_policy: 'true' }],
    ['/update_role_mapping', 'another partition', { ...mapping, iam_role_arn: target.replace('aws', 'aws-us-gov') }],
    ['/update_role_mapping', 'an org like .a_B-1', { ...mapping, domino_org: '.a_B-1..' }],
    [
      '/update_multirole_mapping',
      'entries with their own org',
      { domino_org: 'acme', role_data: [mapping, { ...mapping, update_iam_role_trust_policy: 'false' }] },
    ],
    ['/service_account', 'a name with dots', { service_account_name: 'svc-user-1.sa' }],
  ];
  for (const [path, what, body] of accepted) {
    it(`accepts ${what} in ${path}, and passes it on unchanged`, async () => {
      const response = await post(path, body).expect(200);
      assert.deepEqual(response.body, body);
    });
  }

  const { domino_org: _org, ...noOrg } = mapping;
  const refused: [string, string, object, string][] = [
    ['/map_iam_roles_to_pod_sa', 'no run id', {}, '/body/run_id'],
    ['/map_iam_roles_to_pod_sa', 'a short run id', { run_id: run.slice(1) }, '/body/run_id'],
    ['/map_iam_roles_to_pod_sa', 'a run id with a line end', { run_id: `${run}\n` }, '/body/run_id'],
    ['/map_iam_roles_to_pod_sa', 'a run id in capital letters', { run_id: run.toUpperCase() }, '/body/run_id'],
    ['/map_iam_roles_to_pod_sa', 'a list of run ids', { run_id: [run] }, '/body/run_id'],
    ['/map_iam_roles_to_pod_sa', 'another field', { run_id: run, user: 'bob' }, '/body/user'],
    [
      '/map_iam_roles_to_pod_sa',
      'a long label',
      { run_id: run, irsa_workload_type: 'x'.repeat(64) },
      '/body/irsa_work',
    ],
    ['/update_role_mapping', 'no org', noOrg, '/body/domino_org'],
    ['/update_role_mapping', 'role_data', { ...mapping, role_data: [] }, '/body/role_data'],
    ['/update_role_mapping', '1 instead of true', { ...mapping, update_iam_role_trust_policy: 1 }, '/body/update_iam'],
    [
      '/update_role_mapping',
      '"yes" instead of true',
      { ...mapping, update_iam_role_trust_policy: 'yes' },
      '/body/update_iam',
    ],
    ['/update_multirole_mapping', 'no entries', { domino_org: 'acme', role_data: [] }, '/body/role_data'],
    [
      '/update_multirole_mapping',
      '101 entries',
      { domino_org: 'acme', role_data: Array.from({ length: 101 }, () => mapping) },
      '/body/role_data',
    ],
    [
      '/update_multirole_mapping',
      'a bad second entry',
      { domino_org: 'acme', role_data: [mapping, { ...mapping, iam_role_arn: 'x' }] },
      '/body/role_data/1/iam_role_arn',
    ],
    ['/service_account', 'capital letters', { service_account_name: 'Svc' }, '/body/service_account_name'],
    ['/service_account', 'a long name', { service_account_name: 'a'.repeat(254) }, '/body/service_account_name'],
  ];
  for (const org of ['', '.', '..', '..a', 'a b', 'a/b', 'a'.repeat(254)]) {
    refused.push([
      '/update_role_mapping',
      `the org ${org.slice(0, 5)}`,
      { ...mapping, domino_org: org },
      '/body/domino_org',
    ]);
  }
  const arns = [
    'arn:aws:iam::22222222222:role/a',
    'arn:aws:iam::222222222222:user/a',
    'arn:aws:iam::222222222222:role/',
    'arn:aws:iam::222222222222:role//a',
    'arn:aws:iam::222222222222:role/a#b',
    'arn:aws:iam::222222222222:role/a]\n[profile b',
    `arn:aws:iam::222222222222:role/${'a'.repeat(65)}`,
    `arn:aws:iam::222222222222:role/${'a/'.repeat(1024)}a`,
    'arn:aws:iam::222222222222:role/*',
    'arn:evil:iam::222222222222:role/a',
  ];
  for (const arn of arns) {
    const body = { ...mapping, proxy_iam_role_arn: arn };
    refused.push(['/update_role_mapping', JSON.stringify(arn.slice(0, 50)), body, '/body/proxy_iam_role_arn']);
  }
  for (const [path, what, body, where] of refused) {
    it(`refuses ${what} in ${path}, and names the field`, async () => {
      const response = await post(path, body).expect(400);
      const paths = response.body.errors.map((error: { path: string }) => error.path);
      assert.ok(
        paths.some((found: string) => found.startsWith(where)),
        paths.join(' '),
      );
    });
  }

  it('requires a JSON body for DELETE', async () => {
    const response = await request(app).delete('/delete_role_mapping').send({ domino_org: 'acme' }).expect(200);
    assert.deepEqual(response.body, { domino_org: 'acme' });
    await request(app).delete('/delete_role_mapping').expect(415);
    await request(app).delete('/delete_role_mapping').send({}).expect(400);
    await request(app).delete('/service_account').send({ service_account_name: 'svc-user-1-sa' }).expect(200);
  });

  it('refuses other media types, unknown paths, methods and query parameters', async () => {
    await request(app).post('/update_role_mapping').type('form').send(mapping).expect(415);
    await request(app).get('/nothing').expect(404);
    await request(app).put('/healthz').expect(405);
    await request(app).get('/healthz?verbose=1').expect(400);
    await request(app).get('/healthz').expect(200);
  });

  describe('as the contract of responses', () => {
    let answer: { status: number; type: string; body: string };
    let strict: Express;

    before(() => {
      strict = express();
      strict.use(express.json());
      strict.use(middleware({ apiSpec: contract, validateSecurity: false, validateResponses: true }));
      strict.use((_req, res) => {
        res.status(answer.status).type(answer.type);
        if (answer.type === 'text/plain') res.send(answer.body);
        else res.json(JSON.parse(answer.body));
      });
      const onError: ErrorRequestHandler = (error, _req, res, _next) => {
        res.status(599).json({ message: error.message });
      };
      strict.use(onError);
    });

    const problem = (status: number, code: string, more: object = {}) => {
      const type = `urn:irsa-svc:problem:${code}`;
      return { type, title: 'Title', status, code, detail: 'Detail.', request_id: 'r-1', ...more };
    };
    const json = 'application/json';
    const problemType = 'application/problem+json';
    // express-openapi-validator does not check responses of 500 and above, so these are left out.
    const answers: [string, number, string, unknown, boolean][] = [
      ['/my_role_mappings', 200, json, { my_role_mappings: [{ ...mapping, update_iam_role_trust_policy: 'x' }] }, true],
      ['/my_role_mappings', 200, json, { my_role_mappings: [mapping] }, false],
      ['/role_mappings', 200, json, { all_role_mappings: { acme: [] } }, true],
      ['/readyz', 200, json, { status: 'Ready', checks: { domino_keys: true } }, true],
      ['/readyz', 200, json, { status: 'Ready', checks: { domino_keys: 'yes' } }, false],
      ['/healthz', 200, json, { status: 'healthy' }, false],
      ['/my_role_mappings', 401, problemType, problem(401, 'unauthenticated'), true],
      ['/my_role_mappings', 401, problemType, problem(401, 'forbidden'), false],
      ['/my_role_mappings', 429, problemType, problem(429, 'too_many_requests', { stack: 'x' }), false],
      ['/my_role_mappings', 400, problemType, problem(400, 'invalid_request', { errors: [] }), true],
      ['/my_role_mappings', 400, problemType, problem(400, 'invalid_request'), false],
    ];
    for (const [path, status, type, body, good] of answers) {
      it(`${good ? 'allows' : 'refuses'} ${status} ${JSON.stringify(body).slice(0, 60)} of ${path}`, async () => {
        answer = { status, type, body: JSON.stringify(body) };
        const response = await request(strict).get(path);
        assert.equal(response.status, good ? status : 599, response.text);
      });
    }
    it('allows a config file as text', async () => {
      answer = { status: 200, type: 'text/plain', body: '# nothing\n' };
      await request(strict).post('/map_iam_roles_to_pod_sa').send({ run_id: run }).expect(200, answer.body);
    });
  });
});
