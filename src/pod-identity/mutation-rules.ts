/** Owns the rules of the domsed Mutation that gives Pod Identity users their service accounts. Pure. */
import { isDeepStrictEqual } from 'node:util';
import { type Pod, workloadLabel } from '../kubernetes/objects.ts';

export const podIdentityMutation = 'irsa-pod-identity';

/** The workloads that get the account: those that users start, but not their apps, model APIs or clusters. */
const workloads: readonly string[] = ['Workspace', 'Batch', 'Scheduled'];

/**
 * Whether a pod lacks its user's mapped account because it was created earlier: it has the account that Domino made for its
 * run, or a former one of the user.
 */
export function beganBeforeMapping({ run, account, workload }: Pod, former?: ReadonlySet<string>): boolean {
  const isOld = account === `run-${run}` || former?.has(account) === true;
  return run !== undefined && isOld && workload !== undefined && workloads.includes(workload);
}

/**
 * The rules for these users. A user who is not listed keeps the account that Domino makes for the run.
 * @param accounts Domino user -> service account.
 */
export function mutationRules(accounts: ReadonlyMap<string, string>): object[] {
  const sorted = [...accounts].sort(([a], [b]) => (a < b ? -1 : 1));
  const mapping = { cloud_type: 'aws', default_sa: '', assume_sa_mapping: false };
  return [
    {
      labelSelectors: [`${workloadLabel} in (${workloads.join(',')})`],
      cloudWorkloadIdentity: { ...mapping, user_mappings: Object.fromEntries(sorted) },
    },
  ];
}

/** Whether these rules have the same effect. Defaults of the API server, such as `enabled: true`, are no difference. */
export function sameRules(rules: unknown, accounts: ReadonlyMap<string, string>): boolean {
  const wanted = mutationRules(accounts);
  if (!Array.isArray(rules) || rules.length !== wanted.length) return false;
  return wanted.every((rule, index) => isFilledIn(rule, (rules as unknown[])[index]));
}

/** The defaults that the API server fills in. `matchBuilds: true` is not one of them: a client set it. */
const defaults: ReadonlySet<unknown> = new Set([false, '', null]);

function isFilledIn(wanted: object, there: unknown): boolean {
  if (typeof there !== 'object' || there === null) return false;
  const found = new Map<string, unknown>(Object.entries(there));
  const isWanted = ([key, value]: [string, unknown]) =>
    key === 'cloudWorkloadIdentity'
      ? isFilledIn(value as object, found.get(key))
      : isDeepStrictEqual(value, found.get(key));
  const isDefault = ([key, value]: [string, unknown]) =>
    Object.hasOwn(wanted, key) || (key === 'enabled' ? value === true : defaults.has(value));
  return Object.entries(wanted).every(isWanted) && [...found].every(isDefault);
}

interface RuleIdentity {
  user_mappings?: unknown;
  default_sa?: unknown;
}

function identitiesIn(rules: unknown): RuleIdentity[] {
  const all = Array.isArray(rules) ? (rules as ({ cloudWorkloadIdentity?: RuleIdentity | null } | null)[]) : [];
  return all.map((rule) => rule?.cloudWorkloadIdentity ?? {});
}

/** Domino user -> the service account that a rule gives to that user. */
export function usersInRules(rules: unknown): Map<string, string> {
  const users = identitiesIn(rules).flatMap(({ user_mappings: mappings }) =>
    typeof mappings === 'object' ? Object.entries(mappings ?? {}) : [],
  );
  return new Map(users.filter((entry): entry is [string, string] => typeof entry[1] === 'string'));
}

/** The service accounts that any rule gives to any user. */
export function accountsInRules(rules: unknown): Set<string> {
  const all = identitiesIn(rules).map(({ default_sa: name }) => name);
  const named = [...usersInRules(rules).values(), ...all];
  return new Set(named.filter((name): name is string => typeof name === 'string' && name !== ''));
}
