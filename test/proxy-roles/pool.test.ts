/** Proves which proxy role of a pool is chosen, and why none is. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { type Candidate, place } from '../../src/proxy-roles/pool.ts';

const arn = (name: string) => `arn:aws:iam::111111111111:role/team/${name}`;
const candidate = (name: string, more: Partial<Candidate> = {}): Candidate => ({
  arn: arn(name),
  room: 100,
  present: 0,
  cost: 48,
  ...more,
});
const error = { code: 'role_not_found', detail: 'no IAM role a' };

describe('placement', () => {
  const chosen = (...candidates: Candidate[]) => {
    const outcome = place(candidates);
    return outcome.kind === 'placed' ? outcome.arn.slice(outcome.arn.lastIndexOf('/') + 1) : outcome.code;
  };

  it('chooses the first proxy role with capacity, in the order of the mapping', () => {
    assert.equal(chosen(candidate('b'), candidate('a')), 'b');
    assert.equal(chosen(candidate('b', { room: 47 }), candidate('a')), 'a');
  });

  it('chooses a role whose capacity is exactly enough', () => {
    assert.equal(chosen(candidate('b', { room: 48 }), candidate('a')), 'b');
  });

  it('chooses a role that has not been read yet', () => {
    assert.equal(chosen(candidate('b', { room: Number.POSITIVE_INFINITY })), 'b');
  });

  it('keeps the service accounts in their proxy role, though the mapping names another first', () => {
    assert.equal(chosen(candidate('b'), candidate('a', { present: 1, cost: 0, room: 0 })), 'a');
  });

  it('prefers the proxy role that has more of the service accounts', () => {
    const where = [candidate('c'), candidate('b', { present: 1 }), candidate('a', { present: 2 })];
    assert.equal(chosen(...where), 'a');
  });

  it('moves all service accounts when the present and the new ones do not fit together', () => {
    assert.equal(chosen(candidate('b', { present: 1, room: 40 }), candidate('a', { cost: 96 })), 'a');
  });

  it('moves service accounts out of a role that is over its limit', () => {
    assert.equal(chosen(candidate('b', { present: 1, cost: 0, room: -1 }), candidate('a')), 'a');
  });

  it('skips a role with an error', () => {
    assert.equal(chosen(candidate('b', { error, present: 2 }), candidate('a')), 'a');
  });

  it('names the full roles, and says that capacity may come', () => {
    const full = { room: 0 };
    assert.deepEqual(place([candidate('b', full)]), {
      kind: 'refused',
      code: 'trust_policy_full',
      detail: 'the trust policy of proxy role b has no room for another run',
      full: true,
    });
    const both = place([candidate('b', full), candidate('x', { error }), candidate('a', full)]);
    assert.ok(both.kind === 'refused' && both.full);
    assert.equal(both.detail, 'the trust policies of proxy roles b, a have no room for another run');
  });

  it('reports the first error when every role has one', () => {
    const other = { code: 'throttled', detail: 'later' };
    const outcome = place([candidate('b', { error }), candidate('a', { error: other })]);
    assert.deepEqual(outcome, { kind: 'refused', ...error, full: false });
  });

  it('reports mapping_not_found when there is no candidate', () => {
    const outcome = place([]);
    assert.deepEqual(
      [outcome.kind === 'refused' && outcome.code, chosen()],
      ['mapping_not_found', 'mapping_not_found'],
    );
  });

  it('chooses the best candidate of any list, and changes no list', () => {
    const any = fc.record(
      {
        arn: fc.constantFrom('a', 'b', 'c', 'd').map(arn),
        room: fc.integer({ min: -10, max: 10 }),
        present: fc.nat({ max: 3 }),
        cost: fc.nat({ max: 10 }),
        error: fc.option(fc.constant(error), { nil: undefined }),
      },
      { noNullPrototype: true },
    );
    fc.assert(
      fc.property(fc.uniqueArray(any, { selector: (one) => one.arn }), (candidates) => {
        const before = structuredClone(candidates);
        const outcome = place(candidates);
        assert.deepEqual(candidates, before);
        const fitting = candidates.filter((one) => !one.error && one.cost <= one.room);
        if (outcome.kind === 'refused') {
          assert.equal(fitting.length, 0);
          assert.equal(
            outcome.full,
            candidates.some((one) => !one.error),
          );
          return;
        }
        const most = Math.max(...fitting.map((one) => one.present));
        assert.equal(outcome.arn, fitting.find((one) => one.present === most)?.arn);
      }),
    );
  });
});
