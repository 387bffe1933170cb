/** Owns one child process of a test, the demo or a benchmark: starts it, reads its lines, and never leaves it running. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export interface ChildOptions {
  /** The child's whole environment; of the parent's, only PATH and HOME are added. */
  readonly environment?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

export interface Child {
  readonly pid: number;
  /** Monotonic milliseconds at which it was started. */
  readonly startedAt: number;
  /** The newest lines of its stdout, and of its stderr. */
  readonly output: readonly string[];
  /** Its exit code, null when a signal ended it. */
  readonly exited: Promise<number | null>;
  /**
   * The next stdout line with a JSON object that `accepts` accepts; lines before the call do not count.
   * @throws Error with the child's output, when it ends or the time is over first.
   */
  line<T = Record<string, unknown>>(
    accepts: (line: Record<string, unknown>) => boolean,
    timeoutMs?: number,
  ): Promise<T>;
  /** Asks the process to end, kills it if it does not end within this many milliseconds, and resolves when it has ended. */
  stop(graceMs?: number): Promise<void>;
  kill(signal: NodeJS.Signals): void;
  /** Writes to its stdin. */
  write(text: string): void;
}

/** More than a replica logs in a round of the fault suite, which searches these lines for the holder of the lease. */
const keptLines = 10_000;
const alive = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of alive) child.kill('SIGKILL');
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  // Where other listeners exist, they decide when this process ends; `exit` then kills the children.
  process.once(signal, () => {
    if (process.listenerCount(signal) === 0) process.exit(1);
  });
}

export function startChild(command: string, args: readonly string[], options: ChildOptions = {}): Child {
  const { PATH = '', HOME = '' } = process.env;
  const startedAt = performance.now();
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: { PATH, HOME, ...options.environment },
    // stdin stays open as long as this process lives, so that a child notices its end.
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  alive.add(child);
  const output: string[] = [];
  const waiting = new Set<(line: string) => void>();
  const keep = (line: string) => {
    output.push(line);
    if (output.length > 2 * keptLines) output.splice(0, keptLines);
  };
  createInterface(child.stdout).on('line', (line) => {
    keep(line);
    for (const look of waiting) look(line);
  });
  createInterface(child.stderr).on('line', keep);
  const exited = new Promise<number | null>((resolve) => {
    child.once('error', (error) => {
      keep(String(error));
      resolve(null);
    });
    child.once('close', resolve);
  });
  void exited.then(() => alive.delete(child));

  return {
    pid: child.pid ?? 0,
    startedAt,
    output,
    exited,
    line: (accepts, timeoutMs = 90_000) =>
      new Promise((resolve, reject) => {
        const look = (line: string) => {
          const parsed = parseObject(line);
          if (parsed && accepts(parsed)) finish(() => resolve(parsed as never));
        };
        const fail = (why: string) =>
          finish(() => reject(new Error([`${args.join(' ')}: ${why}`, ...output.slice(-20)].join('\n'))));
        const timer = setTimeout(() => fail(`no such line in ${timeoutMs} ms`), timeoutMs);
        const finish = (settle: () => void) => {
          clearTimeout(timer);
          waiting.delete(look);
          settle();
        };
        waiting.add(look);
        void exited.then((code) => fail(`it ended with ${code}`));
      }),
    stop: async (graceMs = 5_000) => {
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), graceMs);
      await exited;
      clearTimeout(timer);
    },
    kill: (signal) => void child.kill(signal),
    write: (text) => void child.stdin.write(text),
  };
}

function parseObject(line: string): Record<string, unknown> | undefined {
  try {
    const parsed: unknown = JSON.parse(line);
    return typeof parsed === 'object' && parsed !== null ? (parsed as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
