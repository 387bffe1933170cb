/** Owns the process of the sidecar: its settings, log destinations, shutdown and exit code. */
import { systemClock } from '../lib/clock.ts';
import { configOrExit } from '../lib/config-error.ts';
import { createLog, type Log } from '../lib/log.ts';
import { onSignal } from '../lib/signals.ts';
import { loadSidecarConfig, type SidecarConfig } from './config.ts';
import { openLogFile } from './log-file.ts';
import { probe } from './probe.ts';
import { runOnce, startSidecar } from './sidecar.ts';

const config = configOrExit(loadSidecarConfig, 'The IRSA sidecar');
if (process.argv[2] === 'probe') {
  const { ready, text } = await probe(config.port, systemClock);
  process.stdout.write(text);
  process.exit(ready ? 0 : 1);
}
const log = openLog(config);
const stopping = new AbortController();
let stop: () => Promise<void> = async () => undefined;

onSignal((signal) => {
  log.info({ signal }, 'ending');
  stopping.abort();
  // A round under way is abandoned: the config file is complete at any time.
  setTimeout(() => process.exit(0), 500).unref();
  void stop().then(() => process.exit(config.once ? 1 : 0));
});
process.on('unhandledRejection', (error) => {
  log.fatal({ err: error }, 'an error that the sidecar does not handle');
  process.exit(1);
});

if (config.once) {
  const done = await runOnce({ config, clock: systemClock, log }, stopping.signal);
  process.exit(done ? 0 : 1);
}
try {
  const sidecar = await startSidecar({ config, clock: systemClock, log });
  stop = sidecar.stop;
} catch (error) {
  log.fatal({ err: error, port: config.port }, 'cannot listen');
  process.exit(1);
}

/** Logs to stdout, and to the file where one is set. */
function openLog({ logLevel, logFile, logFileMaxBytes }: SidecarConfig): Log {
  const lost = (error: unknown) => toStdout.warn({ err: error, file: logFile }, 'the log file cannot be written');
  const toStdout = createLog(logLevel, { write: (line) => void process.stdout.write(line) });
  const file = logFile === undefined ? undefined : openLogFile(logFile, logFileMaxBytes, lost);
  if (!file) return toStdout.child({ part: 'sidecar' });
  const both = {
    write: (line: string) => {
      process.stdout.write(line);
      file.write(line);
    },
  };
  return createLog(logLevel, both).child({ part: 'sidecar' });
}
