/** Owns the log: JSON lines on stdout, with credentials kept out of them. */
import { type DestinationStream, type Logger, pino } from 'pino';

export type Log = Logger;

/** Header names and keys that may hold a credential; pino replaces their values wherever they are logged by name. */
const secretPaths = ['authorization', 'token', 'apiKey', 'headers.authorization', '*.headers.authorization'];

/**
 * @param level pino's level: `error` means that a person must act, `warn` that someone should look, `info` is one line
 * a decision.
 * @param destination where the lines go; stdout unless given.
 */
export function createLog(level: string, destination?: DestinationStream): Log {
  const options = {
    level,
    base: { service: 'irsa-svc' },
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: { paths: secretPaths, censor: '[redacted]' },
  };
  return destination ? pino(options, destination) : pino(options);
}
