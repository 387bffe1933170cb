/** Owns the list of proxy roles: how full each is, its members and its state; a link opens one in detail. */
import { allProxyRoles } from '../api.ts';
import { useLoad } from '../load.ts';
import { Button, Mark, Pending, Role, Room } from '../parts/bits.tsx';
import { saveMembers } from '../parts/members-csv.ts';
import { type Column, Table } from '../parts/table.tsx';
import { roleState } from '../role-state.ts';
import { linkTo, route } from '../route.ts';
import type { ProxyRole, TrustStatus } from '../types.ts';
import { ProxyRoleDetails } from './proxy-role.tsx';

export function ProxyRolesPage() {
  const { query } = route.value;
  const [arn, show] = [query.get('arn'), query.get('show')];
  // The service decides which roles need attention, for the overview and the tiles as well.
  const only = show === 'attention' ? { needs_attention: true } : {};
  const loaded = useLoad<TrustStatus>((signal, onPart) => allProxyRoles(onPart, signal, only), show ?? '');
  const { data } = loaded;
  if (!data) return <Pending of={loaded} />;
  const roles = data.proxy_roles;
  if (arn !== null) {
    const role = data.proxy_roles.find((one) => one.proxy_iam_role_arn === arn);
    if (role) return <ProxyRoleDetails key={arn} listed={role} />;
    return (
      <p class="faint">
        {loaded.isLoading ? 'Loading…' : `No mapping names ${arn}, and the service keeps nothing of it.`}
      </p>
    );
  }
  return (
    <>
      <Pending of={loaded} />
      <p class="acts">
        <a href={linkTo('roles', { show: show === 'attention' ? undefined : 'attention' })}>
          {show === 'attention' ? 'Show all' : 'Show only what needs a look'}
        </a>
        <Button label="Reload" onClick={loaded.again} />
        <Button label="Members as CSV" onClick={() => saveMembers(roles)} />
      </p>
      <Table
        caption="Proxy roles"
        rows={roles}
        columns={columns}
        keyOf={(role) => role.proxy_iam_role_arn}
        textOf={searchable}
        empty={show === 'attention' ? 'No proxy role needs a look.' : 'No mapping names a proxy role.'}
      />
    </>
  );
}

const columns: readonly Column<ProxyRole>[] = [
  { name: 'Proxy role', cell: (role) => <Role arn={role.proxy_iam_role_arn} isLink /> },
  {
    name: 'Room',
    cell: (role) => (
      <Room
        used={role.error ? undefined : role.characters_used}
        allowed={role.characters_allowed}
        fits={role.runs_that_still_fit}
      />
    ),
  },
  { name: 'Members', cell: (role) => role.members.length, isNumber: true },
  { name: 'Waiting', cell: (role) => role.waiting.length, isNumber: true },
  { name: 'State', cell: (role) => <State role={role} /> },
];

function State({ role }: { role: ProxyRole }) {
  const [tone, said] = roleState(role);
  return <Mark tone={tone}>{said}</Mark>;
}

/** The filter finds a role by its own name, and by the names of its members. */
function searchable({ proxy_iam_role_arn: arn, members, waiting }: ProxyRole): string {
  return [arn, ...[...members, ...waiting].map((one) => `${one.user ?? ''} ${one.run_id ?? one.service_account}`)].join(
    ' ',
  );
}
