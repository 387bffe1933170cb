/** Owns the faults of connections to the API server: those that go silent, and those that end with GOAWAY. */
import { type Fault, knobs } from './fault.ts';

export const connectionFaults: Readonly<Record<string, Fault>> = {
  'connections silent': knobs('kubernetes', () => ({ silent: 'open' }), { silent: 'none' }, [500, 5_000]),
  'connections silent, new ones too': knobs('kubernetes', () => ({ silent: 'all' }), { silent: 'none' }, [500, 5_000]),
  GOAWAY: knobs('kubernetes', () => ({ goawayChance: 0.1 }), { goawayChance: 0 }, [1_000, 4_000]),
};
