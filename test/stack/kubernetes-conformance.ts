/**
 * Owns the cases of API server behaviour on which the service and its tests rely. The stand-in and a real kube-apiserver must
 * both pass them; each difference that was ever found between the two is a case.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { call, openWatch, type RawAnswer } from './kubernetes-raw.ts';

/** An API server without TLS, with an administrator's rights. */
export interface Peer {
  readonly url: string;
  /** An existing namespace without objects. */
  namespace(): Promise<string>;
  /** Forgets all versions but the newest. */
  forget(): Promise<void>;
  /** Limits a user to one call at a time and refuses the others. @returns a function that ends the limit. */
  crowd(user: string): Promise<() => Promise<void>>;
}

const merging = { 'content-type': 'application/merge-patch+json' };

/** @param peer returns the API server; it is called within each case. */
export function conformance(peer: () => Peer): void {
  let url: string;
  let space: string;
  let maps: string;
  beforeEach(async () => {
    ({ url } = peer());
    space = await peer().namespace();
    maps = `${url}/api/v1/namespaces/${space}/configmaps`;
  });
  const map = (name: string, more: object = {}) =>
    call(maps, 'POST', { metadata: { name, ...more }, data: { x: '1' } });
  const version = ({ body }: RawAnswer) => body.metadata?.resourceVersion ?? '';
  /** Code, reason and message, without this test's namespace. */
  const told = ({ code, body }: RawAnswer) => [code, body.reason, body.message?.replaceAll(space, 'SPACE')];

  it('answers 404 and names the object that is missing', async () => {
    const answer = await call(`${maps}/one`);
    assert.deepEqual(told(answer), [404, 'NotFound', 'configmaps "one" not found']);
    assert.deepEqual(answer.body.details, { name: 'one', kind: 'configmaps' });
    assert.deepEqual(told(await call(`${maps}/one`, 'PATCH', { data: {} }, merging)), [
      404,
      'NotFound',
      'configmaps "one" not found',
    ]);
    assert.deepEqual(told(await call(`${maps}/one`, 'DELETE')), [404, 'NotFound', 'configmaps "one" not found']);
    assert.equal((await call(`${url}/apis/none.example/v1/ones`).catch(() => ({ code: 404 }))).code, 404);
  });

  it('refuses a second object with the same name', async () => {
    assert.equal((await map('one')).code, 201);
    assert.deepEqual(told(await map('one')), [409, 'AlreadyExists', 'configmaps "one" already exists']);
  });

  it('refuses a stale resourceVersion in a patch, an update and a deletion', async () => {
    const stale = version(await map('one'));
    const fresh = version(await call(`${maps}/one`, 'PATCH', { data: { x: '2' } }, merging));
    assert.notEqual(fresh, stale);
    const modified = `Operation cannot be fulfilled on configmaps "one": the object has been modified; please apply your changes to the latest version and try again`;
    const metadata = { name: 'one', resourceVersion: stale };
    const patched = await call(`${maps}/one`, 'PATCH', { metadata, data: { x: '3' } }, merging);
    assert.deepEqual(told(patched), [409, 'Conflict', modified]);
    assert.deepEqual(told(await call(`${maps}/one`, 'PUT', { metadata, data: {} })), [409, 'Conflict', modified]);
    const preconditions = { resourceVersion: stale };
    const deletion = { kind: 'DeleteOptions', apiVersion: 'v1', preconditions };
    const deleted = await call(`${maps}/one`, 'DELETE', deletion);
    assert.deepEqual(told(deleted), [
      409,
      'Conflict',
      `Operation cannot be fulfilled on ConfigMap "one": the ResourceVersion in the precondition (${stale}) does not match the ResourceVersion in record (${fresh}). The object might have been modified`,
    ]);
    assert.equal(
      (await call(`${maps}/one`, 'DELETE', { ...deletion, preconditions: { resourceVersion: fresh } })).code,
      200,
    );
  });

  it('keeps the resourceVersion when a write changes nothing', async () => {
    const made = version(await map('one'));
    assert.equal(version(await call(`${maps}/one`, 'PATCH', { data: { x: '1' } }, merging)), made);
    assert.equal(version(await call(`${maps}/one`, 'PUT', { metadata: { name: 'one' }, data: { x: '1' } })), made);
  });

  it('answers the deletion of a ConfigMap with a Status, and of a service account with the object', async () => {
    const { metadata } = (await map('one')).body;
    const gone = (await call(`${maps}/one`, 'DELETE')).body;
    assert.deepEqual([gone.kind, gone.status], ['Status', 'Success']);
    assert.deepEqual(gone.details, { name: 'one', kind: 'configmaps', uid: metadata?.uid });
    const accounts = `${url}/api/v1/namespaces/${space}/serviceaccounts`;
    const account = (await call(accounts, 'POST', { metadata: { name: 'one' } })).body;
    const deleted = (await call(`${accounts}/one`, 'DELETE')).body;
    assert.deepEqual([deleted.kind, deleted.metadata?.uid], ['ServiceAccount', account.metadata?.uid]);
  });

  it('refuses invalid names, keys, values and labels, and objects that are too long, naming the fields', async () => {
    /** The status, and the reasons and fields of its causes. */
    const refusal = async (metadata: object, data: object = {}) => {
      const { code, body } = await call(maps, 'POST', { metadata: { name: 'one', ...metadata }, data });
      const { causes = [] } = (body.details ?? {}) as { causes?: { reason: string; field: string }[] };
      return [code, body.reason, ...causes.map(({ reason, field }) => `${reason} ${field}`)];
    };
    const invalid = (...causes: string[]) => [422, 'Invalid', ...causes];
    assert.deepEqual(await refusal({ name: 'Not_A_Name' }), invalid('FieldValueInvalid metadata.name'));
    assert.deepEqual(await refusal({ name: '' }), invalid('FieldValueRequired metadata.name'));
    assert.deepEqual(await refusal({}, { 'an org': '1' }), invalid('FieldValueInvalid data[an org]'));
    assert.deepEqual(await refusal({}, { a: 1 }), [400, 'BadRequest']);
    assert.deepEqual(await refusal({ namespace: 'other' }), [400, 'BadRequest']);
    assert.deepEqual(await refusal({ labels: { a: 'x y' } }), invalid('FieldValueInvalid metadata.labels'));
    assert.equal((await refusal({ resourceVersion: '1' }))[0], 500);
    const annotations = { a: 'x'.repeat(256 * 1024) };
    assert.deepEqual(await refusal({ annotations }), invalid('FieldValueTooLong metadata.annotations'));
    assert.deepEqual(await refusal({}, { x: 'x'.repeat(1024 * 1024 + 1) }), invalid('FieldValueTooLong []'));
    assert.deepEqual(await refusal({}, { x: 'x'.repeat(3 * 1024 * 1024) }), [413, 'RequestEntityTooLarge']);
  });

  it('answers a dry run like a creation, and stores nothing', async () => {
    const dry = await call(`${maps}?dryRun=All`, 'POST', { metadata: { name: 'one' } });
    assert.equal(dry.code, 201);
    assert.match(dry.body.metadata?.uid ?? '', /^[0-9a-f-]{36}$/);
    assert.equal(dry.body.metadata?.resourceVersion, undefined);
    assert.equal((await call(`${maps}/one`)).code, 404);
  });

  it('requires microseconds in a lease, and the current resourceVersion in its update', async () => {
    const leases = `${url}/apis/coordination.k8s.io/v1/namespaces/${space}/leases`;
    const spec = { holderIdentity: 'a', leaseDurationSeconds: 15, renewTime: '2026-11-21T12:00:00.000000Z' };
    const made = await call(leases, 'POST', { metadata: { name: 'one' }, spec });
    assert.deepEqual([made.code, made.body.spec], [201, spec]);
    const short = { ...spec, renewTime: '2026-11-21T12:00:00.000Z' };
    assert.equal((await call(leases, 'POST', { metadata: { name: 'two' }, spec: short })).code, 400);
    const unguarded = await call(`${leases}/one`, 'PUT', { metadata: { name: 'one' }, spec });
    assert.deepEqual([unguarded.code, unguarded.body.reason], [422, 'Invalid']);
    const metadata = { name: 'one', resourceVersion: version(made) };
    assert.equal((await call(`${leases}/one`, 'PUT', { metadata, spec: { ...spec, holderIdentity: 'b' } })).code, 200);
    const late = await call(`${leases}/one`, 'PUT', { metadata, spec });
    assert.deepEqual([late.code, late.body.reason], [409, 'Conflict']);
  });

  it('returns all pages of a list from one snapshot', async () => {
    for (const name of ['a', 'b', 'c']) await map(name);
    const first = (await call(`${maps}?limit=2`)).body;
    assert.deepEqual([first.kind, first.items?.map(({ metadata }) => metadata?.name)], ['ConfigMapList', ['a', 'b']]);
    const { continue: next = '', remainingItemCount, resourceVersion } = first.metadata as Record<string, string>;
    assert.equal(remainingItemCount, 1);
    assert.deepEqual(
      first.items?.map(({ kind }) => kind),
      [undefined, undefined],
    );
    await map('d');
    const rest = (await call(`${maps}?limit=2&continue=${encodeURIComponent(next)}`)).body;
    assert.deepEqual(
      rest.items?.map(({ metadata }) => metadata?.name),
      ['c'],
    );
    assert.equal(rest.metadata?.resourceVersion, resourceVersion);
  });

  it('answers 410 Expired for a page of a snapshot that it no longer has', async () => {
    for (const name of ['a', 'b', 'c']) await map(name);
    const { metadata } = (await call(`${maps}?limit=2`)).body;
    await map('d');
    await peer().forget();
    const late = await call(`${maps}?limit=2&continue=${encodeURIComponent(String(metadata?.continue))}`);
    assert.deepEqual([late.code, late.body.reason], [410, 'Expired']);
  });

  it('refuses an invalid label selector and an unknown field selector', async () => {
    assert.deepEqual(told(await call(`${maps}?labelSelector=${encodeURIComponent('a in')}`)).slice(0, 2), [
      400,
      'BadRequest',
    ]);
    assert.deepEqual(told(await call(`${maps}?fieldSelector=spec.none%3Da`)).slice(0, 2), [400, 'BadRequest']);
  });

  it('sends a watch of one name the changes since its resourceVersion', async () => {
    const from = version(await map('one'));
    await map('two');
    const watch = await openWatch(`${maps}?watch=true&resourceVersion=${from}&fieldSelector=metadata.name%3Done`);
    await call(`${maps}/one`, 'PATCH', { data: { x: '2' } }, merging);
    await call(`${maps}/one`, 'DELETE');
    assert.deepEqual([await watch.brief(), await watch.brief()], ['MODIFIED one 2', 'DELETED one 2']);
    watch.stop();
  });

  it('starts a streamed list with the existing objects and a bookmark that ends them', async () => {
    await map('one');
    const query = 'watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan';
    const watch = await openWatch(`${maps}?${query}`);
    assert.equal(await watch.brief(), 'ADDED one 1');
    const end = await watch.next();
    assert.equal(end?.type, 'BOOKMARK');
    assert.deepEqual(end?.object.metadata?.annotations, { 'k8s.io/initial-events-end': 'true' });
    watch.stop();
    const bare = await call(`${maps}?watch=true&allowWatchBookmarks=true&sendInitialEvents=true`);
    assert.deepEqual([bare.code, bare.body.reason], [422, 'Invalid']);
  });

  it('refuses a patch of an unknown content type, and a JSON patch whose test fails', async () => {
    await map('one');
    assert.deepEqual(told(await call(`${maps}/one`, 'PATCH', {}, { 'content-type': 'application/json' })).slice(0, 2), [
      415,
      'UnsupportedMediaType',
    ]);
    const steps = [{ op: 'test', path: '/data/x', value: '2' }];
    const tested = await call(`${maps}/one`, 'PATCH', steps, { 'content-type': 'application/json-patch+json' });
    assert.deepEqual([tested.code, tested.body.reason], [422, 'Invalid']);
  });

  it('accepts an Event only about an object of its own namespace', async () => {
    const events = `${url}/api/v1/namespaces/${space}/events`;
    const event = (namespace: string) => ({
      metadata: { name: `one.${randomUUID().slice(0, 8)}` },
      involvedObject: { kind: 'ConfigMap', apiVersion: 'v1', namespace, name: 'one' },
      reason: 'Test',
      message: 'a test',
      type: 'Normal',
    });
    assert.equal((await call(events, 'POST', event(space))).code, 201);
    const other = await call(events, 'POST', event('other'));
    assert.deepEqual([other.code, other.body.reason], [422, 'Invalid']);
  });

  it('fills in the defaults of a pod', async () => {
    await call(`${url}/api/v1/namespaces/${space}/serviceaccounts`, 'POST', { metadata: { name: 'default' } });
    const pods = `${url}/api/v1/namespaces/${space}/pods`;
    const body = { metadata: { name: 'one' }, spec: { containers: [{ name: 'run', image: 'run:1' }] } };
    const { spec, status } = (await call(pods, 'POST', body)).body as { spec: Record<string, unknown>; status: object };
    assert.equal(spec.serviceAccountName, 'default');
    assert.deepEqual([spec.restartPolicy, spec.terminationGracePeriodSeconds], ['Always', 30]);
    assert.equal((status as { phase: string }).phase, 'Pending');
  });

  it('answers a user above the concurrency limit with 429, Retry-After and plain text', async () => {
    await map('one');
    const calm = await peer().crowd('one-of-many');
    const ask = async () => {
      const answer = await fetch(`${maps}/one`, { headers: { 'impersonate-user': 'one-of-many' } });
      const after = answer.headers.get('retry-after') ?? '';
      return { status: answer.status, after, text: await answer.text() };
    };
    // The API server applies new rules after a moment. Then it serves such a caller one call at a time.
    const wave = async () => (await Promise.all(Array.from({ length: 40 }, ask))).find(({ status }) => status === 429);
    let refused = await wave();
    for (const end = Date.now() + 30_000; !refused && Date.now() < end; ) refused = await wave();
    await calm();
    assert.match(refused?.after ?? '', /^[1-9]\d*$/);
    assert.equal(refused?.text, 'Too many requests, please try again later.\n');
  });

  it('refuses a pod whose service account does not exist', async () => {
    const pods = `${url}/api/v1/namespaces/${space}/pods`;
    const spec = { serviceAccountName: 'none', containers: [{ name: 'run', image: 'run:1' }] };
    const answer = await call(pods, 'POST', { metadata: { name: 'one' }, spec });
    assert.deepEqual(told(answer), [
      403,
      'Forbidden',
      'pods "one" is forbidden: error looking up service account SPACE/none: serviceaccount "none" not found',
    ]);
  });
}
