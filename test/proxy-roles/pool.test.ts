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

  it('takes the first in the order of the mapping that has room', () => {
    assert.equal(chosen(candidate('b'), candidate('a')), 'b');
    assert.equal(chosen(candidate('b', { room: 47 }), candidate('a')), 'a');
  });

  it('counts exact room as room', () => {
    assert.equal(chosen(candidate('b', { room: 48 }), candidate('a')), 'b');
  });

  it('takes a role that was not read yet for one with room', () => {
    assert.equal(chosen(candidate('b', { room: Number.POSITIVE_INFINITY })), 'b');
  });

  it('stays where the accounts are, though the mapping names another first', () => {
    assert.equal(chosen(candidate('b'), candidate('a', { present: 1, cost: 0, room: 0 })), 'a');
  });

  it('goes where more of the accounts are', () => {
    const where = [candidate('c'), candidate('b', { present: 1 }), candidate('a', { present: 2 })];
    assert.equal(chosen(...where), 'a');
  });

  it('moves all where those who are in and those who come do not fit together', () => {
    assert.equal(chosen(candidate('b', { present: 1, room: 40 }), candidate('a', { cost: 96 })), 'a');
  });

  it('leaves a role that is over its limit', () => {
    assert.equal(chosen(candidate('b', { present: 1, cost: 0, room: -1 }), candidate('a')), 'a');
  });

  it('passes over a role with an error', () => {
    assert.equal(chosen(candidate('b', { error, present: 2 }), candidate('a')), 'a');
  });

  it('says which roles are full, and that room may come', () => {
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

  it('says the first error where every role has one', () => {
    const other = { code: 'throttled', detail: 'later' };
    const outcome = place([candidate('b', { error }), candidate('a', { error: other })]);
    assert.deepEqual(outcome, { kind: 'refused', ...error, full: false });
  });

  it('says that no mapping names a role', () => {
    const outcome = place([]);
    assert.deepEqual(
      [outcome.kind === 'refused' && outcome.code, chosen()],
      ['mapping_not_found', 'mapping_not_found'],
    );
  });

  it('is the best candidate of any list, and changes no list', () => {
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
