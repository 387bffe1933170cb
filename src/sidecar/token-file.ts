/** Owns the watch over the web identity token: the kubelet replaces it, and a new one is worth a new proof. */
import type { Clock } from '../lib/clock.ts';
import { fs } from './builtins.ts';

/** Looked at and not watched: the kubelet moves links around, and some file systems report no changes. */
const lookEveryMs = 30_000;

/** Calls back each time the file is another than before; ends with `signal`. */
export async function watchTokenFile(
  path: string,
  clock: Clock,
  signal: AbortSignal,
  onChange: () => void,
): Promise<void> {
  let known = markOf(path);
  while (!signal.aborted) {
    await clock.sleep(lookEveryMs, signal);
    if (signal.aborted) return;
    const now = markOf(path);
    // A file that is away for a moment, while it is replaced, is no news.
    if (now !== undefined && now !== known) {
      known = now;
      onChange();
    }
  }
}

/** The kubelet puts a new file in the place of the old one; nothing of the token itself is kept. */
function markOf(path: string): string | undefined {
  try {
    const { dev, ino, mtimeMs, size } = fs.statSync(path);
    return `${dev} ${ino} ${mtimeMs} ${size}`;
  } catch {
    return undefined;
  }
}
