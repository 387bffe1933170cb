/** Owns reading of the pod's labels, as the downward API writes them: which run this is, and its workload type. */
import { Failure } from './failure.ts';

export interface RunIdentity {
  /** 24 hex digits. */
  readonly run: string;
  readonly workloadType: string | undefined;
}

/**
 * Reads lines of `key="value"`, with the value quoted as by Go's `%q`, and ignores other lines:
 * https://kubernetes.io/docs/concepts/workloads/pods/downward-api/ (pkg/fieldpath FormatMap).
 */
export function parseLabels(text: string): Map<string, string> {
  const labels = new Map<string, string>();
  for (const line of text.split('\n')) {
    const [, key, quoted] = /^([^=]+)="((?:[^"\\]|\\.)*)"\r?$/.exec(line) ?? [];
    if (key !== undefined && quoted !== undefined) labels.set(key, unquote(quoted));
  }
  return labels;
}

/**
 * @param text the labels file, or undefined when there is none.
 * @param runId `DOMINO_RUN_ID`, used when the labels do not name the run.
 * @throws Failure `run_unknown`
 */
export function identifyRun(text: string | undefined, runId: string | undefined): RunIdentity {
  const labels = parseLabels(text ?? '');
  const run = [labels.get('dominodatalab.com/execution-id'), runName(labels.get('app.kubernetes.io/name')), runId]
    .map((candidate) => /^(?:run-)?([0-9a-f]{24})$/.exec(candidate?.trim() ?? '')?.[1])
    .find((found) => found !== undefined);
  if (run === undefined) {
    throw new Failure('run_unknown', { detail: text === undefined ? 'there is no labels file' : undefined });
  }
  const type = labels.get('dominodatalab.com/irsa-workload-type');
  // The service would refuse the request for an invalid label. The roles matter more than the type, so it is left out.
  const workloadType = type !== undefined && /^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/.test(type);
  return { run, workloadType: workloadType ? type : undefined };
}

/** The run's name in the label, if any: pods of a run's cluster have the cluster's kind (`ray`) there. */
function runName(name: string | undefined): string | undefined {
  return name?.startsWith('run-') ? name : undefined;
}

const short: Record<string, string> = { a: '\x07', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' };

/** Decodes Go's escapes: https://go.dev/ref/spec#Rune_literals */
function unquote(quoted: string): string {
  const escapes = /\\(?:x([\da-fA-F]{2})|u([\da-fA-F]{4})|U([\da-fA-F]{8})|(.))/g;
  return quoted.replace(escapes, (_all, x?: string, u?: string, long?: string, char = '') => {
    const hex = x ?? u ?? long;
    if (hex === undefined) return short[char] ?? char;
    const code = Number.parseInt(hex, 16);
    return code <= 0x10ffff ? String.fromCodePoint(code) : '\ufffd';
  });
}
