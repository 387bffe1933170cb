/** Owns a proxy role as the leader knows it: what is desired, what IAM showed or took, and what stands in the way. */
import { roleTokenAudience } from '../lib/arn.ts';
import { type DriftMemory, newDriftMemory } from '../reconcile/drift.ts';
import { type PodTrust, podTrustEntries, toPodTrust } from '../trust-policy/pod-identity.ts';
import type { PodTrustProblem } from '../trust-policy/pod-identity-unmanaged.ts';
import { type TokenTrust, tokenTrustEntries } from '../trust-policy/role-tokens.ts';
import { placeholderSubject, subjectOf } from '../trust-policy/subjects.ts';
import type { RefusedRequest, TokensProblemCode, TrustStatus } from './status.ts';

export interface ProxyRole {
  readonly arn: string;
  readonly desired: {
    /** Service account -> the id of the request for which it is a member. */
    readonly members: Map<string, string>;
    /** The members that are to be removed, and since when on the monotonic clock. */
    readonly leaving: Map<string, number>;
    /** The service accounts of EKS Pod Identity; undefined: no mapping names the role, and nothing of one is left. */
    pods: PodTrust | undefined;
    /** Role tokens; undefined: no mapping carries the role by them, and nothing of them is left. */
    tokens: TokenTrust | undefined;
    /** Service account -> until when tokens of it may live that are not to be used any more, ISO 8601. */
    readonly tokenEnds: Map<string, string>;
    /** Grows when `pods` changes, or is to be reconciled again. */
    generation: number;
  };
  readonly observed: Observed;
  readonly conditions: Conditions;
}

interface Observed {
  /** Service account -> the request for which IAM last accepted it, and since when. No request ('') where IAM may not have. */
  members: Map<string, { want: string; since: string }>;
  /** Other service accounts that subjects of ours let in, or may: of an earlier release, held back, not removed yet. */
  others: ReadonlySet<string>;
  /** The part of `desired.pods` that IAM last accepted. */
  pods: PodTrust | undefined;
  /** The part of `desired.tokens` that IAM last accepted or showed. */
  tokens: TokenTrust | undefined;
  /** The generation of `desired.pods` that was last reconciled: removals are done, additions as far as there is room. */
  generation: number | undefined;
  /** When IAM last accepted a document that changed Pod Identity's part, milliseconds since the epoch: EKS sees it later. */
  podsWrittenAt: number | undefined;
  /** The document as IAM showed or took it last, with the least white space. */
  document: string | undefined;
  /** What recent documents had in them. The newest is last; those that IAM cannot show any more are dropped, but for the newest. */
  documents: KnownDocument[];
  /** The subjects of others that let in more than one service account, as they were logged last. */
  open: string | undefined;
  /** Characters of the document, white space apart, and how many it may have. */
  size: number;
  maxChars: number;
  /** When IAM taught us that it is less than configured, on the monotonic clock. */
  learntAt: number | undefined;
  /** Characters for members in all; Infinity until the document was read. */
  capacity: number;
  /** When this leader took the role over, on the monotonic clock: earlier writes of the holder before are not known. */
  recoveredAt: number | undefined;
  writtenAt: string | undefined;
  comparedAt: string | undefined;
}

interface Conditions extends DriftMemory {
  /** Why it takes no new members. */
  error: RoleError | undefined;
  /** Requests that none of their proxy roles can take, kept with the first of these. */
  refused: RefusedRequest[];
  /** What statements of others do to Pod Identity, as the document was last read. */
  podsProblem: PodTrustProblem | undefined;
  /** Why role tokens do not work, or not all that should be are denied. */
  tokensProblem: { code: TokensProblemCode; detail: string } | undefined;
  /** What the removal guard holds. */
  brake: { since: string; held: string[] } | undefined;
  /** Published as a proxy role by the holder before, and not read since: it may have members that no status names. */
  unread: boolean;
  /** Whether it is published as a proxy role: the next holder will read it, whatever becomes of its mapping. */
  announced: boolean;
  /** The comparison that was last asked for and made. */
  compareId: string | undefined;
  /** Whether it is known that our subjects are to be removed before the role is let go. */
  isBeingEmptied: boolean;
}

export interface RoleError {
  code: string;
  /** For users. */
  detail: string;
  /** IAM's own words, for administrators. */
  said?: string | undefined;
  at: string;
  /** Until when the role takes no new members, on the monotonic clock. */
  until: number;
}

/** The subjects of ours that a document had in it, and when that was on the monotonic clock. */
interface KnownDocument {
  subjects: ReadonlySet<string>;
  at: number;
  /**
   * `accepted`: IAM took it from us, or showed it. `recovered`: the holder before us published it. `lost`: we sent it, and
   * IAM's answer was lost.
   */
  how: 'accepted' | 'recovered' | 'lost';
}

/** How long IAM may show a document older than our last write. */
const staleReadMs = 60_000;
/** How long a document of ours from before is more likely an old reading than an external change. */
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

/** Sets the service accounts of EKS Pod Identity, to be reconciled. */
export function desirePods({ desired }: ProxyRole, pods: PodTrust | undefined): void {
  desired.pods = pods;
  desired.generation += 1;
}

/** Whether the latest `desired.pods` was reconciled. */
export function podsAreReconciled({ desired, observed }: ProxyRole): boolean {
  return observed.generation === desired.generation;
}

/** Drops what is known of Pod Identity: the role is gone. */
export function forgetPods({ desired, observed }: ProxyRole): void {
  observed.pods = undefined;
  observed.generation = desired.pods ? undefined : desired.generation;
}

/**
 * Takes over what the holder before published. It may have written seconds ago: what IAM shows now may be older than
 * that. @param now on the monotonic clock, milliseconds. @param withPods whether this installation has Pod Identity.
 */
export function recover(role: ProxyRole, status: TrustStatus, namespace: string, now: number, withPods: boolean): void {
  const { desired, observed, conditions } = role;
  observed.members = new Map(Object.entries(status.members));
  observed.others = new Set(status.others);
  // Kept as it is until Pod Identity's own mappings are known.
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
  // The holder before left a write without an answer, as `fail` records it.
  const isLost = Object.values(status.members).some(({ want }) => want === '');
  remember(role, { subjects, at: now, how: isLost ? 'lost' : 'recovered' });
}

/** Kept as it is until the mappings and the requests were looked at. */
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
 * Finds an external change: the subjects shown are those of no document that IAM may still show.
 * @param now on the monotonic clock, milliseconds.
 * @returns what is different from the newest one.
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

/** @returns for how many milliseconds IAM may still show a document that the holder before wrote. */
export function mayBeBefore({ observed: { recoveredAt } }: ProxyRole, now: number): number {
  return recoveredAt === undefined ? 0 : Math.max(0, recoveredAt + oldReadingMs - now);
}

function sameSet(a: ReadonlySet<string>, b: ReadonlySet<string>): boolean {
  return a.size === b.size && a.isSubsetOf(b);
}
