/** Proves what the status of a role has when its refusals do not fit in a ConfigMap. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { place } from '../../src/proxy-roles/pool.ts';
import { newProxyRole, type ProxyRole } from '../../src/proxy-roles/proxy-role.ts';
import { statusOf } from '../../src/proxy-roles/role-status.ts';
import { trustStatusForm } from '../../src/proxy-roles/status.ts';

const target = 'arn:aws:iam::222222222222:role/acme-list-bucket-role';
/** https://kubernetes.io/docs/concepts/configuration/configmap/ */
const maxConfigMapBytes = 1_048_576;

describe('the status of a role', () => {
  let role: ProxyRole;

  beforeEach(() => {
    role = newProxyRole('arn:aws:iam::111111111111:role/acme-1', 2048);
  });

  /** Adds refusals by a full pool of this many proxy roles, all of which the reason names. */
  function refuse(count: number, proxies: number): void {
    const arns = Array.from({ length: proxies }, (_, index) => `${role.arn}-${'x'.repeat(55)}-${index}`);
    const placement = place(arns.map((arn) => ({ arn, room: 0, present: 0, cost: 45 })));
    assert.ok(placement.kind === 'refused');
    const { code, detail } = placement;
    role.conditions.refused = Array.from({ length: count }, (_, index) => {
      const account = `run-${String(index).padStart(24, '0')}`;
      return { account, want: randomUUID(), target, code, detail };
    });
  }
  const published = () => {
    const status = statusOf(role, { isProxy: true, isUnmanaged: false });
    return { status, bytes: Buffer.byteLength(JSON.stringify(trustStatusForm.data(status))) };
  };

  it('has all refusals while they fit in a ConfigMap', () => {
    refuse(1_500, 1);
    const { status, bytes } = published();
    assert.ok(bytes <= maxConfigMapBytes, `${bytes} bytes`);
    assert.deepEqual(status.refused, role.conditions.refused);
  });

  it('fits in a ConfigMap however long the reasons are, and keeps the latest refusals', () => {
    // A trust policy of the largest quota, 8,192 characters, holds 161 members.
    const members = 161;
    for (let index = 0; index < members; index += 1) {
      role.observed.members.set(`${'m'.repeat(60)}-${index}`, { want: randomUUID(), since: new Date(0).toISOString() });
    }
    refuse(1_500, 100);
    const { status, bytes } = published();
    assert.ok(bytes <= maxConfigMapBytes, `${bytes} bytes`);
    assert.ok(status.refused.length >= 80, `${status.refused.length} refusals`);
    assert.deepEqual(status.refused, role.conditions.refused.slice(-status.refused.length));
    assert.equal(Object.keys(status.members).length, members);
  });
});
