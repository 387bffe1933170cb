/** Owns the AWS config file on disk: replaced as a whole or not at all, and left alone when nothing changed. */
import { constants } from 'node:fs';
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { errorCode, Failure } from './failure.ts';

/** What is needed of the disk; tests give one that is full, or that ends in the middle. */
export interface Disk {
  mkdir: typeof mkdir;
  open: typeof open;
  readFile: typeof readFile;
  rename: typeof rename;
  rm: typeof rm;
}

export const systemDisk: Disk = { mkdir, open, readFile, rename, rm };

/** @returns the file's text, or undefined when there is none that can be read. */
export async function readConfigFile(path: string, disk: Disk = systemDisk): Promise<string | undefined> {
  return await disk.readFile(path, 'utf8').catch(() => undefined);
}

/**
 * Writes beside the file, then renames: readers see the old text or the new one, whole, whatever ends this process.
 * @returns whether the file was written: a text that differs in its time of writing alone is not.
 * @throws Failure `disk_full` or `config_not_writable`; the old file is then as it was.
 */
export async function writeConfigFile(path: string, text: string, disk: Disk = systemDisk): Promise<boolean> {
  const old = await readConfigFile(path, disk);
  if (old !== undefined && untimed(old) === untimed(text)) return false;
  // Always the same name, so that a process killed in the middle leaves no more than one behind.
  const fresh = join(dirname(path), `.${basename(path)}.irsa-new`);
  try {
    await disk.mkdir(dirname(path), { recursive: true });
    await disk.rm(fresh, { force: true });
    // Exclusive: the folder is the user's too, and a link of theirs must not lead the write elsewhere.
    const file = await disk.open(fresh, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o644);
    try {
      await file.writeFile(text);
      // The umask must not keep the workload's user out.
      await file.chmod(0o644);
      await file.sync();
    } finally {
      await file.close();
    }
    await disk.rename(fresh, path);
  } catch (error) {
    await disk.rm(fresh, { force: true }).catch(() => undefined);
    const code = errorCode(error);
    throw new Failure(/^(ENOSPC|EDQUOT)$/.test(code) ? 'disk_full' : 'config_not_writable', {
      detail: `${path}: ${code}`,
      cause: error,
    });
  }
  await syncFolder(dirname(path), disk);
  return true;
}

/** Makes the rename outlast a power cut, where the file system can. */
async function syncFolder(folder: string, disk: Disk): Promise<void> {
  const handle = await disk.open(folder, constants.O_RDONLY).catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close().catch(() => undefined);
}

/** The text without the time at which its first line says that it was written. */
function untimed(text: string): string {
  return text.replace(/^(#[^\n]* written )\d{4}-\d\d-\d\dT[\d:.]+Z/, '$1');
}
