/** Owns label and field selectors: turns their text into a check of an entry in the store. */
import type { Kind } from './kubernetes-kinds.ts';
import { badRequest, qualified } from './kubernetes-status.ts';

export interface Selectable {
  readonly labels: Readonly<Record<string, string>>;
  readonly fields: Readonly<Record<string, string>>;
}

type Test = (of: Readonly<Record<string, string>>) => boolean;

const key = '([A-Za-z0-9][-A-Za-z0-9_./]*)';
const setForm = new RegExp(String.raw`^${key}\s+(in|notin)\s*\(([^()]*)\)$`);
const equalForm = new RegExp(String.raw`^${key}\s*(==|=|!=)\s*([-A-Za-z0-9_.]*)$`);
const existsForm = new RegExp(String.raw`^(!?)\s*${key}$`);

/** A check by both selectors; an absent or empty selector matches everything. Throws a 400 where the text does not parse. */
export function selector(kind: Kind, labels: string | null, fields: string | null): (of: Selectable) => boolean {
  const labelTests = labels ? splitOutsideParentheses(labels).map(labelTest) : [];
  const fieldTests = fields ? fields.split(',').map((term) => fieldTest(kind, term.trim())) : [];
  return (of) => labelTests.every((test) => test(of.labels)) && fieldTests.every((test) => test(of.fields));
}

/** The single name that a field selector requires, if any: RBAC uses it with resourceNames for list and watch. */
export function pinnedName(fields: string | null): string | undefined {
  return fields ? /(?:^|,)\s*metadata\.name={1,2}([^,]+)/.exec(fields)?.[1] : undefined;
}

function splitOutsideParentheses(text: string): string[] {
  return text.split(/,(?![^()]*\))/).map((term) => term.trim());
}

function labelTest(term: string): Test {
  const set = setForm.exec(term);
  if (set) {
    const [, name = '', operator, list = ''] = set;
    const values = new Set(list.split(',').map((value) => value.trim()));
    return operator === 'in'
      ? (of) => of[name] !== undefined && values.has(of[name])
      : (of) => of[name] === undefined || !values.has(of[name]);
  }
  const equal = equalForm.exec(term);
  if (equal) {
    const [, name = '', operator, value = ''] = equal;
    return operator === '!=' ? (of) => of[name] !== value : (of) => of[name] === value;
  }
  const exists = existsForm.exec(term);
  if (exists) {
    const [, not, name = ''] = exists;
    return not ? (of) => of[name] === undefined : (of) => of[name] !== undefined;
  }
  throw badRequest(`unable to parse requirement: found '${term}', expected: a label requirement`);
}

function fieldTest(kind: Kind, term: string): Test {
  const [, name = '', operator, value = ''] = /^([^=!]+)(==|=|!=)(.*)$/.exec(term) ?? [];
  if (!operator) throw badRequest(`invalid field selector: "${term}"; can't understand it`);
  if (name !== 'metadata.name' && name !== 'metadata.namespace' && !kind.fields.includes(name)) {
    throw badRequest(
      `Unable to find "${qualified(kind)}" that match field selector "${term}": field label not supported: ${name}`,
    );
  }
  // An absent field is the empty string, as in the real one.
  return operator === '!=' ? (of) => (of[name] ?? '') !== value : (of) => (of[name] ?? '') === value;
}
