/** Proves what is published of a role that refuses more than a ConfigMap has room for. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import type { ProxyRole } from '../src/assignments.ts';
import { place } from '../src/placement.ts';
import { newRoleMemory } from '../src/role-memory.ts';
import { statusOf } from '../src/role-status.ts';
import { trustStatusForm } from '../src/trust-status.ts';

const target = 'arn:aws:iam::222222222222:role/acme-list-bucket-role';
/** https://kubernetes.io/docs/concepts/configuration/configmap/ */
const maxConfigMapBytes = 1_048_576;

describe('the status of a role', () => {
  let role: ProxyRole;

  beforeEach(() => {
    role = {
      arn: 'arn:aws:iam::111111111111:role/acme-1',
      members: new Map(),
      leaving: new Map(),
      accepted: new Map(),
      refused: [],
      pods: undefined,
      acceptedPods: undefined,
      settledPods: undefined,
      capacity: Infinity,
      error: undefined,
    };
  });

  /** So many wants that a full pool of so many proxy roles refuses: the reason names all of these. */
  function refuse(count: number, proxies: number): void {
    const arns = Array.from({ length: proxies }, (_, index) => `${role.arn}-${'x'.repeat(55)}-${index}`);
    const placement = place(arns.map((arn) => ({ arn, room: 0, present: 0, cost: 45 })));
    assert.ok(placement.kind === 'refused');
    const { code, detail } = placement;
    role.refused = Array.from({ length: count }, (_, index) => {
      const account = `run-${String(index).padStart(24, '0')}`;
      return { account, want: randomUUID(), target, code, detail };
    });
  }
  const published = () => {
    const status = statusOf(role, newRoleMemory(2048), true);
    return { status, bytes: Buffer.byteLength(JSON.stringify(trustStatusForm.data(status))) };
  };

  it('tells all refusals while there is room', () => {
    refuse(1_500, 1);
    const { status, bytes } = published();
    assert.ok(bytes <= maxConfigMapBytes, `${bytes} bytes`);
    assert.deepEqual(status.refused, role.refused);
  });

  it('fits in a ConfigMap however long the reasons are, with the latest refusals in it', () => {
    // As many members as a trust policy of the largest quota, 4,096 characters, holds, and more.
    for (let index = 0; index < 100; index += 1) {
      role.accepted.set(`${'m'.repeat(60)}-${index}`, { want: randomUUID(), since: new Date(0).toISOString() });
    }
    refuse(1_500, 100);
    const { status, bytes } = published();
    assert.ok(bytes <= maxConfigMapBytes, `${bytes} bytes`);
    assert.ok(status.refused.length >= 80, `${status.refused.length} refusals`);
    assert.deepEqual(status.refused, role.refused.slice(-status.refused.length));
    assert.equal(Object.keys(status.members).length, 100);
  });
});
