/** Owns the log that feeds the activity record: each line with `audit` goes to both. */
import type { Log } from '../lib/log.ts';
import type { AuditLine } from './entry.ts';

const levels = ['info', 'warn', 'error'] as const;

/**
 * @returns the same log, which also passes audit lines to `take`, at any log level.
 * @param take must queue the line and return at once, since requests wait for it.
 */
export function withTrail(log: Log, now: () => number, take: (line: AuditLine) => void): Log {
  const trail: Log = Object.create(log);
  for (const level of levels) {
    const write = log[level].bind(log) as (...line: unknown[]) => void;
    trail[level] = (...line: unknown[]) => {
      const [about, message] = line;
      if (isAudit(about)) take({ about, message: String(message), at: now() });
      write(...line);
    };
  }
  return trail;
}

function isAudit(about: unknown): about is AuditLine['about'] {
  return typeof about === 'object' && about !== null && 'audit' in about;
}
