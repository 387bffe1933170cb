/** Owns the entry of the service: signals first, then all else, which takes a while to load. */
import { takeSignals } from './lib/signals.ts';

takeSignals(0);
await import('./process.ts');
