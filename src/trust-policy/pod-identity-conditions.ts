/** Owns evaluating a statement's Condition for a request by EKS Pod Identity that is only partly known. Pure. */
import { isObject, type Json, stringsOf } from './json.ts';
import { matchesPattern } from './wildcards.ts';

/**
 * What is known of a request, by condition key in lower case: its value, or null where the request certainly lacks the
 * key. A key that is not in the map may have any value, or none.
 */
export type KnownKeys = ReadonlyMap<string, string | null>;

/** One key under one operator, as in `StringEquals aws:SourceArn`. */
export interface Test {
  operator: string;
  key: string;
  value: Json;
}

/** undefined: it cannot be decided. */
export type Verdict = boolean | undefined;

/** The single tests of a Condition, all of which must hold. A form that IAM does not have gives one that cannot be decided. */
export function testsOf(condition: Json | undefined): Test[] {
  if (condition === undefined) return [];
  if (!isObject(condition)) return [{ operator: 'Condition', key: '', value: condition }];
  return Object.entries(condition).flatMap(([operator, keys]) =>
    isObject(keys)
      ? Object.entries(keys).map(([key, value]) => ({ operator, key, value }))
      : [{ operator, key: '', value: keys }],
  );
}

const operatorForm = /^(?:(ForAnyValue|ForAllValues):)?(String|Arn)(Not)?(Equals|Like|EqualsIgnoreCase)(IfExists)?$/;

/** https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html */
export function holds({ operator, key, value }: Test, known: KnownKeys): Verdict {
  const actual = known.get(key.toLowerCase());
  const wanted = Array.isArray(value) ? value.map(String) : isObject(value) ? undefined : [String(value)];
  // AWS's documentation contradicts itself about an empty list.
  if (actual === undefined || !wanted || wanted.length === 0) return undefined;
  if (operator === 'Null') return wanted.some((one) => one.toLowerCase() === String(actual === null));
  const [, set, kind, negated, form, ifExists] = operatorForm.exec(operator) ?? [];
  if (kind === undefined || form === undefined) return undefined;
  if (actual === null) {
    return ifExists !== undefined || set === 'ForAllValues' || (negated !== undefined && set === undefined);
  }
  // The value of a policy variable is known only from the request.
  if (wanted.some((one) => one.includes('${'))) return undefined;
  const isLike = kind === 'Arn' || form === 'Like';
  const matches = wanted.some((one) =>
    isLike
      ? matchesPattern(one, actual)
      : form === 'EqualsIgnoreCase'
        ? one.toLowerCase() === actual.toLowerCase()
        : one === actual,
  );
  return matches !== (negated !== undefined);
}

/** Whether all tests hold: false where one certainly does not. */
export function allHold(tests: readonly Test[], known: KnownKeys): Verdict {
  const verdicts = tests.map((test) => holds(test, known));
  if (verdicts.includes(false)) return false;
  return verdicts.includes(undefined) ? undefined : true;
}

/** A test in words: `aws:SourceArn (StringEquals "…")`. */
export function inWords({ operator, key, value }: Test): string {
  const values = stringsOf(value) ?? [JSON.stringify(value)];
  return `${key || 'a condition'} (${operator} ${values.map((one) => `"${one}"`).join(', ')})`;
}
