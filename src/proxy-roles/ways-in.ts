/** Owns finding the proxy roles that a revoked run's service accounts may still assume, and why, from published statuses. Pure. */
import { roleTokenAudience } from '../lib/arn.ts';
import type { TrustScope } from '../trust-policy/document.ts';
import { denies, letsIn, openSubjects } from '../trust-policy/reach.ts';
import type { TrustStatus } from './status.ts';

/** A proxy role that service accounts may still assume although they should not, with the reason and who has to act. */
export interface WayIn {
  proxy_iam_role_arn: string;
  service_accounts: string[];
  code: string;
  detail: string;
}

/** Service account -> the roles whose tokens its pods may hold, each with its last expiry, ISO 8601, where that is known. */
export type HeldTokens = ReadonlyMap<string, readonly { arn: string; until?: string | undefined }[]>;

/** The service accounts that may hold an unexpired token of the role. @param now milliseconds since the epoch. */
export function holdersOf(role: string, held: HeldTokens, now: number): string[] {
  const isOver = (until: string | undefined) => until !== undefined && Date.parse(until) <= now;
  const holds = (name: string) => held.get(name)?.some(({ arn, until }) => arn === role && !isOver(until));
  return [...held.keys()].filter(holds);
}

/** @param scope undefined until the service knows its own AWS account: then only the published lists count. */
export function waysIn(
  statuses: Iterable<TrustStatus>,
  scope: TrustScope | undefined,
  accounts: readonly string[],
): WayIn[] {
  return [...statuses].flatMap((status) => {
    const ours = accounts.filter((name) => isOnRecord(status, name));
    const letIn = accounts.filter((name) => ours.includes(name) || isLetIn(status, scope, name));
    if (letIn.length === 0) return [];
    return [{ proxy_iam_role_arn: status.role_arn, service_accounts: letIn, ...why(status, scope, ours.length > 0) }];
  });
}

/** The proxy roles that service accounts can assume with tokens they hold, without a Deny. @param now milliseconds since the epoch. */
export function tokenWaysIn(
  statuses: readonly TrustStatus[],
  scope: TrustScope | undefined,
  held: HeldTokens,
  now: number,
): WayIn[] {
  return statuses.flatMap((status) => {
    const { role_arn: arn, document, tokens } = status;
    const isOut = (name: string) => scope !== undefined && document !== undefined && denies(scope, document, name);
    // Without the statement no token works. One that the owner of an unmanaged role wrote shows only in the document.
    const isClosed = (name: string) =>
      tokens && !status.kept_elsewhere
        ? !tokens.granted
        : scope !== undefined && document !== undefined && !letsIn(scope, document, name);
    const letIn = holdersOf(arn, held, now).filter((name) => !isClosed(name) && !isOut(name));
    if (letIn.length === 0) return [];
    const full = tokens?.problem?.code === 'trust_policy_full' ? tokens.problem : undefined;
    const expiring = {
      code: 'kept_elsewhere',
      detail:
        'a mapping says that its trust policy is kept elsewhere, so this service cannot deny the tokens that the run holds: they work until they expire',
    };
    const reason = full ?? (status.kept_elsewhere ? expiring : why(status, scope, true));
    return [{ proxy_iam_role_arn: arn, service_accounts: letIn, ...reason }];
  });
}

/** Whether the document has, or may have, a subject of ours for the service account. */
function isOnRecord({ members, others }: TrustStatus, name: string): boolean {
  return Object.hasOwn(members, name) || (others?.includes(name) ?? false);
}

function isLetIn({ role_arn: role, document }: TrustStatus, scope: TrustScope | undefined, name: string): boolean {
  return document !== undefined && scope !== undefined && letsIn(scope, document, name, roleTokenAudience(role));
}

/** An unmanaged subject that lets in more than one service account of the compute namespace. */
export interface OpenReport {
  /** The statement's place in the document, from 0. */
  statement: number;
  sid: string | undefined;
  /** null: the statement has no `:sub` that narrows it. */
  subject: string | null;
}

export function openReports(status: TrustStatus, scope: TrustScope | undefined): OpenReport[] {
  const open =
    scope && status.document !== undefined
      ? openSubjects(scope, status.document, roleTokenAudience(status.role_arn))
      : [];
  return open.map(({ index, sid, subject }) => ({ statement: index, sid, subject: subject ?? null }));
}

function why(status: TrustStatus, scope: TrustScope | undefined, isOurs: boolean): Pick<WayIn, 'code' | 'detail'> {
  if (!isOurs) {
    const subjects = openReports(status, scope)
      .map(({ subject }) => subject ?? 'a statement without :sub')
      .join(', ');
    const by = subjects === '' ? 'a statement' : subjects;
    const detail = `its trust policy lets the run in by ${by}, which irsa-svc did not write and does not change: the owner of that statement has to narrow it`;
    return { code: 'open_subject', detail };
  }
  if (status.kept_elsewhere) {
    const detail =
      'a mapping says that its trust policy is kept elsewhere: its owner has to remove the subject, or an administrator sets that mapping again with remove_subjects=true';
    return { code: 'kept_elsewhere', detail };
  }
  if (status.error) return { code: status.error.code, detail: status.error.detail };
  return { code: 'pending', detail: 'IAM has not shown a trust policy without it yet' };
}
