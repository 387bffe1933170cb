/** Owns the Kubernetes stand-in's knobs: faults that tests can switch on while it runs. */

export interface Knobs {
  /** The delay before any request is processed, in milliseconds. */
  latencyMs: number;
  /** A further delay before a list of pods, in milliseconds: in a large cluster it takes seconds. */
  podListLatencyMs: number;
  /** The share of API calls that fail, 0 to 1, by a random series that `seed` restarts. */
  failRate: number;
  failStatus: number;
  seed: number;
  /** The resource whose lists and watches fail, such as `configmaps`; empty for none. */
  refuseListsOf: string;
  /** The resource whose writes admission refuses, with the status and message of `refusal` (`422 why`); empty for none. */
  refuseWritesOf: string;
  refusal: string;
  /** The status and message with which TokenRequests are refused, such as `403 why`; empty for none. */
  refuseTokens: string;
  /** The duration of a TokenRequest, in milliseconds. */
  tokenLatencyMs: number;
  /** How far the clock is ahead by which tokens are issued, as if time had passed. */
  tokenClockMs: number;
  /** Every connection is dropped without an answer. */
  down: boolean;
  /** Watch events are held back until this is switched off. */
  freezeWatches: boolean;
  /** Lists return no items, like a bug of an API server. */
  emptyLists: boolean;
  /** Deleted pods linger with a deletionTimestamp, until deleted again with a grace period of 0. */
  gracefulPods: boolean;
  /** The interval of bookmarks; 0 for none. */
  bookmarkSeconds: number;
  /** `open`: current connections go silent permanently; `all`: new ones too; `none`: new ones work. */
  silent: string;
  /** The share of HTTP/2 requests with which the connection gets a GOAWAY, 0 to 1. */
  goawayChance: number;
}

export const defaultKnobs: Readonly<Knobs> = {
  latencyMs: 0,
  podListLatencyMs: 0,
  failRate: 0,
  failStatus: 500,
  seed: 1,
  refuseListsOf: '',
  refuseWritesOf: '',
  refusal: '',
  refuseTokens: '',
  tokenLatencyMs: 0,
  tokenClockMs: 0,
  down: false,
  freezeWatches: false,
  emptyLists: false,
  gracefulPods: false,
  bookmarkSeconds: 60,
  silent: 'none',
  goawayChance: 0,
};

/** Knobs that report each change, since some act at once. It throws for an unknown knob or a value of another type. */
export function createKnobs(changed: (knob: keyof Knobs) => void): Knobs {
  return new Proxy<Knobs>(
    { ...defaultKnobs },
    {
      set(knobs, name, value: unknown) {
        const known = Object.hasOwn(defaultKnobs, name) ? (name as keyof Knobs) : undefined;
        if (!known || typeof value !== typeof defaultKnobs[known]) {
          throw new TypeError(`no knob ${String(name)} takes ${JSON.stringify(value)}`);
        }
        Object.assign(knobs, { [known]: value });
        changed(known);
        return true;
      },
    },
  );
}

/** A series of numbers in [0, 1) that a seed determines (mulberry32). */
export function randomSeries(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
