/** Owns the Kubernetes stand-in's knobs: how it misbehaves, changeable while it runs. */

export interface Knobs {
  /** Milliseconds before any request is looked at. */
  latencyMs: number;
  /** More of them before pods are listed: a large cluster's take seconds. */
  podListLatencyMs: number;
  /** The share of API calls that fail, 0 to 1, drawn from a random series that `seed` starts again. */
  failRate: number;
  failStatus: number;
  seed: number;
  /** Lists and watches of this resource fail, the others do not: `configmaps`; empty for none. */
  refuseListsOf: string;
  /** Admission refuses writes of this resource, with what `refusal` says: `422 why`; empty for none. */
  refuseWritesOf: string;
  refusal: string;
  /** TokenRequests are refused, with what this says: `403 why`; empty for none. */
  refuseTokens: string;
  /** Milliseconds that a TokenRequest takes. */
  tokenLatencyMs: number;
  /** By so much the clock is ahead that tokens are issued by, as if time had passed. */
  tokenClockMs: number;
  /** Every connection is dropped without an answer. */
  down: boolean;
  /** Watch events are held back until this is off again. */
  freezeWatches: boolean;
  /** Lists answer no items: a bug of an API server. */
  emptyLists: boolean;
  /** Deleted pods linger with a deletionTimestamp, until deleted again with a grace period of 0. */
  gracefulPods: boolean;
  /** 0 for no bookmarks. */
  bookmarkSeconds: number;
  /** `open`: connections that are open now go silent, for good; `all`: new ones too; `none`: new ones work. */
  silent: string;
  /** The share of requests on HTTP/2 that the connection's GOAWAY comes with, 0 to 1. */
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

/** Knobs that tell when one is set: some act at once. Setting an unknown one, or to another type, throws. */
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
