/** Owns the leader's record of a proxy role: what is desired, what IAM showed or accepted, and which problems it has. */
import { roleTokenAudience } from '../lib/arn.ts';
import { type DriftMemory, newDriftMemory } from '../reconcile/drift.ts';
import type { Reason } from '../reconcile/status-form.ts';
import { type PodTrust, podTrustEntries, toPodTrust } from '../trust-policy/pod-identity.ts';
import type { PodTrustProblem } from '../trust-policy/pod-identity-unmanaged.ts';
import { type TokenTrust, tokenTrustEntries } from '../trust-policy/role-tokens.ts';
import { sameSet } from '../trust-policy/sets.ts';
import { placeholderSubject, subjectOf } from '../trust-policy/subjects.ts';
import type { RefusedRequest, TokensProblemCode, TrustStatus } from './status.ts';

export interface ProxyRole {
  readonly arn: string;
  readonly desired: {
    /** Service account -> the id of the request for which it is a member. */
    readonly members: Map<string, string>;
    /** The members that are to be removed, and since when on the monotonic clock. */
    readonly leaving: Map<string, number>;
    /** The service accounts of EKS Pod Identity; undefined: no mapping names the role, and its document has none left. */
    pods: PodTrust | undefined;
    /** The part for role tokens; undefined: no mapping gives the role by tokens, and its document has nothing left of it. */
    tokens: TokenTrust | undefined;
    /** Service account -> when the last of its tokens that must not be used any more expires, ISO 8601. */
    readonly tokenEnds: Map<string, string>;
    /** Increases when `pods` changes, or has to be reconciled again. */
    generation: number;
  };
  readonly observed: Observed;
  readonly conditions: Conditions;
}

interface Observed {
  /** Service account -> the request for which IAM last accepted it ('' where that is in doubt), and since when it is a member. */
  members: Map<string, { want: string; since: string }>;
  /** Other accounts that our subjects let in, or may: of an earlier release, held by the removal guard, or not removed yet. */
  others: ReadonlySet<string>;
  /** The part of `desired.pods` that IAM last accepted. */
  pods: PodTrust | undefined;
  /** The part of `desired.tokens` that IAM last accepted or showed. */
  tokens: TokenTrust | undefined;
  /** The generation of `desired.pods` that was last reconciled: removals are done, additions as far as they fit. */
  generation: number | undefined;
  /** When IAM last accepted a change of Pod Identity's part, milliseconds since the epoch. EKS sees the change later. */
  podsWrittenAt: number | undefined;
  /** The document that IAM last showed or accepted, without white space between its tokens. */
  document: string | undefined;
  /** Recent documents, the newest last. Those that are too old for IAM to show are dropped, except the newest. */
  documents: KnownDocument[];
  /** The unmanaged subjects that let in more than one service account, as they were last logged. */
  open: string | undefined;
  /** The document's characters without white space, and how many of these it may have. */
  size: number;
  maxChars: number;
  /** When an answer of IAM showed that the quota is lower than configured, on the monotonic clock. */
  learntAt: number | undefined;
  /** The characters available for all members; Infinity until the document is read. */
  capacity: number;
  /** When this leader took the role over, on the monotonic clock. It does not know all that the previous leader wrote. */
  recoveredAt: number | undefined;
  writtenAt: string | undefined;
  comparedAt: string | undefined;
}

interface Conditions extends DriftMemory {
  /** Why it accepts no new members. */
  error: RoleError | undefined;
  /** Requests that no candidate proxy role accepts, recorded at the first candidate. */
  refused: RefusedRequest[];
  /** The problem that unmanaged statements cause for Pod Identity, as the document was last read. */
  podsProblem: PodTrustProblem | undefined;
  /** Why role tokens do not work, or why some that should be denied are not. */
  tokensProblem: { code: TokensProblemCode; detail: string } | undefined;
  /** The members that the removal guard holds, and since when. */
  brake: { since: string; held: string[] } | undefined;
  /** The previous leader published it as a proxy role, and it was not read since: it may have members that no status names. */
  unread: boolean;
  /** Whether its status says that it is a proxy role: the next leader then reads it, even if its mapping is deleted. */
  announced: boolean;
  /** The id of the last requested comparison that was made. */
  compareId: string | undefined;
  /** Whether our subjects are being removed from it, since it became unmanaged. */
  isBeingEmptied: boolean;
}

export interface RoleError extends Reason {
  /** Until when the role accepts no new members, on the monotonic clock. */
  until: number;
}

/** Our subjects in a document that IAM had or may have had, and when, on the monotonic clock. */
interface KnownDocument {
  subjects: ReadonlySet<string>;
  at: number;
  /**
   * `accepted`: IAM accepted it from us, or showed it. `recovered`: the previous leader published it. `lost`: a leader
   * sent it and got no answer.
   */
  how: 'accepted' | 'recovered' | 'lost';
}

/** How long IAM may show a document older than our last write. */
const staleReadMs = 60_000;
/** For how long a reading that equals an earlier document of ours counts as old, not as an external change. */
const oldReadingMs = 15_000;

