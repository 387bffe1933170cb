/** Owns the service's entry point: it handles signals first, then loads the service, which takes a while. */
import { takeSignals } from './lib/signals.ts';

takeSignals(0);
await import('./process.ts');
