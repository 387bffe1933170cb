/** Owns the entry of the sidecar: signals first, then all else, which takes a while to load. */
import { takeSignals } from '../lib/signals.ts';

// One round was asked for, and none was made.
takeSignals(/^true$/i.test(process.env.IRSA_ONCE ?? '') ? 1 : 0);
await import('./process.ts');
