/** Owns the recent callers of this replica, for administrators who look a user up: Domino answers only for a caller. */
import { LRUCache } from 'lru-cache';
import type { Clock } from '../lib/clock.ts';
import type { Caller } from './caller.ts';

export interface SeenCaller {
  caller: Caller;
  /** When the user called last, ISO 8601. */
  at: string;
}

export interface SeenCallers {
  note(caller: Caller): void;
  /** @param user an id or a name. @returns the newest first: an id finds one at most, a name may find several users. */
  find(user: string): SeenCaller[];
}

export function createSeenCallers(clock: Clock): SeenCallers {
  const byId = new LRUCache<string, { caller: Caller; at: number }>({ max: 10_000 });
  return {
    note: (caller) => {
      byId.set(caller.id, { caller, at: clock.now() });
    },
    find: (user) => {
      const own = byId.get(user);
      const found = own ? [own] : [...byId.values()].filter(({ caller }) => caller.name === user);
      return found.sort((a, b) => b.at - a.at).map(({ caller, at }) => ({ caller, at: new Date(at).toISOString() }));
    },
  };
}
