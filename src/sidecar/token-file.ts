/** Owns the watch of the web identity token's file: the kubelet replaces it, and a new token needs a new proof. */
import type { Clock } from '../lib/clock.ts';
import { fs } from './builtins.ts';

/** The file is polled: the kubelet swaps links, and some file systems report no changes. */
const lookEveryMs = 30_000;

/** Calls `onChange` each time the file was replaced; ends with `signal`. */
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
    // The file may be missing for a moment while the kubelet replaces it.
    if (now !== undefined && now !== known) {
      known = now;
      onChange();
    }
  }
}

/** Identifies the file without its content: the kubelet puts a new file in place of the old one. */
function markOf(path: string): string | undefined {
  try {
    const { dev, ino, mtimeMs, size } = fs.statSync(path);
    return `${dev} ${ino} ${mtimeMs} ${size}`;
  } catch {
    return undefined;
  }
}
