/** Owns the log: JSON lines on stdout, with credentials kept out of them. */
import { type DestinationStream, type Logger, pino, stdTimeFunctions } from 'pino';

export type Log = Logger;

/** Keys that may hold a credential: their values are redacted in a line and in the objects in it. Invariant 9. */
const secretKeys = ['authorization', 'token', 'apiKey'];
const secretPaths = secretKeys.flatMap((key) => [key, `*.${key}`]);

/**
 * Lines are written in the background, and flushed when the process exits; `fatal` waits for its line.
 * @param level pino's level: `error` means that a person must act, `warn` that someone should look; `info` has one line
 * for each decision.
 * @param destination where the lines go; stdout unless given.
 */
export function createLog(level: string, destination: DestinationStream = pino.destination({ sync: false })): Log {
  const options = {
    level,
    base: { service: 'irsa-svc' },
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: { paths: secretPaths, censor: '[redacted]' },
  };
  return pino(options, destination);
}
