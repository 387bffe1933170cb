/** Owns the page that explains why a run, or a user, has no role; viewers who are no administrators see only their own roles. */
import { useState } from 'preact/hooks';
import { CallError, call } from '../api.ts';
import { keyOf } from '../chain.ts';
import { useLoad } from '../load.ts';
import { Button, Pending, Role, Run, Since } from '../parts/bits.tsx';
import { Chain } from '../parts/chain.tsx';
import { Action } from '../parts/dialog.tsx';
import { PodIdentityState } from '../parts/pod-identity-state.tsx';
import { RevokeDialog } from '../parts/revoke.tsx';
import { goTo, route } from '../route.ts';
import type { Access, LiveRun } from '../types.ts';

const runForm = /^(run-)?[0-9a-f]{24}$/;

/** The ids of runs and users have the same form, so an id that is no run may be a user. */
async function accessOf(asked: string, signal: AbortSignal): Promise<Access> {
  const byUser = () => call<Access>('access', { query: { user: asked }, signal });
  if (!runForm.test(asked)) return byUser();
  try {
    return await call<Access>('access', { query: { run_id: asked }, signal });
  } catch (error) {
    if (!(error instanceof CallError) || error.code !== 'run_not_found' || asked.startsWith('run-')) throw error;
    return byUser().catch(() => {
      throw error;
    });
  }
}

export function WhyPage({ isOwn }: { isOwn: boolean }) {
  const { query } = route.value;
  const asked = (query.get('run_id') ?? query.get('user') ?? '').trim();
  return (
    <>
      <AskForm key={asked} asked={asked} isOwn={isOwn} />
      {(asked !== '' || isOwn) && <Answer key={`answer ${asked}`} asked={asked} isOwn={isOwn} />}
    </>
  );
}

function AskForm({ asked, isOwn }: { asked: string; isOwn: boolean }) {
  const [text, setText] = useState(asked);
  const submit = (event: Event) => {
    event.preventDefault();
    const value = text.trim();
    goTo('why', isOwn || runForm.test(value) ? { run_id: value } : { user: value });
  };
  return (
    <form class="ask" onSubmit={submit}>
      <label>
        {isOwn ? 'A run of yours' : 'A run’s id, or a user’s name'}
        <input
          value={text}
          required={!isOwn}
          autoComplete="off"
          spellcheck={false}
          placeholder={isOwn ? '646d27b817c28b5ea4b5b0c1' : '646d27b817c28b5ea4b5b0c1 or alice'}
          onInput={(event) => setText(event.currentTarget.value)}
        />
      </label>
      <button type="submit" class="primary">
        Find out
      </button>
    </form>
  );
}

function Answer({ asked, isOwn }: { asked: string; isOwn: boolean }) {
  const loaded = useLoad(
    (signal) => (isOwn ? call<Access>('my_access', { query: { run_id: asked }, signal }) : accessOf(asked, signal)),
    asked,
    10_000,
  );
  const { data } = loaded;
  if (!data) return <Pending of={loaded} />;
  const { access, run, pod_identity: pod } = data;
  return (
    <div aria-live="polite">
      <Pending of={loaded} />
      <Who access={data} />
      {run && <RunState run={run} access={data} isOwn={isOwn} onChange={loaded.again} />}
      <section aria-labelledby="roles">
        <h2 id="roles">
          Roles <small>{access.length}</small>
        </h2>
        {access.length === 0 && <p class="allgood">{whyNothing(data)}</p>}
        <ul class="chains">
          {access.map((one) => (
            <Chain key={`${one.domino_org} ${keyOf(one)}`} access={one} run={run} user={data.user} />
          ))}
        </ul>
      </section>
      {pod && (
        <section aria-labelledby="pod">
          <h2 id="pod">Pod Identity</h2>
          <Role arn={pod.target_role_arn ?? pod.iam_role_arn} />
          <PodIdentityState of={pod} />
        </section>
      )}
      {!isOwn && <Runs access={data} />}
    </div>
  );
}

function whyNothing({ membership, domino_orgs: orgs, user }: Access): string {
  if (membership?.known_from === 'nothing') {
    return `It is not known yet which organizations ${user} belongs to: the user has to ask for roles once.`;
  }
  return orgs.length === 0
    ? `${user} belongs to no organization. An owner of an organization can add the user in Domino.`
    : `No organization of ${user} is mapped to a role: ${orgs.join(', ')}.`;
}

function Who({ access: { user, domino_orgs: orgs, membership, other_user_ids: others } }: { access: Access }) {
  return (
    <p>
      <b>{user}</b>{' '}
      {orgs.length === 0 ? 'belongs to no organization that is known here' : `belongs to ${orgs.join(', ')}`}
      {membership?.at !== undefined && (
        <>
          {' '}
          (as of <Since at={membership.at} />)
        </>
      )}
      .{others !== undefined && ` Other users have this name: ${others.join(', ')}.`}
    </p>
  );
}

interface RunStateProps {
  readonly run: LiveRun;
  readonly access: Access;
  readonly isOwn: boolean;
  readonly onChange: () => void;
}

function RunState({ run, access, isOwn, onChange }: RunStateProps) {
  const [isRevoking, setRevoking] = useState(false);
  const { revocation } = access;
  const allow = (id: string) => call('allow_run', { method: 'POST', body: { run_id: id } }).then(onChange);
  return (
    <section class="runstate">
      <p>
        Run <code>{run.run_id}</code>: {run.live_pods} live {run.live_pods === 1 ? 'pod' : 'pods'}, service accounts{' '}
        {run.service_accounts.join(', ')}
        {run.asked_at !== undefined && (
          <>
            , asked for roles <Since at={run.asked_at} />
          </>
        )}
        .
      </p>
      {revocation && (
        <p class="refusal">
          Revoked by {revocation.revoked_by} <Since at={revocation.revoked_at} />
          {revocation.reason !== undefined && (
            <>
              : <q>{revocation.reason}</q>
            </>
          )}
        </p>
      )}
      {!isOwn && revocation && <Action label="Allow the run again" act={() => allow(revocation.run_id)} />}
      {!isOwn && !revocation && <Button label="Revoke…" look="danger" onClick={() => setRevoking(true)} />}
      {isRevoking && <RevokeDialog runId={run.run_id} onClose={() => setRevoking(false)} onChange={onChange} />}
    </section>
  );
}

function Runs({ access: { runs = [], more_runs: more = 0, run, user } }: { access: Access }) {
  const others = runs.filter(({ run_id: id }) => id !== run?.run_id);
  if (others.length === 0) return null;
  return (
    <section aria-labelledby="runs">
      <h2 id="runs">
        {run ? 'Other live runs' : 'Live runs'} of {user} <small>{others.length + more}</small>
      </h2>
      <ul class="plainlist">
        {others.map((one) => (
          <li key={one.run_id}>
            <Run id={one.run_id} />{' '}
            {one.asked_at === undefined ? 'has not asked for roles' : <Since at={one.asked_at} />}
          </li>
        ))}
      </ul>
    </section>
  );
}