export function newProxyRole(arn: string, maxChars: number): ProxyRole {
  const unknown = {
    generation: 0,
    podsWrittenAt: undefined,
    document: undefined,
    open: undefined,
    learntAt: undefined,
  };
  const times = { recoveredAt: undefined, writtenAt: undefined, comparedAt: undefined };
  const none = { members: new Map(), others: new Set<string>(), pods: undefined, tokens: undefined, documents: [] };
  const problems = { podsProblem: undefined, tokensProblem: undefined };
  const nothing = { error: undefined, refused: [], ...problems, brake: undefined, compareId: undefined };
  const tokens = { tokens: undefined, tokenEnds: new Map<string, string>() };
  return {
    arn,
    desired: { members: new Map(), leaving: new Map(), pods: undefined, ...tokens, generation: 0 },
    observed: { ...none, ...unknown, ...times, size: 0, maxChars, capacity: Infinity },
    conditions: { ...nothing, ...newDriftMemory(), unread: false, announced: false, isBeingEmptied: false },
  };
}

/** Sets the desired service accounts of EKS Pod Identity. */
export function desirePods({ desired }: ProxyRole, pods: PodTrust | undefined): void {
  desired.pods = pods;
  desired.generation += 1;
}

/** Whether the latest `desired.pods` was reconciled. */
export function podsAreReconciled({ desired, observed }: ProxyRole): boolean {
  return observed.generation === desired.generation;
}

/** Clears what is known of Pod Identity, after the role was deleted. */
export function forgetPods({ desired, observed }: ProxyRole): void {
  observed.pods = undefined;
  observed.generation = desired.pods ? undefined : desired.generation;
}

/**
 * Restores the record from the status that the previous leader published. That leader may have written seconds ago, so
 * IAM may show an older document. @param now on the monotonic clock, milliseconds. @param withPods whether this
 * installation has Pod Identity.
 */
export function recover(role: ProxyRole, status: TrustStatus, namespace: string, now: number, withPods: boolean): void {
  const { desired, observed, conditions } = role;
  observed.members = new Map(Object.entries(status.members));
  observed.others = new Set(status.others);
  // Kept unchanged until the Pod Identity mappings are known.
  if (withPods && status.pods) {
    desired.pods = observed.pods = toPodTrust(status.pods);
    conditions.podsProblem = status.pods_problem;
    observed.podsWrittenAt = status.written_at === undefined ? undefined : Date.parse(status.written_at);
  }
  recoverTokens(role, status);
  observed.size = status.characters_used;
  observed.writtenAt = status.written_at;
  observed.document = status.document;
  observed.recoveredAt = now;
  conditions.drift = status.drift;
  conditions.brake = status.brake;
  conditions.compareId = status.compare_id;
  conditions.unread = conditions.announced = status.proxy === true;
  const subjects = new Set(Object.keys(status.members).map((name) => subjectOf(namespace, name)));
  const tokens = tokenTrustEntries(observed.tokens);
  if (subjects.size === 0 && status.pods === undefined && tokens.length === 0) subjects.add(placeholderSubject);
  for (const entry of tokens) subjects.add(entry);
  for (const entry of status.pods ? podTrustEntries(toPodTrust(status.pods)) : []) subjects.add(entry);
  // A write of the previous leader got no answer: `fail` records the members in doubt for no request.
  const isLost = Object.values(status.members).some(({ want }) => want === '');
  remember(role, { subjects, at: now, how: isLost ? 'lost' : 'recovered' });
}

/** Restores the part for role tokens, which stays unchanged until the mappings and the requests are evaluated. */
function recoverTokens({ arn, desired, observed, conditions }: ProxyRole, status: TrustStatus): void {
  const { tokens, kept_elsewhere: isElsewhere } = status;
  const audience = roleTokenAudience(arn);
  if (!tokens || audience === undefined || (isElsewhere && !tokens.granted)) return;
  for (const [account, until] of Object.entries(tokens.denied)) desired.tokenEnds.set(account, until);
  conditions.tokensProblem = tokens.problem;
  desired.tokens = observed.tokens = { audience, granted: tokens.granted, denied: new Set(desired.tokenEnds.keys()) };
}

export function remember({ observed }: ProxyRole, document: KnownDocument): void {
  observed.documents = [...observed.documents.filter(({ at }) => document.at - at <= oldReadingMs), document];
}

/** Whether what IAM shows may be older than our last write, although it looks as desired. */
export function mayBeStale({ observed }: ProxyRole, shown: ReadonlySet<string>, now: number): boolean {
  const newest = observed.documents.at(-1);
  if (!newest || now - newest.at > staleReadMs) return false;
  return newest.how === 'lost' || !sameSet(newest.subjects, shown);
}

/**
 * Finds an external change: the shown subjects match no document that IAM may still show.
 * @param now on the monotonic clock, milliseconds.
 * @returns the difference from the newest document; undefined: no external change.
 */
export function findDrift(
  role: ProxyRole,
  shown: ReadonlySet<string>,
  now: number,
): { missing: string[]; extra: string[] } | undefined {
  const { documents } = role.observed;
  const newest = documents.at(-1);
  if (newest?.how !== 'accepted' || sameSet(newest.subjects, shown) || mayBeBefore(role, now) > 0) return undefined;
  const old = documents.filter(({ at }) => now - at <= oldReadingMs);
  if (old.some(({ subjects }) => sameSet(subjects, shown))) return undefined;
  return {
    missing: [...newest.subjects.difference(shown)].sort(),
    extra: [...shown.difference(newest.subjects)].sort(),
  };
}

/** @returns for how many milliseconds IAM may still show a document that the previous leader wrote and did not publish. */
export function mayBeBefore({ observed: { recoveredAt } }: ProxyRole, now: number): number {
  return recoveredAt === undefined ? 0 : Math.max(0, recoveredAt + oldReadingMs - now);
}
