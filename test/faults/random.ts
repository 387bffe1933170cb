/** Owns the suite's random choices, which a seed determines. Pure. */
import { randomSeries } from '../stack/kubernetes-knobs.ts';

export interface Random {
  /** A whole number from `least` to `most`, both included. */
  int(least: number, most: number): number;
  chance(share: number): boolean;
  /** @throws RangeError for an empty list. */
  pick<T>(list: readonly T[]): T;
  /** The given number of different items, in a random order. */
  some<T>(list: readonly T[], count: number): T[];
  /** A separate series: choices from it do not affect this one. */
  fork(): Random;
}

export function createRandom(seed: number): Random {
  const next = randomSeries(seed);
  const int = (least: number, most: number) => least + Math.floor(next() * (most - least + 1));
  return {
    int,
    chance: (share) => next() < share,
    pick: <T>(list: readonly T[]): T => {
      if (list.length === 0) throw new RangeError('nothing to pick from');
      return list[int(0, list.length - 1)] as T;
    },
    some: <T>(list: readonly T[], count: number): T[] => {
      const left = [...list];
      const chosen: T[] = [];
      while (chosen.length < count && left.length > 0) chosen.push(...left.splice(int(0, left.length - 1), 1));
      return chosen;
    },
    fork: () => createRandom(int(0, 2 ** 31)),
  };
}

/** The seed of one round, so that it can be repeated without those before it. */
export function roundSeed(seed: number, round: number): number {
  return Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(round + 1, 0xc2b2ae35);
}
