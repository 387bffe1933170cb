/** Proves whether roles that an administrator names are found, and that the look-up stays within its limits. */
import assert from 'node:assert/strict';
import { AwsError } from '../../src/aws/error.ts';
import { createRoleLookup } from '../../src/proxy-roles/role-lookup.ts';
import type { TrustStatus } from '../../src/proxy-roles/status.ts';
import { FakeClock, until } from '../support/clock.ts';

const at = '2026-11-21T12:00:00.000Z';
const arn = (name: string) => `arn:aws:iam::111111111111:role/${name}`;

describe('a look-up of roles', () => {
  let clock: FakeClock;
  let reads: string[];
  let answer: (arn: string, signal: AbortSignal) => Promise<string>;

  const status = (code?: string): TrustStatus => ({
    role_arn: arn('x'),
    members: {},
    refused: [],
    characters_used: 1,
    characters_allowed: 2048,
    compared_at: at,
    ...(code === undefined ? {} : { error: { code, detail: 'x', at } }),
  });
  function lookup(published: Record<string, TrustStatus> = {}) {
    const getTrustPolicy = (role: string, signal: AbortSignal) => {
      reads.push(role);
      return answer(role, signal);
    };
    return createRoleLookup({ status: (role) => published[role], iam: { getTrustPolicy }, clock });
  }
  beforeEach(() => {
    clock = new FakeClock();
    reads = [];
    answer = async () => '{}';
  });

  it('asks IAM only for roles that the leader has not published or not found', async () => {
    const published = {
      [arn('a')]: status(),
      [arn('b')]: status('access_denied'),
      [arn('c')]: status('role_not_found'),
    };
    const found = await lookup(published)([arn('a'), arn('b'), arn('c'), arn('d')]);
    assert.deepEqual([...found.values()], ['found', 'found', 'found', 'found']);
    assert.deepEqual(reads, [arn('c'), arn('d')]);
  });

  it('distinguishes a missing role from one that could not be read', async () => {
    answer = async (role) => {
      throw new AwsError(role === arn('a') ? 'role_not_found' : 'access_denied', 'no');
    };
    assert.deepEqual([...(await lookup()([arn('a'), arn('b')])).values()], ['missing', 'unknown']);
  });

  it('reads ten roles at most, and waits two seconds at most', async () => {
    answer = (_role, signal) =>
      new Promise((_resolve, reject) =>
        signal.addEventListener('abort', () => reject(new AwsError('unavailable', 'late'))),
      );
    const asked = lookup()(Array.from({ length: 100 }, (_, n) => arn(`role-${n}`)));
    await until(() => clock.sleeping === 1);
    await clock.advance(2000);
    const found = await asked;
    assert.deepEqual([reads.length, found.size, new Set(found.values())], [10, 100, new Set(['unknown'])]);
  });
});
