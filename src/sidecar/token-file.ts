/** Owns the watch over the web identity token: the kubelet replaces it, and a new one is worth a new proof. */
import { readFile } from 'node:fs/promises';
import type { Clock } from '../clock.ts';

// Fetched by name: as a module it loads what is never used (see exchange.ts).
const { createHash } = process.getBuiltinModule('node:crypto');

/** Looked at and not watched: the kubelet moves links around, and some file systems tell of no changes. */
const lookEveryMs = 30_000;

/** Calls back each time the file holds another text than before; ends with `signal`. */
export async function watchTokenFile(
  path: string,
  clock: Clock,
  signal: AbortSignal,
  onChange: () => void,
): Promise<void> {
  let known = await digest(path);
  while (!signal.aborted) {
    await clock.sleep(lookEveryMs, signal);
    if (signal.aborted) return;
    const now = await digest(path);
    // A file that is away for a moment, while it is replaced, is no news.
    if (now !== undefined && now !== known) {
      known = now;
      onChange();
    }
  }
}

async function digest(path: string): Promise<string | undefined> {
  const text = await readFile(path).catch(() => undefined);
  return text && createHash('sha256').update(text).digest('hex');
}
