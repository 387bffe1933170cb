/** Owns the signals that end a process, from its first moment on, while its modules still load. */

type End = (signal: NodeJS.Signals) => void;

let end: End;

/** Ends the process at once with this code until `onSignal` says what there is to end. */
export function takeSignals(exitCode: number): void {
  end = () => process.exit(exitCode);
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => end(signal));
}

export function onSignal(next: End): void {
  end = next;
}
