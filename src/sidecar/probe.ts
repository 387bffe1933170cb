/**
 * Owns the exec probe of the sidecar's container, which asks whether the sidecar is ready. The kubelet's own HTTP probes come
 * from the node and do not reach the loopback that the sidecar listens on, and the image need not have curl.
 */
import type { Clock } from '../lib/clock.ts';
import { exchange } from './exchange.ts';

/** @returns whether `/readyz` answers 200, and its text for the kubelet's event. */
export async function probe(port: number, clock: Clock): Promise<{ ready: boolean; text: string }> {
  const url = `http://127.0.0.1:${port}/readyz`;
  const signal = new AbortController().signal;
  try {
    const { status, text } = await exchange({
      url,
      method: 'GET',
      deadlineMs: 2_000,
      maxBytes: 64 * 1024,
      clock,
      signal,
    });
    return { ready: status === 200, text };
  } catch (error) {
    return { ready: false, text: `The sidecar does not answer on port ${port}: ${String(error)}\n` };
  }
}
