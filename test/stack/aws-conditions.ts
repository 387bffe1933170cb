/** Owns the evaluation of a policy's Condition block against the values of a request. */
import { AwsError } from './aws-xml.ts';

/** Values by condition key; keys in lower case, since IAM compares them without case. */
export type ConditionContext = ReadonlyMap<string, readonly string[]>;

export function conditionContext(values: Record<string, string | readonly string[] | undefined>): ConditionContext {
  const context = new Map<string, readonly string[]>();
  for (const [key, value] of Object.entries(values)) {
    if (value !== undefined) context.set(key.toLowerCase(), typeof value === 'string' ? [value] : value);
  }
  return context;
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** One thing or a list of things: policies allow both nearly everywhere. */
export function asStrings(value: unknown): string[] {
  if (value === undefined || value === null) return [];
  return (Array.isArray(value) ? value : [value]).map(String);
}

export interface Reading {
  /** False for documents before 2012-10-17, in which `${` is plain text. */
  readonly variables: boolean;
  readonly emptyLists?: 'everybody' | 'nobody' | undefined;
}

export function conditionHolds(condition: unknown, context: ConditionContext, reading: Reading): boolean {
  if (!isRecord(condition)) return true;
  return Object.entries(condition).every(([operator, block]) =>
    Object.entries(isRecord(block) ? block : {}).every(([key, wanted]) =>
      operatorHolds(operator, asStrings(wanted), key, context, reading),
    ),
  );
}

const OPERATOR = /^(?:(ForAnyValue|ForAllValues):)?([A-Za-z]+?)(IfExists)?$/;

function operatorHolds(
  operator: string,
  wanted: readonly string[],
  key: string,
  context: ConditionContext,
  { variables, emptyLists = 'everybody' }: Reading,
): boolean {
  const [, set, base = '', ifExists] = OPERATOR.exec(operator) ?? [];
  // AWS's own texts contradict each other about `[]`; the default is the reading that admits everyone.
  if (wanted.length === 0) return emptyLists === 'everybody';
  const actual = context.get(key.toLowerCase()) ?? [];
  if (base === 'Null') return wanted.includes(String(actual.length === 0));
  const negated = /^(String|Arn|Numeric|Date)Not/.test(base);
  const compare = COMPARISONS[negated ? base.replace('Not', '') : base];
  // An unknown operator throws, since a wrong verdict would go unnoticed and a 500 does not.
  if (!compare) throw new AwsError('InternalFailure', `the stand-in does not know the operator ${operator}`);
  if (actual.length === 0) return ifExists !== undefined || set === 'ForAllValues' || (negated && set === undefined);
  const matches = (value: string) => wanted.some((pattern) => compare(pattern, value, context, variables));
  if (set === 'ForAllValues') return actual.every((value) => matches(value) !== negated);
  if (set === 'ForAnyValue') return actual.some((value) => matches(value) !== negated);
  return actual.some(matches) !== negated;
}

type Comparison = (wanted: string, actual: string, context: ConditionContext, variables: boolean) => boolean;

const like: Comparison = (wanted, actual, context, variables) =>
  expression(wanted, context, { wildcards: true, variables })?.test(actual) ?? false;
const equals: Comparison = (wanted, actual, context, variables) =>
  expression(wanted, context, { wildcards: false, variables })?.test(actual) ?? false;
const numeric =
  (holds: (actual: number, wanted: number) => boolean): Comparison =>
  (wanted, actual) =>
    holds(Number(actual), Number(wanted));
const dated =
  (holds: (actual: number, wanted: number) => boolean): Comparison =>
  (wanted, actual) =>
    holds(Date.parse(actual), Date.parse(wanted));

const COMPARISONS: Record<string, Comparison> = {
  StringEquals: equals,
  StringEqualsIgnoreCase: (wanted, actual, context, variables) =>
    expression(wanted, context, { wildcards: false, variables, flags: 'is' })?.test(actual) ?? false,
  StringLike: like,
  ArnEquals: like,
  ArnLike: like,
  Bool: (wanted, actual) => wanted.toLowerCase() === actual.toLowerCase(),
  NumericEquals: numeric((a, b) => a === b),
  NumericLessThan: numeric((a, b) => a < b),
  NumericLessThanEquals: numeric((a, b) => a <= b),
  NumericGreaterThan: numeric((a, b) => a > b),
  NumericGreaterThanEquals: numeric((a, b) => a >= b),
  DateEquals: dated((a, b) => a === b),
  DateLessThan: dated((a, b) => a < b),
  DateLessThanEquals: dated((a, b) => a <= b),
  DateGreaterThan: dated((a, b) => a > b),
  DateGreaterThanEquals: dated((a, b) => a >= b),
};

/** `*` and `?` as IAM reads them in actions, resources and `…Like`. */
export function wildcardMatch(pattern: string, text: string): boolean {
  return expression(pattern, new Map(), { wildcards: true, variables: false })?.test(text) ?? false;
}

/** A cache of patterns without a variable, by their text, since the same few recur. */
const compiled = new Map<string, RegExp>();

/** Undefined when the pattern names a variable that the request lacks: such a value matches nothing. */
function expression(
  pattern: string,
  context: ConditionContext,
  { wildcards, variables, flags = 's' }: { wildcards: boolean; variables: boolean; flags?: string },
): RegExp | undefined {
  const key = pattern.includes('${') ? undefined : `${flags} ${wildcards} ${pattern}`;
  const before = key === undefined ? undefined : compiled.get(key);
  if (before) return before;
  let source = '';
  for (const [part, variable] of pattern.matchAll(/\$\{([^}]*)\}|\$\{|[\s\S]/g)) {
    if (part.startsWith('${') && variables) {
      const value = variable === undefined ? undefined : variableValue(variable, context);
      if (value === undefined) return undefined;
      source += literal(value);
    } else if (wildcards && part === '*') source += '.*';
    else if (wildcards && part === '?') source += '.';
    else source += literal(part);
  }
  const found = new RegExp(`^${source}$`, flags);
  if (compiled.size > 10_000) compiled.clear();
  if (key !== undefined) compiled.set(key, found);
  return found;
}

function variableValue(variable: string, context: ConditionContext): string | undefined {
  if (variable === '*' || variable === '?' || variable === '$') return variable;
  const [, key = variable, fallback] = /^(.*?)\s*,\s*'(.*)'$/.exec(variable) ?? [];
  return context.get(key.trim().toLowerCase())?.[0] ?? fallback;
}

function literal(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
}
