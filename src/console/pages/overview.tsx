/** Owns the overview: numbers that show whether anything is wrong, and the findings that need an administrator. */
import { useState } from 'preact/hooks';
import { call } from '../api.ts';
import { useLoad } from '../load.ts';
import { type Contested, type Need, needsOf } from '../needs.ts';
import { AcceptDialog } from '../parts/accept-dialog.tsx';
import { Button, Mark, Pending, Role, Run, Runbook, Since } from '../parts/bits.tsx';
import { Action } from '../parts/dialog.tsx';
import { linkTo } from '../route.ts';
import type { RevokedRun, RoleMappings, Totals, TrustStatus } from '../types.ts';

const refreshMs = 10_000;
const mappingsRefreshMs = 60_000;

export function OverviewPage() {
  const status = useLoad(
    (signal) => call<TrustStatus>('trust_status', { query: { limit: 200, needs_attention: true }, signal }),
    '',
    refreshMs,
  );
  const mappings = useLoad((signal) => call<RoleMappings>('role_mappings', { signal }), '', mappingsRefreshMs);
  const revoked = useLoad(
    (signal) => call<{ revoked_runs: RevokedRun[] }>('revoked_runs', { query: { limit: 20 }, signal }),
    '',
    refreshMs,
  );
  const { data } = status;
  if (!data) return <Pending of={status} />;
  const needs = needsOf(data, mappings.data);
  const isAllKnown = mappings.data !== undefined && !mappings.error && !status.error;
  const changed = () => {
    status.again();
    mappings.again();
  };
  return (
    <>
      <Pending of={status} />
      <Tiles status={data} />
      <section aria-labelledby="needs">
        <h2 id="needs">
          Needs you <small>{needs.length}</small>
        </h2>
        <Pending of={mappings} />
        {needs.length === 0 && isAllKnown && <p class="allgood">Nothing that the service knows of.</p>}
        <ul class="needs">
          {needs.map((need) => (
            <NeedItem key={`${need.alert} ${need.role} ${need.title}`} need={need} onChange={changed} />
          ))}
        </ul>
        {data.next !== undefined && <p class="faint">More proxy roles need you than are shown here.</p>}
      </section>
      <Revoked runs={revoked.data?.revoked_runs ?? []} />
    </>
  );
}

function Tiles({ status }: { status: TrustStatus }) {
  const { totals, lease_holder: leader } = status;
  if (!totals) return null;
  const tiles: readonly [name: string, value: number, isBad: boolean, link: string][] = [
    ['Runs in trust policies', totals.runs_with_roles, false, linkTo('roles')],
    ['Roles in error', totals.in_error, totals.in_error > 0, linkTo('roles', { show: 'attention' })],
    ['Runs waiting', totals.waiting, totals.waiting > 0, linkTo('roles', { show: 'attention' })],
    ['External changes', totals.external_changes, totals.external_changes > 0, linkTo('roles', { show: 'attention' })],
    ['Held removals', totals.held, totals.held > 0, linkTo('roles', { show: 'attention' })],
    ['Revoked runs', totals.revoked_runs, false, linkTo('activity', { kind: 'revocation' })],
    ['Proxy roles', totals.proxy_roles, false, linkTo('roles')],
  ];
  return (
    <ul class="tiles" aria-label="Now">
      {tiles.map(([name, value, isBad, link]) => (
        <li key={name} class={isBad ? 'bad' : undefined}>
          <a href={link}>
            <b>{value}</b> {name}
          </a>
        </li>
      ))}
      <li class={leader && !isShort(totals) ? undefined : 'bad'}>
        <span>
          <b>{leader ? 'yes' : 'no'}</b> Leader, <span>{replicasOf(totals)}</span>{' '}
          <small>{leader ?? 'nobody holds the lease'}</small>
        </span>
      </li>
    </ul>
  );
}

const isShort = ({ replicas }: Totals) => replicas !== null && replicas.ready < replicas.wanted;

function replicasOf(totals: Totals): string {
  const { replicas } = totals;
  if (!replicas) return 'number of replicas not known';
  const { ready, wanted } = replicas;
  if (isShort(totals)) return `${ready} of ${wanted} replicas ready`;
  return ready === 1 ? '1 replica' : `${ready} replicas`;
}

function NeedItem({ need, onChange }: { need: Need; onChange: () => void }) {
  const { title, reason, said, since, role, runs, action, alert, contested = [] } = need;
  const release = () => call('release_brake', { method: 'POST', body: { proxy_iam_role_arn: role } }).then(onChange);
  const compare = () => call('trust_status', { query: { proxy_iam_role_arn: role } }).then(onChange);
  return (
    <li>
      <p>
        <Mark tone={need.rank < 3 ? 'bad' : 'warn'}>{need.rank < 3 ? 'broken' : 'look'}</Mark> <b>{title}</b>{' '}
        {since && <Since at={since} />}
      </p>
      {role !== undefined && <Role arn={role} isLink />}
      <p>{reason}</p>
      {said !== undefined && <blockquote>{said}</blockquote>}
      {runs.length > 0 && (
        <p>
          {runs.slice(0, 5).map(({ run_id: id, user }) => (
            <Run key={id} id={id} user={user} />
          ))}
          {runs.length > 5 && ` and ${runs.length - 5} more`}
        </p>
      )}
      <p class="acts">
        <Runbook alert={alert} />
        {role !== undefined && <Action label="Compare now" isQuiet act={compare} />}
        {action === 'release' && <Action label="Release" isDangerous act={release} />}
        {contested.map((one) => (
          <AcceptButton key={one.id} of={one} onChange={onChange} />
        ))}
      </p>
    </li>
  );
}

function AcceptButton({ of, onChange }: { of: Contested; onChange: () => void }) {
  const [isOpen, setOpen] = useState(false);
  return (
    <>
      <Button label={`Accept ${of.id}…`} look="danger" onClick={() => setOpen(true)} />
      {isOpen && <AcceptDialog of={of} onClose={() => setOpen(false)} onChange={onChange} />}
    </>
  );
}

function Revoked({ runs }: { runs: readonly RevokedRun[] }) {
  if (runs.length === 0) return null;
  return (
    <section aria-labelledby="revoked">
      <h2 id="revoked">Revoked runs</h2>
      <ul class="plainlist">
        {runs.map((run) => (
          <li key={run.run_id}>
            <Run id={run.run_id} user={run.user} /> by {run.revoked_by} <Since at={run.revoked_at} />
            {run.reason !== undefined && <q>{run.reason}</q>}
          </li>
        ))}
      </ul>
    </section>
  );
}
