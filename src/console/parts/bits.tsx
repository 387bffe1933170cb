/** Owns the small components that every page uses: role names, times, marks, and the refusal of a call. */
import type { ComponentChildren } from 'preact';
import { CallError, runbookLink } from '../api.ts';
import type { Loaded } from '../load.ts';
import { linkTo } from '../route.ts';
import { now } from '../session.ts';

/** A role's name with its account; the whole ARN shows on hover. */
export function Role({ arn, isLink = false }: { arn: string; isLink?: boolean }) {
  const [, , , , account = '', ...rest] = arn.split(':');
  const name = rest.join(':').replace(/^role\//, '') || arn;
  const shown = (
    <span class="role" title={arn}>
      <b>{name}</b> {account !== '' && <small>{account}</small>}
    </span>
  );
  return isLink ? <a href={linkTo('roles', { arn })}>{shown}</a> : shown;
}

export function Run({ id, user }: { id: string; user?: string | undefined }) {
  return (
    <a class="run" href={linkTo('why', { run_id: id })} title={`Why does run ${id} have its roles, or not?`}>
      <code>{id}</code>
      {user !== undefined && ` of ${user}`}
    </a>
  );
}

interface ButtonProps {
  readonly label: string;
  readonly look?: 'quiet' | 'primary' | 'danger';
  readonly onClick: () => void;
}

export function Button({ label, look = 'quiet', onClick }: ButtonProps) {
  return (
    <button type="button" class={look} onClick={onClick}>
      {label}
    </button>
  );
}

/** How long ago; the exact time shows on hover. */
export function Since({ at }: { at: string | undefined }) {
  if (at === undefined) return <span class="faint">unknown</span>;
  const seconds = Math.round((now.value - Date.parse(at)) / 1000);
  return (
    <time dateTime={at} title={new Date(at).toLocaleString()}>
      {ago(seconds)}
    </time>
  );
}

function ago(seconds: number): string {
  if (seconds < 5) return 'just now';
  if (seconds < 120) return `${seconds} s ago`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86_400)} days ago`;
}

export type Tone = 'good' | 'bad' | 'warn' | 'plain';

/** A state as a word with a color; the word alone is enough. */
export function Mark({ tone, children }: { tone: Tone; children: ComponentChildren }) {
  return <span class={`mark ${tone}`}>{children}</span>;
}

/** The alert's section of the runbook, as a link where this installation has a runbook's address. */
export function Runbook({ alert }: { alert: string }) {
  const link = runbookLink(alert);
  if (link === undefined) return <span class="faint">Runbook: {alert}</span>;
  return (
    <a href={link} rel="noreferrer" target="_blank">
      Runbook: {alert}
    </a>
  );
}

export function Refusal({ error }: { error: Error | undefined }) {
  if (!error) return null;
  const { code, requestId } = error instanceof CallError ? error : { code: '', requestId: '' };
  return (
    <p class="refusal" role="alert">
      {code !== '' && <code>{code}</code>} {error.message}
      {requestId !== '' && <small> (request {requestId})</small>}
    </p>
  );
}

/** The placeholder until the data is loaded. */
export function Pending<T>({ of }: { of: Loaded<T> }) {
  if (of.error) return <Refusal error={of.error} />;
  return of.data === undefined ? <p class="faint">Loading…</p> : null;
}

/** The capacity of a trust policy: its used and allowed characters, and how many runs still fit. */
export function Room({
  used,
  allowed,
  fits,
}: {
  used?: number | undefined;
  allowed?: number | undefined;
  fits?: number | undefined;
}) {
  if (used === undefined || allowed === undefined) return <span class="faint">not known</span>;
  const share = used / Math.max(1, allowed);
  const tone = fits === 0 ? 'bad' : share > 0.9 ? 'warn' : 'good';
  return (
    <span class="room">
      <span class={`bar ${tone}`} aria-hidden="true">
        <span style={{ inlineSize: `${Math.min(100, share * 100)}%` }} />
      </span>
      <small>
        {used} of {allowed}
        {fits === undefined ? '' : fits === 0 ? ', full' : `, ${fits} more`}
      </small>
    </span>
  );
}
