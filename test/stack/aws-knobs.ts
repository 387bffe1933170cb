/** Owns the knobs of the AWS stand-in: faults that tests and people switch on, and their effect on one call. */
import type { Clock } from '../../src/lib/clock.ts';
import { isRecord } from './aws-conditions.ts';
import { AwsError } from './aws-xml.ts';

/** By action name; `*` stands for every action that has no entry of its own. */
export type ByAction<T> = Record<string, T>;

export interface AwsKnobs {
  /** The delay of a call: half passes before the action takes effect, and half after it. */
  latencyMs: ByAction<number>;
  /** Share of calls, 0 to 1, that are answered with Throttling. */
  throttleRate: ByAction<number>;
  /** The number of next calls that are answered with Throttling. */
  throttleNext: ByAction<number>;
  failRate: ByAction<{ code: string; rate: number }>;
  failNext: ByAction<{ code: string; times: number }>;
  /** The number of next calls that take effect and then lose their answer: the socket is destroyed. */
  loseAnswerNext: ByAction<number>;
  /** The number of next calls that take no effect and get no answer. */
  hangNext: ByAction<number>;
  /** Every call's socket is destroyed. */
  down: boolean;
  /** The rate of token buckets per account, one second deep; IAM and EKS have separate buckets. 0 is off. */
  readsPerSecond: number;
  writesPerSecond: number;
  /** Characters allowed in a trust policy, without white space; a role's own quota takes precedence over its account's. */
  quota: number;
  quotaByAccount: Record<string, number>;
  /** How long after a write STS sees the new trust policy. */
  propagationMs: number;
  /** How far STS's clock is ahead when it checks a token's expiry, as if time had passed. */
  tokenClockMs: number;
  /** How long after a write GetRole and ListRoles show the old trust policy. */
  staleReadMs: number;
  /** The quota of Pod Identity associations in a cluster. */
  associationQuota: number;
  /** How long after a call EKS Auth acts on a new or changed association, and still acts on a deleted one. */
  associationDelayMs: number;
  /** Whether EKS refuses a role whose trust policy does not allow pods.eks.amazonaws.com both actions. */
  checkPodIdentityTrust: boolean;
  /** ARNs of the roles for which no caller has iam:PassRole. */
  passRoleDenied: string[];
}

export function defaultKnobs(): AwsKnobs {
  return {
    latencyMs: {},
    throttleRate: {},
    throttleNext: {},
    failRate: {},
    failNext: {},
    loseAnswerNext: {},
    hangNext: {},
    down: false,
    readsPerSecond: 0,
    writesPerSecond: 0,
    quota: 2048,
    quotaByAccount: {},
    propagationMs: 0,
    tokenClockMs: 0,
    staleReadMs: 0,
    associationQuota: 5000,
    associationDelayMs: 0,
    checkPodIdentityTrust: true,
    passRoleDenied: [],
  };
}

/** Merges a JSON object into the knobs; maps are merged by action. Throws on a knob that does not exist. */
export function mergeKnobs(knobs: AwsKnobs, patch: unknown): void {
  if (!isRecord(patch)) throw new TypeError('knobs are an object');
  const target = knobs as unknown as Record<string, unknown>;
  for (const [name, value] of Object.entries(patch)) {
    const old = target[name];
    if (typeof old !== typeof value || old === undefined) throw new TypeError(`no such knob, or not its type: ${name}`);
    target[name] = isRecord(old) && isRecord(value) ? { ...old, ...value } : value;
  }
}

export function byAction<T>(map: ByAction<T>, action: string): T | undefined {
  return map[action] ?? map['*'];
}

/** Takes one from a countdown such as `hangNext`; false when nothing is left. */
export function takeNext(map: ByAction<number>, action: string): boolean {
  const key = action in map ? action : '*';
  const left = map[key] ?? 0;
  if (left <= 0) return false;
  map[key] = left - 1;
  return true;
}

export interface Faults {
  /** Throws the error that the knobs set for this call, if any. */
  check(action: string, account: string): void;
}

export function createFaults(knobs: AwsKnobs, clock: Clock, random: () => number): Faults {
  const buckets = new Map<string, { tokens: number; at: number }>();

  function overRate(kind: string, account: string, perSecond: number): boolean {
    if (perSecond <= 0) return false;
    const key = `${kind} ${account}`;
    const now = clock.monotonic();
    const depth = Math.max(1, perSecond);
    const bucket = buckets.get(key) ?? { tokens: depth, at: now };
    const tokens = Math.min(depth, bucket.tokens + ((now - bucket.at) / 1000) * perSecond);
    buckets.set(key, { tokens: tokens >= 1 ? tokens - 1 : tokens, at: now });
    return tokens < 1;
  }

  return {
    check(action, account) {
      const next = byAction(knobs.failNext, action);
      if (next && next.times > 0) {
        next.times -= 1;
        throw new AwsError(next.code);
      }
      const some = byAction(knobs.failRate, action);
      if (some && random() < some.rate) throw new AwsError(some.code);
      const share = byAction(knobs.throttleRate, action) ?? 0;
      const isSts = /^(?:Assume|GetCaller)/.test(action);
      const isRead = /^(?:Get|List|Describe)/.test(action);
      const service = action.includes('PodIdentityAssociation') ? 'eks' : 'iam';
      const limited =
        !isSts &&
        (isRead
          ? overRate(`${service} read`, account, knobs.readsPerSecond)
          : overRate(`${service} write`, account, knobs.writesPerSecond));
      if (takeNext(knobs.throttleNext, action) || (share > 0 && random() < share) || limited) {
        throw new AwsError('Throttling');
      }
    },
  };
}
