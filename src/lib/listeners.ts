/** Owns a set of listeners: functions that are called when something changes. */

export class Listeners<A extends readonly unknown[]> {
  readonly #all = new Set<(...args: A) => void>();
  readonly #onError: ((error: unknown, ...args: A) => void) | undefined;

  /** @param onError gets what a listener throws, and the others are still called; without it, `notify` throws it. */
  constructor(onError?: (error: unknown, ...args: A) => void) {
    this.#onError = onError;
  }

  /** @returns a function that removes the listener. */
  readonly add = (listener: (...args: A) => void): (() => void) => {
    this.#all.add(listener);
    return () => void this.#all.delete(listener);
  };

  notify(...args: A): void {
    for (const listener of this.#all) {
      try {
        listener(...args);
      } catch (error) {
        if (!this.#onError) throw error;
        this.#onError(error, ...args);
      }
    }
  }
}
