/** Owns one proxy role in detail: members, waiting runs with reasons, an external change as a diff, and IAM's own messages. */
import { useState } from 'preact/hooks';
import { call } from '../api.ts';
import { Button, Mark, Role, Room, Run, Runbook, Since } from '../parts/bits.tsx';
import { Action, Changes } from '../parts/dialog.tsx';
import { saveMembers } from '../parts/members-csv.ts';
import { type Column, Table } from '../parts/table.tsx';
import { linkTo } from '../route.ts';
import type { Member, ProxyRole, TrustStatus, Waiting } from '../types.ts';

export function ProxyRoleDetails({ listed }: { listed: ProxyRole }) {
  const [compared, setCompared] = useState<{ role: ProxyRole; said: string }>();
  const role = compared?.role ?? listed;
  const { proxy_iam_role_arn: arn, brake, drift } = role;
  const compare = async () => {
    const answer = await call<TrustStatus>('trust_status', { query: { proxy_iam_role_arn: arn } });
    const said = answer.compared
      ? 'Compared with IAM just now.'
      : 'IAM did not answer in time: this is what was known before.';
    setCompared({ role: answer.proxy_roles[0] ?? role, said });
  };
  const release = () => call('release_brake', { method: 'POST', body: { proxy_iam_role_arn: arn } }).then(compare);
  return (
    <>
      <p>
        <a href={linkTo('roles')}>All proxy roles</a>
      </p>
      <h2>
        <Role arn={arn} />
      </h2>
      <p class="arn">
        <code>{arn}</code>
      </p>
      <p>
        <Room used={role.characters_used} allowed={role.characters_allowed} fits={role.runs_that_still_fit} /> · written{' '}
        <Since at={role.written_at} /> · compared <Since at={role.compared_at} />
      </p>
      <p class="acts">
        <Action label="Compare with IAM now" act={compare} />
        <Button label="Members as CSV" onClick={() => saveMembers([role])} />
      </p>
      {compared && <p role="status">{compared.said}</p>}
      <Problems of={role} />
      {brake && (
        <section>
          <Changes title="Held back from removal" sign="!" items={brake.held} />
          <p class="acts">
            <Runbook alert="IrsaBrakeHolds" />
            <Action label="Release" isDangerous act={release} />
          </p>
        </section>
      )}
      {drift && (
        <section>
          <h3>
            External change <Since at={drift.at} /> <small>{drift.count} in all</small>
          </h3>
          <Changes
            title="Was added, and taken out again"
            sign="+"
            items={drift.extra.map((one) => <code key={one}>{one}</code>)}
          />
          <Changes
            title="Was taken out, and put back"
            sign="−"
            items={drift.missing.map((one) => <code key={one}>{one}</code>)}
          />
          <Runbook alert="IrsaTrustPolicyContested" />
        </section>
      )}
      <People role={role} />
    </>
  );
}

/** The problems of the trust policy: of its entries, and of role tokens. */
function Problems({ of: { error, role_tokens: tokens } }: { of: ProxyRole }) {
  return (
    <>
      {error && (
        <section class="refusal">
          <p>
            <Mark tone="bad">{error.code}</Mark> {error.detail} <Since at={error.at} />
          </p>
          {error.said !== undefined && <blockquote>{error.said}</blockquote>}
          <Runbook alert="IrsaProxyRoleError" />
        </section>
      )}
      {tokens?.problem && (
        <section class="refusal">
          <p>
            <Mark tone="bad">{tokens.problem.code}</Mark> {tokens.problem.detail}
          </p>
          <Runbook alert="IrsaRoleTokensNotGiven" />
        </section>
      )}
    </>
  );
}

function People({ role }: { role: ProxyRole }) {
  const open = (role.open_subjects ?? []).map(
    ({ statement, sid, subject }) => `statement ${sid ?? statement}: ${subject ?? 'any subject'}`,
  );
  return (
    <>
      <Changes title="Subjects of others that let in many" sign="!" items={open} />
      {role.waiting.length > 0 && (
        <Table
          caption="Waiting"
          rows={role.waiting}
          columns={waitingColumns}
          keyOf={(one) => `${one.service_account} ${one.iam_role_arn}`}
          empty=""
        />
      )}
      <Table
        caption="Members"
        rows={role.members}
        columns={memberColumns}
        keyOf={(one) => one.service_account}
        textOf={(one) => `${one.user ?? ''} ${one.service_account} ${(one.domino_orgs ?? []).join(' ')}`}
        empty={
          role.role_tokens?.granted ? 'No run is listed: runs come by role tokens.' : 'The trust policy lets no run in.'
        }
      />
    </>
  );
}

const runOf = (one: Member | Waiting) =>
  one.run_id === undefined ? <code>{one.service_account}</code> : <Run id={one.run_id} />;

const memberColumns: readonly Column<Member>[] = [
  { name: 'Run', cell: runOf },
  { name: 'User', cell: (one) => one.user ?? '' },
  { name: 'Organizations', cell: (one) => (one.domino_orgs ?? []).join(', ') },
  { name: 'Since', cell: (one) => <Since at={one.since} /> },
];

const waitingColumns: readonly Column<Waiting>[] = [
  { name: 'Run', cell: runOf },
  { name: 'User', cell: (one) => one.user ?? '' },
  {
    name: 'Reason',
    cell: (one) => (
      <>
        <code>{one.code}</code> {one.detail}
      </>
    ),
  },
  { name: 'Asked', cell: (one) => <Since at={one.asked_at} /> },
];
