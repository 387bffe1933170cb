/** Owns the log file in the workload: kept small by moving it aside when it is full, since its volume is small. */
import { dirname } from 'node:path';
import { fs } from './builtins.ts';

export interface LogFile {
  /** Appends a line; never throws, since a full disk must not end the sidecar. */
  write(line: string): void;
}

/**
 * The file and one older one, `<path>.1`: twice `maxBytes` at most.
 * @param onTrouble told once when lines begin to be lost, and again only after they were not.
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
        // Measured anew next time: a part of the line may have been written, or the file removed.
        bytes = undefined;
        if (!trouble) onTrouble(error);
        trouble = true;
      }
    },
  };
}
