/** Owns the page of activity: the newest grants, refusals and changes, with a filter, further pages and a file to save. */
import { useState } from 'preact/hooks';
import { call } from '../api.ts';
import { useLoad } from '../load.ts';
import { Button, Mark, Pending, Refusal, Role, Run, Since, type Tone } from '../parts/bits.tsx';
import { csvOf } from '../parts/csv.ts';
import { Action } from '../parts/dialog.tsx';
import { save } from '../parts/save.ts';
import { type Column, Table } from '../parts/table.tsx';
import { goTo, route } from '../route.ts';
import type { Activity, ActivityEntry } from '../types.ts';

const filters = ['user', 'run_id', 'role_arn', 'kind', 'since'] as const;
type Filter = (typeof filters)[number];
const labels: Readonly<Record<Filter, string>> = {
  user: 'User',
  run_id: 'Run',
  role_arn: 'Role’s ARN',
  kind: 'Kind',
  since: 'Since',
};

export function ActivityPage() {
  const { query } = route.value;
  const asked = Object.fromEntries(filters.map((name) => [name, query.get(name) ?? ''])) as Record<Filter, string>;
  const key = JSON.stringify(asked);
  return (
    <>
      <FilterForm key={`form ${key}`} asked={asked} />
      <Entries key={`entries ${key}`} asked={asked} />
    </>
  );
}

function FilterForm({ asked }: { asked: Record<Filter, string> }) {
  const [form, setForm] = useState(asked);
  const change = (name: Filter) => (event: { currentTarget: HTMLInputElement }) =>
    setForm({ ...form, [name]: event.currentTarget.value.trim() });
  const submit = (event: Event) => {
    event.preventDefault();
    const { since } = form;
    goTo('activity', { ...form, since: since === '' ? '' : new Date(since).toISOString() });
  };
  return (
    <form class="filters" onSubmit={submit}>
      {filters.map((name) => (
        <label key={name}>
          {labels[name]}
          <input
            {...(name === 'since'
              ? ({ type: 'datetime-local', value: localOf(form.since) } as const)
              : { value: form[name] })}
            autoComplete="off"
            onInput={change(name)}
          />
        </label>
      ))}
      <button type="submit" class="primary">
        Filter
      </button>
    </form>
  );
}

/** A time in the form of an input of date and time: local, without seconds. */
function localOf(iso: string): string {
  if (iso === '' || Number.isNaN(Date.parse(iso))) return '';
  const at = new Date(iso);
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

function Entries({ asked }: { asked: Record<Filter, string> }) {
  const [older, setOlder] = useState<Activity>();
  const loaded = useLoad((signal) => call<Activity>('activity', { query: { ...asked, limit: 200 }, signal }));
  const { data } = loaded;
  if (!data) return <Pending of={loaded} />;
  const entries = [...data.activity, ...(older?.activity ?? [])];
  const next = older ? older.next : data.next;
  const more = async () => {
    const page = await call<Activity>('activity', { query: { ...asked, limit: 200, continue: next } });
    setOlder({ ...page, activity: [...(older?.activity ?? []), ...page.activity] });
  };
  return (
    <>
      <Refusal error={loaded.error} />
      <p class="acts">
        <Button label="Export as CSV" onClick={() => save('activity.csv', 'text/csv', asCsv(entries))} />
        <Button
          label="Export as JSON"
          onClick={() => save('activity.json', 'application/json', JSON.stringify(entries, null, 2))}
        />
      </p>
      <Table
        caption="Decisions"
        rows={entries}
        columns={columns}
        keyOf={(one) => one.id}
        textOf={(one) => JSON.stringify(one)}
        empty="Nothing is on record that matches."
      />
      {next !== undefined && <Action label="Load older ones" act={more} />}
      {data.holds_since !== null && (
        <p class="faint">
          The record is whole since <Since at={data.holds_since} />; the log has what is older.
        </p>
      )}
    </>
  );
}

const toneOf = ({ decision }: ActivityEntry): Tone =>
  (({ granted: 'good', allowed: 'good', refused: 'bad', revoked: 'bad' })[decision] as Tone | undefined) ?? 'plain';

const columns: readonly Column<ActivityEntry>[] = [
  { name: 'When', cell: (one) => <Since at={one.at} /> },
  { name: 'Decision', cell: (one) => <Mark tone={toneOf(one)}>{one.decision}</Mark> },
  { name: 'Who', cell: (one) => one.user ?? <span class="faint">leader</span> },
  { name: 'What', cell: (one) => <What of={one} /> },
];

function What({ of: one }: { of: ActivityEntry }) {
  return (
    <>
      {one.summary}
      {one.domino_org !== undefined && ` · ${one.domino_org}`}
      {one.code !== undefined && (
        <>
          {' · '}
          <code>{one.code}</code>
        </>
      )}
      {one.run_id !== undefined && (
        <p>
          <Run id={one.run_id} user={one.of_user} />
        </p>
      )}
      {one.reason !== undefined && <q>{one.reason}</q>}
      <ul class="plainlist">
        {(one.roles ?? []).map((arn) => (
          <li key={arn}>
            <Role arn={arn} />
          </li>
        ))}
        {(one.refused ?? []).map(({ iam_role_arn: arn, code }) => (
          <li key={arn}>
            <Role arn={arn} /> <Mark tone="bad">{code}</Mark>
          </li>
        ))}
      </ul>
    </>
  );
}

const csvFields = [
  'at',
  'kind',
  'decision',
  'summary',
  'user',
  'of_user',
  'run_id',
  'domino_org',
  'roles',
  'code',
  'reason',
  'replica',
] as const;

function asCsv(entries: readonly ActivityEntry[]): string {
  const rows = entries.map((one) => csvFields.map((field) => [one[field] ?? ''].flat().join(' ')));
  return csvOf(csvFields, rows);
}
