/** Owns the ways to break what the tests protect: one invariant each, as an edit of the sources. */

export interface Mutation {
  /** Of docs/how-it-works.md. */
  invariant: number | 'Pod Identity' | 'Role tokens';
  what: string;
  edits: { file: string; from: string | RegExp; to: string }[];
}

export const mutations: readonly Mutation[] = [
  {
    invariant: 1,
    what: 'writes have no lease guard and no deadline',
    edits: [
      { file: 'src/aws/call.ts', from: 'if (!mayWrite()) throw', to: 'if (mayWrite === undefined) throw' },
      {
        file: 'src/aws/call.ts',
        from: 'Math.min(deadlineMs, lease.holdsUntil() - clock.monotonic())',
        to: 'lease === undefined ? 0 : deadlineMs',
      },
    ],
  },
  {
    invariant: 1,
    what: 'a candidate takes the lease before it has run out',
    edits: [{ file: 'src/leader/lease.ts', from: '!mine && !expired', to: '!mine && !expired && false' }],
  },
  {
    invariant: 2,
    what: 'unmanaged subjects are dropped',
    edits: [
      { file: 'src/trust-policy/document.ts', from: '[...home.foreign, ...managed], stays', to: '[...managed], stays' },
    ],
  },
  {
    invariant: 3,
    what: 'many members are removed without a fresh list',
    edits: [
      {
        file: 'src/proxy-roles/removal-guard.ts',
        from: 'await deps.stillRequested(role, dropped)',
        to: 'new Set<string>()',
      },
    ],
  },
  {
    invariant: 3,
    what: 'the leader does not wait for its caches',
    edits: [
      {
        file: 'src/service.ts',
        from: 'Promise.race([Promise.all([known.synced, known.known]), stopped])',
        to: 'Promise.race([Promise.all([undefined, known.known]), stopped])',
      },
    ],
  },
  {
    invariant: 4,
    what: 'a role without members has an empty list of subjects',
    edits: [{ file: 'src/trust-policy/document.ts', from: 'managed.push(placeholderSubject)', to: 'managed.sort()' }],
  },
  {
    invariant: 2,
    what: 'managed subjects stay in a statement that another tool altered',
    edits: [{ file: 'src/trust-policy/web-identity.ts', from: 'if (!values.some(leaves)) continue;', to: 'continue;' }],
  },
  {
    invariant: 2,
    what: 'a role is forgotten when IAM refuses it',
    edits: [
      {
        file: 'src/proxy-roles/controller.ts',
        from: "const isGone = conditions.error?.code === 'role_not_found';",
        to: 'const isGone = conditions.error !== undefined;',
      },
    ],
  },
  {
    invariant: 4,
    what: 'a statement is written without :aud',
    edits: [
      {
        file: 'src/trust-policy/web-identity.ts',
        from: 'literal.length + patterns.length > 0 ? patterns : [[audKey, scope.audience] as const]',
        to: 'patterns',
      },
    ],
  },
  {
    invariant: 5,
    what: 'a run of another user is accepted',
    edits: [{ file: 'src/runs/runs.ts', from: 'pod.run === id && pod.user === callerId', to: 'pod.run === id' }],
  },
  {
    invariant: 5,
    what: 'a service account that pods of two users share is accepted',
    edits: [
      {
        file: 'src/runs/runs.ts',
        from: '!allStartedBy(users, callerId)',
        to: '!allStartedBy(users.slice(0, 1), callerId)',
      },
    ],
  },
  {
    invariant: 6,
    what: 'a run counts as a member by its name alone, whichever request it was added for',
    edits: [
      {
        file: 'src/grants/outcome.ts',
        from: 'Object.hasOwn(members, name) && counts(name, members[name]?.want)',
        to: 'Object.hasOwn(members, name)',
      },
    ],
  },
  {
    invariant: 7,
    what: 'a pending pod does not count as live',
    edits: [
      { file: 'src/kubernetes/objects.ts', from: "live: phase !== 'Succeeded'", to: "live: phase !== 'Pending'" },
    ],
  },
  {
    invariant: 8,
    what: 'the quota error is retried as throttling',
    edits: [{ file: 'src/aws/iam.ts', from: "LimitExceeded: 'trust_policy_full'", to: "LimitExceeded: 'throttled'" }],
  },
  {
    invariant: 9,
    what: 'credentials are logged',
    edits: [{ file: 'src/lib/log.ts', from: 'paths: secretPaths', to: 'paths: secretPaths.slice(6)' }],
  },
  {
    invariant: 'Pod Identity',
    what: 'the idempotency token is not published before the call',
    edits: [
      {
        file: 'src/pod-identity/association.ts',
        from: 'record.creating ??= randomUUID();\n  await deps.publish(record);',
        to: 'record.creating ??= randomUUID();',
      },
    ],
  },
  {
    invariant: 'Pod Identity',
    what: 'associations of another tool are taken over',
    edits: [
      {
        file: 'src/pod-identity/association-client.ts',
        from: 'return tags[managedByTag] === managedBy;',
        to: 'return tags[managedByTag] !== undefined || managedBy !== undefined;',
      },
    ],
  },
  {
    invariant: 'Pod Identity',
    what: 'the association is removed before the Mutation’s entry',
    edits: [
      {
        file: 'src/pod-identity/reconcile.ts',
        from: 'return removeMutation(deps, record) ?? (await removeAssociation(deps, record)) ??',
        to: 'return (await removeAssociation(deps, record)) ?? removeMutation(deps, record) ??',
      },
    ],
  },
  {
    invariant: 11,
    what: 'a revoked run gets tokens',
    edits: [
      {
        file: 'src/grants/role-tokens.ts',
        from: 'refuseRevoked(revocationFor(run, [pod.account], options.pods, revocations));',
        to: 'refuseRevoked(revocations === undefined ? revocationFor(run, [], options.pods, revocations) : undefined);',
      },
    ],
  },
  {
    invariant: 'Role tokens',
    what: 'no Deny is written for a revoked run',
    edits: [
      {
        file: 'src/trust-policy/role-tokens.ts',
        from: 'if (isGranted && deny < 0 && trust.denied.size > 0) wanted.push',
        to: 'if (isGranted && deny > wanted.length) wanted.push',
      },
    ],
  },
  {
    invariant: 'Role tokens',
    what: 'the Deny is removed when the pod ends',
    edits: [
      {
        file: 'src/proxy-roles/token-trusts.ts',
        from: '(!holder && Date.parse(until) <= time.earliest())',
        to: '!holder',
      },
      { file: 'src/proxy-roles/token-trusts.ts', from: 'of isUnmanaged ? [] : left) {', to: 'of left.slice(0, 0)) {' },
    ],
  },
  {
    invariant: 'Role tokens',
    what: 'the Deny stays after the run is allowed again',
    edits: [
      {
        file: 'src/proxy-roles/token-trusts.ts',
        from: 'if (isIn || (!holder &&',
        to: 'if (isIn === undefined || (!holder &&',
      },
    ],
  },
  {
    invariant: 'Role tokens',
    what: 'the Deny ends by the wall clock alone, even when the clock was moved',
    edits: [
      { file: 'src/lib/clock.ts', from: 'Math.min(clock.now(), passed())', to: 'clock.now()' },
      { file: 'src/lib/clock.ts', from: 'Math.max(clock.now(), passed())', to: 'clock.now()' },
    ],
  },
];

/** @returns the text with the edit made. @throws Error where it is not there just once: the mutation is out of date. */
export function mutated(text: string, { file, from, to }: Mutation['edits'][0]): string {
  const parts = text.split(from);
  if (parts.length !== 2) throw new Error(`${file}: ${String(from)} is there ${parts.length - 1} times`);
  return parts.join(to);
}
