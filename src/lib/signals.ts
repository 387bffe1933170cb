/** Owns the signals that end a process, even while its modules still load. */

type End = (signal: NodeJS.Signals) => void;

let end: End;

/** Handles signals: they end the process at once with this code, until `onSignal` sets another handler. */
export function takeSignals(exitCode: number): void {
  end = () => process.exit(exitCode);
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => end(signal));
}

export function onSignal(next: End): void {
  end = next;
}
