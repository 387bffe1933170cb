/** Owns the conditions of a trust policy's statements: finds lists of subjects, and evaluates conditions where possible. Pure. */
import { isObject, type Json, type JsonObject, listOf } from './json.ts';
import { matchesPattern } from './wildcards.ts';

/** Whether a part of a statement matches. `unknown`: the request decides, or AWS's documentation contradicts itself. */
export type Answer = 'yes' | 'no' | 'unknown';

/** How an operator on strings compares. */
interface Comparison {
  /** Whether `*` and `?` are wildcards. */
  patterns: boolean;
  ignoresCase: boolean;
  negated: boolean;
  /** Whether a request without the key passes. */
  absent: Answer;
}

/** A list of subjects one of which must match for a statement to let a token in. */
export interface SubjectList extends Comparison {
  operator: string;
  key: string;
  values: Json[];
}

/** The lists of our issuer's `:sub`, under any operator that lets in matching subjects; IAM ANDs them. */
export function subjectLists(issuer: string, { Condition: condition }: JsonObject): SubjectList[] {
  return Object.entries(isObject(condition) ? condition : {}).flatMap(([operator, keys]) => {
    const comparison = comparisonOf(operator);
    if (!comparison || comparison.negated || !isObject(keys)) return [];
    return Object.entries(keys).flatMap(([key, value]) =>
      isKey(key, `${issuer}:sub`) ? [{ ...comparison, operator, key, values: listOf(value) }] : [],
    );
  });
}

/** Whether a condition holds for a token of our issuer. @param subject the token's; undefined: tests on it are unknown. */
export function conditionHolds(issuer: string, condition: Json | undefined, subject: string | undefined): Answer {
  if (condition === undefined) return 'yes';
  if (!isObject(condition)) return 'unknown';
  const answers = Object.entries(condition).flatMap(([operator, keys]) =>
    Object.entries(isObject(keys) ? keys : { '': null }).map(([key, value]) => {
      const comparison = comparisonOf(operator);
      const values = listOf(value);
      if (!comparison || values.length === 0) return 'unknown';
      if (isKey(key, `${issuer}:sub`))
        return subject === undefined ? 'unknown' : listHolds(comparison, values, subject);
      // A pod can get a token of any audience from Kubernetes; the document does not say whether the provider accepts it.
      return isOfOtherProvider(issuer, key) ? comparison.absent : 'unknown';
    }),
  );
  return allHold(answers);
}

export function allHold(answers: readonly Answer[]): Answer {
  if (answers.includes('no')) return 'no';
  return answers.includes('unknown') ? 'unknown' : 'yes';
}

/** IAM compares condition keys without regard to case. */
export function isKey(key: string, expected: string): boolean {
  return key.toLowerCase() === expected.toLowerCase();
}

/** A pattern that matches whatever a value with policy variables may match. */
export function loosened(value: string): string {
  return value.replace(/\$\{[^}]*\}?/g, '*');
}

/** https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html */
function comparisonOf(operator: string): Comparison | undefined {
  const form = /^(ForAnyValue:|ForAllValues:)?(String|Arn)(Not)?(Equals|EqualsIgnoreCase|Like)(IfExists)?$/.exec(
    operator,
  );
  if (!form) return undefined;
  const [, set, type, not, kind, ifExists] = form;
  const negated = not !== undefined;
  const passes = ifExists !== undefined || set === 'ForAllValues:' || (negated && set === undefined);
  return {
    patterns: kind === 'Like' || type === 'Arn',
    ignoresCase: kind === 'EqualsIgnoreCase',
    negated,
    absent: passes ? 'yes' : 'no',
  };
}

function listHolds(comparison: Comparison, values: Json[], subject: string): Answer {
  const answers = values.map((value) => valueMatches(comparison, value, subject));
  const found = answers.includes('yes') ? 'yes' : answers.includes('unknown') ? 'unknown' : 'no';
  return comparison.negated ? ({ yes: 'no', no: 'yes', unknown: 'unknown' } as const)[found] : found;
}

function valueMatches({ patterns, ignoresCase }: Comparison, value: Json, subject: string): Answer {
  if (typeof value !== 'string') return 'unknown';
  // A literal star or question mark matches no subject: those of tokens have neither.
  if (!patterns && /[*?]/.test(value)) return 'no';
  const wanted = ignoresCase ? value.toLowerCase() : value;
  if (!matchesPattern(loosened(wanted), subject)) return 'no';
  return loosened(wanted) === wanted ? 'yes' : 'unknown';
}

/** Whether a key, such as `token.actions.githubusercontent.com:sub`, is another provider's: our tokens have none of these. */
function isOfOtherProvider(issuer: string, key: string): boolean {
  const [provider = ''] = key.split(':');
  return provider.includes('.') && !key.toLowerCase().startsWith(`${issuer.toLowerCase()}:`);
}
