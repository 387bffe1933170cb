/** Owns the type of a fault, its context, and the steps that several faults share. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Hands } from './hands.ts';
import type { Load } from './load.ts';
import type { PodLoad } from './pod-load.ts';
import type { Random } from './random.ts';
import type { FaultSystem, Slot } from './system.ts';
import type { TokenLoad } from './token-load.ts';

export interface FaultContext {
  system: FaultSystem;
  load: Pick<Load, 'startRun'>;
  pods: PodLoad;
  tokens: TokenLoad;
  hands: Hands;
  random: Random;
  /** Records a violation that fails the round, whatever comes after. */
  wrong: (what: string) => void;
}

export type Fault = (context: FaultContext) => Promise<void>;

/** Sets knobs for a while; all of them are reset when the round settles. */
export const knobs =
  (
    standIn: 'aws' | 'kubernetes' | 'domino',
    on: (random: Random) => object,
    off: object,
    [least, most]: readonly [number, number],
  ): Fault =>
  async ({ system, load, random }) => {
    await system.stack.knobs(standIn, on(random));
    await load.startRun();
    await delay(random.int(least, most));
    await system.stack.knobs(standIn, off);
  };

export async function kill(context: FaultContext, slot: Slot): Promise<void> {
  const { system, random } = context;
  slot.replica.child.kill('SIGKILL');
  await slot.replica.child.exited;
  await delay(random.int(0, 1_000));
  await system.refill(slot);
}
