/** Owns the log file in the workload: renames it when it is full, since its volume is small. */
import { dirname } from 'node:path';
import { fs } from './builtins.ts';

export interface LogFile {
  /** Appends a line; never throws, since a full disk must not end the sidecar. */
  write(line: string): void;
}

/**
 * Writes the file and keeps one older one, `<path>.1`: together `maxBytes` twice at most.
 * @param onTrouble called when a line is lost, and again only after a line was written.
 */
export function openLogFile(path: string, maxBytes: number, onTrouble: (error: unknown) => void): LogFile {
  let bytes: number | undefined;
  let trouble = false;

  function append(line: string): void {
    const length = Buffer.byteLength(line);
    if (bytes === undefined) {
      fs.mkdirSync(dirname(path), { recursive: true });
      bytes = fs.statSync(path, { throwIfNoEntry: false })?.size ?? 0;
    }
    if (bytes > 0 && bytes + length > maxBytes) {
      fs.renameSync(path, `${path}.1`);
      bytes = 0;
    }
    fs.appendFileSync(path, line);
    bytes += length;
  }

  return {
    write: (line) => {
      try {
        append(line);
        trouble = false;
      } catch (error) {
        // The next write measures the file anew: a part of the line may have been written, or the file removed.
        bytes = undefined;
        if (!trouble) onTrouble(error);
        trouble = true;
      }
    },
  };
}
