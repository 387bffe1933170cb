/** Owns the notice that no organization of the person is mapped: reads the service's line about it, and makes the text for people. Pure. */

/** The person's user and organizations in Domino. A field is undefined where a service of an earlier release did not send it. */
export interface Unmapped {
  readonly user: string | undefined;
  /** The first of the person's organizations. */
  readonly organizations: readonly string[] | undefined;
  /** The number of all the person's organizations. */
  readonly count: number | undefined;
}

export interface NoticeView {
  code: 'no_mapped_organization';
  message: string;
  what_to_do: string;
  user: string | null;
  organizations: readonly string[] | null;
}

/** The service names at most 20 organizations; a pattern on a longer line could take time quadratic in its length. */
const longestLine = 8192;

/** @returns undefined where the first line is not the one that src/grants/aws-config.ts writes for a person without roles. */
export function readUnmapped(text: string): Unmapped | undefined {
  const [line = ''] = text.slice(0, longestLine).split('\n', 1);
  const [, user, tail] = /^# irsa-svc: no roles of (.*) for run [0-9a-f]+, written \S+: (.*)$/.exec(line.trim()) ?? [];
  if (user === undefined || tail === undefined) return undefined;
  const [, count, list] = /; Domino names (\d{1,6}): (\[.*\])$/.exec(tail) ?? [];
  const organizations = list === undefined ? undefined : readList(list);
  return { user, organizations, count: organizations && Number(count) };
}

function readList(json: string): string[] | undefined {
  try {
    const list: unknown = JSON.parse(json);
    return Array.isArray(list) ? list.map(String) : undefined;
  } catch {
    return undefined;
  }
}

export function noticeView({ user, organizations, count = 0 }: Unmapped): NoticeView {
  const who = user === undefined ? 'Domino knows you' : `Domino knows you as ${user}`;
  const listed = organizations?.join(', ') ?? '';
  const more = organizations && count > organizations.length ? `, and ${count - organizations.length} more` : '';
  const where = !organizations
    ? '. No organization of yours is mapped to an AWS role, so you have none'
    : count === 0
      ? ', in no organization. Organizations are mapped to AWS roles, so you have none'
      : `, in ${count === 1 ? 'the organization' : `${count} organizations:`} ${listed}${more}. None is mapped to an AWS role, so you have none`;
  return {
    code: 'no_mapped_organization',
    message: `${who}${where}.`,
    what_to_do:
      'Ask your administrator to add you to an organization that is mapped, or to map one of yours; then /refresh.',
    user: user ?? null,
    organizations: organizations ?? null,
  };
}
