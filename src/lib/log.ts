/** Owns the log: JSON lines on stdout, with credentials kept out of them. */
import { type DestinationStream, type Logger, pino, stdTimeFunctions } from 'pino';

export type Log = Logger;

/** Keys that may hold a credential: their values are replaced in a line, and in the objects that it holds. Invariant 9. */
const secretKeys = ['authorization', 'token', 'apiKey'];
const secretPaths = secretKeys.flatMap((key) => [key, `*.${key}`]);

/**
 * Lines go out while others are made, and all that are left when the process exits; `fatal` waits for its own.
 * @param level pino's level: `error` means that a person must act, `warn` that someone should look, `info` is one line
 * a decision.
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
