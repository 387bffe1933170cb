/** Owns what is published of a proxy role. Pure. */
import type { ProxyRole, RoleError } from './assignments.ts';
import type { RoleMemory } from './role-memory.ts';
import type { TrustStatus } from './trust-status.ts';

/** A ConfigMap holds 1 MiB, members' part apart: who is not told waits, and is told to come again. */
const mostRefusalChars = 700_000;

/** @param isProxy whether subjects of ours in its document are ours to keep. */
export function statusOf(role: ProxyRole, memory: RoleMemory, isProxy: boolean): TrustStatus {
  const { error, acceptedPods: pods } = role;
  return {
    role_arn: role.arn,
    ...(isProxy ? { proxy: true } : {}),
    members: Object.fromEntries(role.accepted),
    refused: latest(role.refused, mostRefusalChars),
    ...(pods ? { pods: { accounts: [...pods.accounts].sort(), open: pods.open } } : {}),
    characters_used: memory.size,
    characters_allowed: memory.maxChars,
    ...(memory.writtenAt === undefined ? {} : { written_at: memory.writtenAt }),
    ...(memory.comparedAt === undefined ? {} : { compared_at: memory.comparedAt }),
    ...(memory.drift ? { drift: memory.drift } : {}),
    ...(memory.contested ? { contested_until: memory.contested.at } : {}),
    ...(memory.brake ? { brake: memory.brake } : {}),
    ...(memory.compareId === undefined ? {} : { compare_id: memory.compareId }),
    ...(error ? { error: publicError(error) } : {}),
  };
}

function latest<T>(entries: readonly T[], maxChars: number): T[] {
  let left = maxChars;
  const first = entries.findLastIndex((entry) => {
    left -= JSON.stringify(entry).length + 1;
    return left < 0;
  });
  return entries.slice(first + 1);
}

function publicError({ code, detail, said, at }: RoleError): NonNullable<TrustStatus['error']> {
  return { code, detail, at, ...(said === undefined ? {} : { said }) };
}
