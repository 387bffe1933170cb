/** Owns a set of listeners: functions that are called when something changes. */

export class Listeners<A extends readonly unknown[]> {
  readonly #all = new Set<(...args: A) => void>();
  readonly #onError: ((error: unknown, ...args: A) => void) | undefined;

  /** @param onError called with what a listener throws, so that the others are called; without it, `tell` throws that. */
  constructor(onError?: (error: unknown, ...args: A) => void) {
    this.#onError = onError;
  }

  /** @returns what takes the listener away. */
  readonly add = (listener: (...args: A) => void): (() => void) => {
    this.#all.add(listener);
    return () => void this.#all.delete(listener);
  };

  tell(...args: A): void {
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
