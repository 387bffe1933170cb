/** Owns the AWS config file on disk: replaced as a whole or not at all, and left alone when nothing changed. */
import { basename, dirname, join } from 'node:path';
import { fs } from './builtins.ts';
import { errorCode, Failure, type FailureCode } from './failure.ts';

/**
 * What is needed of the disk; tests give one that is full, or that ends in the middle. Synchronous, since the file is
 * small and nothing else waits for the disk.
 */
export type Disk = Pick<typeof fs, 'mkdirSync' | 'openSync' | 'renameSync'>;

export const systemDisk: Disk = fs;

/** @returns a file's text, or the code of the error (`ENOENT`) that it cannot be read for. */
export function readText(path: string): { text: string } | { text: undefined; code: string } {
  try {
    return { text: fs.readFileSync(path, 'utf8') };
  } catch (error) {
    return { text: undefined, code: errorCode(error) };
  }
}

/**
 * @returns whether the file was written: a text that differs in its time of writing alone is not.
 * @throws Failure `disk_full` or `config_not_writable`; the old file is then as it was.
 */
export function writeConfigFile(path: string, text: string, disk: Disk = systemDisk): boolean {
  const old = readText(path).text;
  if (old !== undefined && untimed(old) === untimed(text)) return false;
  try {
    // The umask must not keep the workload's user out.
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
 * Writes beside the file, then renames: readers see the old text or the new one, whole, whatever ends this process.
 * @param mode of the new file, whatever the umask. @throws the system's error; the old file is then as it was.
 */
export function replaceFile(path: string, text: string, mode: number, disk: Disk): void {
  // Always the same name, so that a process killed in the middle leaves no more than one behind.
  const fresh = join(dirname(path), `.${basename(path)}.irsa-new`);
  try {
    disk.mkdirSync(dirname(path), { recursive: true });
    fs.rmSync(fresh, { force: true });
    // Exclusive: the folder is the user's too, and a link of theirs must not lead the write elsewhere.
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

/** @param code what a folder that cannot be written means there. @throws Failure of that code for any error of `work`. */
export function writing(folder: string, code: FailureCode, work: () => void): void {
  try {
    work();
  } catch (error) {
    throw new Failure(code, { detail: `${folder}: ${errorCode(error)}`, cause: error });
  }
}

const markForm = /^# irsa-svc: this run is shut out[^\n]*\n/;

/** Puts a line at the top of the file that says that its profiles get no new sessions, and why; in one line. */
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
    // Where it cannot be removed, it could not be made either.
  }
}

/** Makes the rename outlast a power cut, where the file system can. */
function syncFolder(folder: string): void {
  try {
    const handle = fs.openSync(folder, fs.constants.O_RDONLY);
    try {
      fs.fsyncSync(handle);
    } finally {
      fs.closeSync(handle);
    }
  } catch {
    // The file is in its place all the same.
  }
}

/** The text without the time at which its first line says that it was written. */
function untimed(text: string): string {
  return text.replace(/^(#[^\n]* written )\d{4}-\d\d-\d\dT[\d:.]+Z/, '$1');
}
