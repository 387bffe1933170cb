/** Owns the form of an activity entry, and how an audit line of the log becomes one. Pure. */
import { z } from 'zod';

const text = z.string();
const texts = z.array(text);

/** An entry as it is stored. `GET /activity` returns the same fields except `organizations`. */
export const entrySchema = z.object({
  id: text,
  at: text,
  kind: text,
  decision: text,
  summary: text,
  replica: text,
  request_id: text.optional(),
  user: text.optional(),
  user_id: text.optional(),
  of_user: text.optional(),
  run_id: text.optional(),
  domino_org: text.optional(),
  /** For a grant: the user's organizations as Domino reported them. */
  organizations: z.array(z.object({ name: text, id: text.optional() })).optional(),
  service_accounts: texts.optional(),
  roles: texts.optional(),
  refused: z.array(z.object({ iam_role_arn: text, code: text })).optional(),
  code: text.optional(),
  reason: text.optional(),
  cut: z.literal(true).optional(),
});

export type ActivityEntry = z.infer<typeof entrySchema>;

/** A log line with `audit`, and when it was written. */
export interface AuditLine {
  about: Readonly<Record<string, unknown>>;
  message: string;
  /** Milliseconds since the epoch. */
  at: number;
}

/** Longer lists and texts are cut; the log line has them whole. */
const mostItems = 20;
const mostCharacters = 300;
/** Of an ARN or a service account's name. */
const mostNameCharacters = 640;
const mostOrganizations = 100;
const decisionOf: ReadonlyMap<string, string> = new Map([
  ['brake', 'released'],
  ['organization', 'accepted'],
  ['external_change', 'found'],
  ['removal_held', 'held'],
]);

/**
 * Copies only the fields named here, so that nothing else in a line, such as a credential, is stored.
 * @param ownerOf finds the name of the user who started a run.
 */
export function entryOf(
  { about, message, at }: AuditLine,
  id: string,
  replica: string,
  ownerOf: (run: string) => string | undefined,
): ActivityEntry {
  const cut = new Cut();
  const kind = cut.text(about.audit) ?? 'unknown';
  const run = runOf(about.run);
  const owner = kind.startsWith('pod_identity') ? cut.text(about.domino_user ?? about.user) : run && ownerOf(run);
  const user = kind === 'pod_identity' ? undefined : cut.text(about.user);
  const fields = {
    request_id: cut.text(about.request_id),
    user,
    user_id: cut.text(about.user_id),
    of_user: owner === user ? undefined : owner,
    run_id: run,
    domino_org: cut.text(about.org),
    organizations: cut.list(about.organizations, (one) => organizationOf(one, cut), mostOrganizations),
    service_accounts: cut.list([about.accounts, about.account, about.service_account, about.held].flat(), (one) =>
      cut.text(one, mostNameCharacters),
    ),
    roles: cut.list(rolesOf(about), (one) => cut.text(one, mostNameCharacters)),
    refused: cut.list(about.refused, refusedOf),
    code: cut.text(about.code),
    reason: cut.text(about.reason) ?? changesOf(about),
  };
  const decision = cut.text(about.decision ?? about.change) ?? decisionOf.get(kind) ?? changeOf(about);
  const given = Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
  const head = {
    id,
    at: new Date(at).toISOString(),
    kind,
    decision,
    summary: message.slice(0, mostCharacters),
    replica,
  };
  return { ...head, ...given, ...(cut.isCut ? { cut: true } : {}) };
}

/**
 * For entries that are recorded again only when they change: the outcome of a run that asks every few minutes, and
 * removals that each comparison holds. @returns the subject and the content; undefined for an entry to record always.
 */
export function repeated(entry: ActivityEntry): { about: string; says: string } | undefined {
  const { id: _id, at: _at, request_id: _request, ...content } = entry;
  const says = JSON.stringify(content);
  if (entry.kind === 'grant') return { about: `${entry.user_id} ${entry.run_id}`, says };
  // Each role's tokens are renewed by themselves, twice in their lifetime.
  if (entry.kind === 'role_token') return { about: `token ${entry.user_id} ${entry.run_id} ${entry.roles}`, says };
  if (entry.kind === 'removal_held') return { about: `${entry.roles}`, says };
  return undefined;
}

function changeOf({ before, after }: AuditLine['about']): string {
  const isNothing = (value: unknown) => value === undefined || (Array.isArray(value) && value.length === 0);
  if (isNothing(after)) return isNothing(before) ? 'changed' : 'deleted';
  return 'changed';
}

/** The reason of an external change. */
function changesOf({ missing, extra }: AuditLine['about']): string | undefined {
  if (!Array.isArray(missing) || !Array.isArray(extra)) return undefined;
  return `${missing.length} taken out, ${extra.length} put in`;
}

const roleFields = ['iam_role_arn', 'proxy_iam_role_arn', 'target_role_arn'];

/** The ARN of each role that a line names. */
function rolesOf({ granted, roles, role, target_role, before, after }: AuditLine['about']): unknown[] {
  const mappings = [before, after].flat().filter((one) => typeof one === 'object' && one !== null);
  const named = mappings.flatMap((one) => roleFields.map((field) => (one as Record<string, unknown>)[field]));
  return [...new Set([granted, roles, role, target_role, named].flat())];
}

function runOf(value: unknown): string | undefined {
  return typeof value === 'string' ? /^(?:run-)?([0-9a-f]{24})$/.exec(value)?.[1] : undefined;
}

function organizationOf(value: unknown, cut: Cut): { name: string; id?: string } | undefined {
  const { name, id } = (value ?? {}) as { name?: unknown; id?: unknown };
  const [shortName, shortId] = [cut.text(name, 253), cut.text(id, 64)];
  if (shortName === undefined) return undefined;
  return { name: shortName, ...(shortId === undefined ? {} : { id: shortId }) };
}

function refusedOf(value: unknown): { iam_role_arn: string; code: string } | undefined {
  const { target, code } = (value ?? {}) as { target?: unknown; code?: unknown };
  return typeof target === 'string' && typeof code === 'string' ? { iam_role_arn: target, code } : undefined;
}

/** Cuts texts and lists that are too long, and remembers whether it did. */
class Cut {
  isCut = false;

  text(value: unknown, most = mostCharacters): string | undefined {
    if (typeof value !== 'string') return undefined;
    if (value.length > most) this.isCut = true;
    return value.slice(0, most);
  }

  list<T>(value: unknown, form: (one: unknown) => T | undefined, most = mostItems): T[] | undefined {
    if (!Array.isArray(value)) return undefined;
    const items = value.slice(0, 1_000).flatMap((one) => form(one) ?? []);
    if (items.length > most || value.length > 1_000) this.isCut = true;
    return items.length > 0 ? items.slice(0, most) : undefined;
  }
}
