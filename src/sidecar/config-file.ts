/** Owns the AWS config file on disk: replaces it as a whole or not at all, and only when its content changes. */
import { basename, dirname, join } from 'node:path';
import { fs } from './builtins.ts';
import { errorCode, Failure, type FailureCode } from './failure.ts';

/**
 * The disk operations that a test can make fail: a full disk, or a process that ends during the write. Synchronous, since the
 * file is small and nothing else waits for the disk.
 */
export type Disk = Pick<typeof fs, 'mkdirSync' | 'openSync' | 'renameSync'>;

export const systemDisk: Disk = fs;

/** @returns a file's text, or the code of the error (`ENOENT`) that prevents reading it. */
export function readText(path: string): { text: string } | { text: undefined; code: string } {
  try {
    return { text: fs.readFileSync(path, 'utf8') };
  } catch (error) {
    return { text: undefined, code: errorCode(error) };
  }
}

/**
 * @returns whether the file was written: a text that differs only in its time of writing is not.
 * @throws Failure `disk_full` or `config_not_writable`; the old file is then as it was.
 */
export function writeConfigFile(path: string, text: string, disk: Disk = systemDisk): boolean {
  const old = readText(path).text;
  if (old !== undefined && untimed(old) === untimed(text)) return false;
  try {
    // The workload's user must be able to read the file, whatever the umask.
    replaceFile(path, text, 0o644, disk);
  } catch (error) {
    const code = errorCode(error);
    throw new Failure(/^(ENOSPC|EDQUOT)$/.test(code) ? 'disk_full' : 'config_not_writable', {
      detail: `${path}: ${code}`,
      cause: error,
    });
  }
  return true;
}

/**
 * Writes beside the file, then renames: readers see the complete old text or the complete new one, whatever ends this process.
 * @param mode of the new file, whatever the umask. @throws the system's error; the old file is then as it was.
 */
export function replaceFile(path: string, text: string, mode: number, disk: Disk): void {
  // Always the same name, so that a process that is killed during the write leaves at most one such file.
  const fresh = join(dirname(path), `.${basename(path)}.irsa-new`);
  try {
    disk.mkdirSync(dirname(path), { recursive: true });
    fs.rmSync(fresh, { force: true });
    // Exclusive: the user can write to this folder too, and a link made by the user must not redirect the write.
    const file = disk.openSync(fresh, fs.constants.O_WRONLY | fs.constants.O_CREAT | fs.constants.O_EXCL, mode);
    try {
      fs.writeFileSync(file, text);
      fs.fchmodSync(file, mode);
      fs.fsyncSync(file);
    } finally {
      fs.closeSync(file);
    }
    disk.renameSync(fresh, path);
  } catch (error) {
    removeIfAny(fresh);
    throw error;
  }
  syncFolder(dirname(path));
}

/** Runs `work`, which writes to the folder. @throws Failure with `code` for any error of `work`. */
export function writing(folder: string, code: FailureCode, work: () => void): void {
  try {
    work();
  } catch (error) {
    throw new Failure(code, { detail: `${folder}: ${errorCode(error)}`, cause: error });
  }
}

const markForm = /^# irsa-svc: this run is shut out[^\n]*\n/;

/** Puts one line at the top of the file which says that its profiles get no new sessions, and why. */
export function markConfigFile(path: string, why: string, now: number, disk: Disk = systemDisk): boolean {
  const old = (readText(path).text ?? '').replace(markForm, '');
  const time = new Date(now).toISOString();
  return writeConfigFile(
    path,
    `# irsa-svc: this run is shut out of its AWS roles, written ${time}: ${why}\n${old}`,
    disk,
  );
}

function removeIfAny(path: string): void {
  try {
    fs.rmSync(path, { force: true });
  } catch {
    // A file that cannot be removed could not be created either.
  }
}

/** Makes the rename survive a power failure, where the file system supports that. */
function syncFolder(folder: string): void {
  try {
    const handle = fs.openSync(folder, fs.constants.O_RDONLY);
    try {
      fs.fsyncSync(handle);
    } finally {
      fs.closeSync(handle);
    }
  } catch {
    // The file is in place all the same.
  }
}

/** The text without the time of writing in its first line. */
function untimed(text: string): string {
  return text.replace(/^(#[^\n]* written )\d{4}-\d\d-\d\dT[\d:.]+Z/, '$1');
}
