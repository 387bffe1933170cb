/** Owns the entry of the sidecar: handles signals first, then loads the rest, which takes a while. */
import { takeSignals } from '../lib/signals.ts';

// With IRSA_ONCE, a signal before the round is done is a failure: exit code 1.
takeSignals(/^true$/i.test(process.env.IRSA_ONCE ?? '') ? 1 : 0);
await import('./process.ts');
