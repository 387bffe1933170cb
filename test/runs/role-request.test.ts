/** Proves how the annotation of a service account is read, and when a new request has the same content. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  newRoleRequest,
  otherAskers,
  parseRoleRequest,
  type RoleRequestContent,
  sameContent,
} from '../../src/runs/role-request.ts';

const content: RoleRequestContent = {
  run: '646d27b817c28b5ea4b5b0c1',
  user: { id: '60faf443e43b3c7a6f5f5eea', name: 'alice' },
  workload_type: 'edge-workload',
  roles: [
    {
      target: 'arn:aws:iam::222222222222:role/t',
      proxies: [
        { arn: 'arn:aws:iam::111111111111:role/p', org: 'acme' },
        { arn: 'arn:aws:iam::111111111111:role/q', org: 'acme' },
      ],
    },
  ],
};
const now = Date.parse('2026-11-21T12:00:00Z');

describe('role requests', () => {
  it('are read back as they were written', () => {
    const request = newRoleRequest(content, now);
    assert.equal(request.at, '2026-11-21T12:00:00.000Z');
    assert.deepEqual(parseRoleRequest(JSON.stringify(request)), request);
  });

  it('each have an id of their own', () => {
    assert.notEqual(newRoleRequest(content, now).id, newRoleRequest(content, now).id);
  });

  it('may lack a workload type, and may have keys of a later release', () => {
    const { workload_type: _type, ...rest } = content;
    const request = newRoleRequest(rest, now);
    assert.deepEqual(parseRoleRequest(JSON.stringify({ ...request, later: 1 })), request);
  });

  it('are undefined when the annotation is missing, cleared, or not written by this service', () => {
    const request = newRoleRequest(content, now);
    for (const text of [undefined, '', '{"cleared":true}', 'x', 'null', '[]', '1', '{}', '"want"']) {
      assert.equal(parseRoleRequest(text), undefined, text);
    }
    for (const wrong of [
      { id: '' },
      { id: undefined },
      { user: { id: '', name: 'alice' } },
      { user: 'alice' },
      { at: 1 },
      { run: null },
      { roles: [{ target: 't', proxies: ['p'] }] },
      { roles: {} },
    ]) {
      assert.equal(parseRoleRequest(JSON.stringify({ ...request, ...wrong })), undefined, JSON.stringify(wrong));
    }
  });

  it('keep other runs of the same user that use the account or asked within the last minute', () => {
    const known = newRoleRequest({ ...content, run: 'a' }, now, ['b', 'c', content.run]);
    const keep = (alive: string[], ms: number, user = content.user) =>
      otherAskers(known, { ...content, user }, new Set(alive), now + ms);
    assert.deepEqual(keep(['c', 'x'], 59_000), ['c', 'a', 'b']);
    assert.deepEqual(keep(['c', 'x'], 61_000), ['c']);
    assert.deepEqual(keep(['a', 'b', 'c'], 0, { id: 'another', name: 'alice' }), []);
    assert.deepEqual(otherAskers(undefined, content, new Set(['a']), now), []);
  });

  it('are parsed from any text without an exception', () => {
    fc.assert(fc.property(fc.oneof(fc.string(), fc.json()), (text) => void parseRoleRequest(text)));
  });

  it('have the same content despite another id, time or workload type', () => {
    const request = newRoleRequest(content, now);
    assert.ok(sameContent(request, content));
    assert.ok(sameContent(request, { ...content, workload_type: 'cluster-worker' }));
    assert.ok(sameContent(parseRoleRequest(JSON.stringify(request)) ?? request, content));
  });

  it('have other content when the run, the user or any role differs', () => {
    const request = newRoleRequest(content, now);
    const [role] = content.roles;
    assert.ok(role);
    const [first, second] = role.proxies;
    assert.ok(first && second);
    for (const other of [
      { run: '0'.repeat(24) },
      { user: { id: 'other', name: 'alice' } },
      { user: { id: content.user.id, name: 'alice2' } },
      { roles: [] },
      { roles: [role, role] },
      { roles: [{ ...role, target: 'other' }] },
      { roles: [{ ...role, proxies: [second, first] }] },
      { roles: [{ ...role, proxies: [first] }] },
      { roles: [{ ...role, proxies: [first, { ...second, org: 'labs' }] }] },
    ]) {
      assert.ok(!sameContent(request, { ...content, ...other }), JSON.stringify(other));
    }
  });
});
