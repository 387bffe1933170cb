/** Owns the calls of users and administrators to replicas: with renewed tokens, and with a client's retries. */
import { setTimeout as delay } from 'node:timers/promises';
import { type Called, callReplica } from './client.ts';
import type { Random } from './random.ts';
import type { FaultSystem, Slot } from './system.ts';

export interface People {
  /** Calls a replica; a call without an answer has status 0. */
  call(slot: Slot, path: string, user: string, body: object, method?: 'POST' | 'DELETE'): Promise<Called>;
  /** Records an answer other than 200, and waits as a client would. */
  retry(what: string, status: number, text: string, user: string): Promise<void>;
  /** Answers that no client should get, whatever the faults. */
  readonly odd: string[];
}

export function createPeople({ stack }: FaultSystem, random: Random): People {
  const tokens = new Map<string, string>();
  const odd: string[] = [];

  async function token(user: string, renew = false): Promise<string> {
    const known = renew ? undefined : tokens.get(user);
    const fresh = known ?? (await stack.token(user, 86_400));
    tokens.set(user, fresh);
    return fresh;
  }

  return {
    odd,
    call: async (slot, path, user, body, method = 'POST') => {
      try {
        const options = { method, token: await token(user), body, cas: slot.cas, timeoutMs: 9_000 };
        return await callReplica(slot.replica.url, path, options);
      } catch (error) {
        return { status: 0, text: String(error) };
      }
    },
    retry: async (what, status, text, user) => {
      if (status === 401) await token(user, true);
      else if (![0, 429, 503].includes(status) && !text.includes('"conflict"')) odd.push(`${what}: ${text}`);
      await delay(150 + random.int(0, 200));
    },
  };
}
