/** Owns the cases of an API server's TokenRequests that the stand-in and a real kube-apiserver must both pass. */
import assert from 'node:assert/strict';
import { decodeJwt } from 'jose';
import type { Peer } from './kubernetes-conformance.ts';
import { call, type RawAnswer } from './kubernetes-raw.ts';

interface Made {
  spec: { audiences: string[]; expirationSeconds: number; boundObjectRef: object | null };
  status: { token: string; expirationTimestamp: string };
}

interface Claims {
  aud: string[];
  sub: string;
  iat: number;
  nbf: number;
  exp: number;
  jti: string;
  'kubernetes.io': Record<string, unknown>;
}

/** @param peer returns the API server; it is called within each case. */
export function tokenConformance(peer: () => Peer): void {
  const uids = { account: '', pod: '' };
  let space: string;
  let core: string;

  beforeEach(async () => {
    space = await peer().namespace();
    core = `${peer().url}/api/v1/namespaces/${space}`;
    for (const name of ['one', 'two']) {
      const { code, body } = await call(`${core}/serviceaccounts`, 'POST', { metadata: { name } });
      assert.equal(code, 201);
      if (name === 'one') uids.account = body.metadata?.uid ?? '';
    }
    uids.pod = await startPod();
  });

  async function startPod(): Promise<string> {
    const spec = { serviceAccountName: 'one', containers: [{ name: 'run', image: 'run:1' }] };
    const { code, body } = await call(`${core}/pods`, 'POST', { metadata: { name: 'run' }, spec });
    assert.equal(code, 201, body.message);
    return body.metadata?.uid ?? '';
  }

  const ask = (spec: object, account = 'one') =>
    call(`${core}/serviceaccounts/${account}/token`, 'POST', {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: { audiences: ['irsa/a'], ...spec },
    });
  const toPod = (more: object = {}) => ({ boundObjectRef: { kind: 'Pod', apiVersion: 'v1', name: 'run', ...more } });
  const told = ({ code, body }: RawAnswer) => [code, body.reason, body.message];

  function made({ code, body }: RawAnswer): Made & { claims: Claims } {
    assert.equal(code, 201, body.message);
    assert.deepEqual([body.kind, body.apiVersion], ['TokenRequest', 'authentication.k8s.io/v1']);
    const { spec, status } = body as unknown as Made;
    return { spec, status, claims: decodeJwt(status.token) as unknown as Claims };
  }

  it('makes a token with the requested audiences, lifetime and pod', async () => {
    const audiences = ['irsa/a', 'irsa/b'];
    const { spec, status, claims } = made(
      await ask({ audiences, expirationSeconds: 900, ...toPod({ uid: uids.pod }) }),
    );
    assert.deepEqual([spec.audiences, spec.expirationSeconds], [audiences, 900]);
    assert.deepEqual(spec.boundObjectRef, toPod({ uid: uids.pod }).boundObjectRef);
    assert.deepEqual([claims.aud, claims.sub], [audiences, `system:serviceaccount:${space}:one`]);
    assert.deepEqual([claims.exp - claims.iat, claims.nbf], [900, claims.iat]);
    assert.match(claims.jti, /^[0-9a-f-]{36}$/);
    assert.deepEqual(claims['kubernetes.io'], {
      namespace: space,
      serviceaccount: { name: 'one', uid: uids.account },
      pod: { name: 'run', uid: uids.pod },
    });
    assert.ok(Math.abs(Date.parse(status.expirationTimestamp) - claims.exp * 1000) <= 1000);
    assert.match(status.expirationTimestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  });

  it('fills in what a TokenRequest omits: the API server’s audience, one hour, no pod, and a pod’s uid', async () => {
    for (const audiences of [undefined, []]) {
      const { spec, claims } = made(await ask({ audiences }));
      assert.equal(spec.audiences.length, 1);
      assert.match(spec.audiences[0] ?? '', /^https:/);
      assert.deepEqual(claims.aud, spec.audiences);
      assert.deepEqual([spec.expirationSeconds, spec.boundObjectRef], [3600, null]);
      assert.deepEqual(Object.keys(claims['kubernetes.io']).sort(), ['namespace', 'serviceaccount']);
    }
    assert.deepEqual(made(await ask(toPod())).claims['kubernetes.io'].pod, { name: 'run', uid: uids.pod });
  });

  it('refuses a lifetime below ten minutes or above 2^32 seconds', async () => {
    assert.equal(made(await ask({ expirationSeconds: 600 })).spec.expirationSeconds, 600);
    const about = 'TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value:';
    for (const [seconds, why] of [
      [599, 'may not specify a duration less than 10 minutes'],
      [0, 'may not specify a duration less than 10 minutes'],
      [-1, 'may not specify a duration less than 10 minutes'],
      [2 ** 32 + 1, 'may not specify a duration larger than 2^32 seconds'],
    ] as const) {
      assert.deepEqual(told(await ask({ expirationSeconds: seconds })), [
        422,
        'Invalid',
        `${about} ${seconds}: ${why}`,
      ]);
    }
  });

  it('refuses to bind a token to a missing, recreated or foreign pod, or to another kind of object', async () => {
    assert.deepEqual(told(await ask(toPod({ name: 'none' }))), [404, 'NotFound', 'pods "none" not found']);
    assert.deepEqual(told(await ask(toPod(), 'two')), [
      400,
      'BadRequest',
      'cannot bind token for serviceaccount "two" to pod running with different serviceaccount name.',
    ]);
    assert.equal((await call(`${core}/pods/run`, 'DELETE', { gracePeriodSeconds: 0 })).code, 200);
    const [before, now] = [uids.pod, await startPod()];
    assert.notEqual(before, now);
    assert.deepEqual(told(await ask(toPod({ uid: before }))), [
      409,
      'Conflict',
      `Operation cannot be fulfilled on Pod "run": the UID in the bound object reference (${before}) does not match the UID in record. The object might have been deleted and then recreated`,
    ]);
    assert.deepEqual(told(await ask(toPod({ kind: 'ConfigMap' }))), [
      400,
      'BadRequest',
      'cannot bind token to object of type /v1, Kind=ConfigMap',
    ]);
  });

  it('answers 404 for a service account that does not exist', async () => {
    assert.deepEqual(told(await ask(toPod(), 'none')), [404, 'NotFound', 'serviceaccounts "none" not found']);
  });
}
