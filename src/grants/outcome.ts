/** Owns the outcome of a target role for the service accounts of a run, from the published statuses. Pure. */
import type { Target } from '../mappings/role-mappings.ts';
import type { TrustStatus } from '../proxy-roles/status.ts';
import type { TokenRole } from '../runs/held-tokens.ts';
import type { RoleOutcome } from './aws-config.ts';

/** Service account -> the ids of the role requests whose settlement counts. */
export type RequestIds = ReadonlyMap<string, readonly string[]>;

/** @returns undefined while the leader has not settled the target for all of the service accounts. */
export function outcomeOf(
  target: Target,
  ids: RequestIds,
  status: (roleArn: string) => TrustStatus | undefined,
): RoleOutcome | undefined {
  const names = [...ids.keys()];
  const counts = (name: string, id: string | undefined) => id !== undefined && (ids.get(name)?.includes(id) ?? false);
  const published = target.proxies.flatMap(({ arn }) => status(arn) ?? []);
  const refusalOf = (name: string) =>
    published
      .flatMap(({ refused }) => refused)
      .find((one) => one.target === target.arn && one.account === name && counts(name, one.want));
  for (const { role_arn: proxy, members } of published) {
    const isMember = (name: string) => Object.hasOwn(members, name) && counts(name, members[name]?.want);
    const inside = names.filter(isMember);
    if (inside.length === names.length) return { kind: 'granted', target: target.arn, proxy };
    const outside = names.filter((name) => !isMember(name)).map((name) => ({ name, refusal: refusalOf(name) }));
    if (inside.length > 0 && outside.every(({ refusal }) => refusal)) {
      // Some service accounts of the run have it, and the others were refused: all of them get the same file.
      const note = outside.map(({ name, refusal }) => `not for account ${name}, ${refusal?.code}: ${refusal?.detail}`);
      return { kind: 'granted', target: target.arn, proxy, note: note.join('; ') };
    }
  }
  const refusals = names.map(refusalOf);
  const [refusal] = refusals;
  if (!refusal || !refusals.every(Boolean)) return undefined;
  return { kind: 'refused', target: target.arn, code: refusal.code, detail: refusal.detail };
}

/** Whether a Deny blocks the service account's tokens of the role, by its published status. */
export function isDenied(account: string, status: TrustStatus | undefined): boolean {
  return Object.hasOwn(status?.tokens?.denied ?? {}, account);
}

/** The outcome of a role that is given by a token. @returns undefined while the leader has not settled it for these accounts. */
export function tokenOutcomeOf(
  { target, arn: proxy, managed }: TokenRole & { managed: boolean },
  accounts: Iterable<string>,
  status: (roleArn: string) => TrustStatus | undefined,
): RoleOutcome | undefined {
  const known = status(proxy);
  const { problem, granted = false } = known?.tokens ?? {};
  const error = managed ? known?.error : undefined;
  // A lack of capacity for denials does not keep this run from the role.
  const reason = problem?.code === 'trust_policy_full' ? error : (problem ?? error);
  if (reason) return { kind: 'refused', target, code: reason.code, detail: reason.detail, carrier: 'token' };
  const isSettled = granted && ![...accounts].some((name) => isDenied(name, known));
  return !managed || isSettled ? { kind: 'granted', target, proxy, carrier: 'token' } : undefined;
}
