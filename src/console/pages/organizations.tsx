/** Owns the list of organizations: the roles that each is mapped to, their proxy roles, and the capacity left in these. */
import { useState } from 'preact/hooks';
import { allProxyRoles, call } from '../api.ts';
import { keyOf } from '../chain.ts';
import { useLoad } from '../load.ts';
import { Button, Mark, Pending, Role, Runbook } from '../parts/bits.tsx';
import { isManaged } from '../parts/mapping-changes.tsx';
import { DeleteMappingDialog, EditMappingDialog } from '../parts/mapping-dialogs.tsx';
import { Table } from '../parts/table.tsx';
import type { Mapping, ProxyRole, RoleMappings, TrustStatus } from '../types.ts';

interface Organization {
  readonly name: string;
  readonly mappings: readonly Mapping[];
  readonly contender: string | undefined;
}

/** The open dialog: edits or deletes an organization; the name '' stands for a new one. */
type Change = { readonly kind: 'edit' | 'delete'; readonly of: Organization };

const newOne: Organization = { name: '', mappings: [], contender: undefined };

export function OrganizationsPage() {
  const loaded = useLoad((signal) => call<RoleMappings>('role_mappings', { signal }));
  const trust = useLoad<TrustStatus>((signal, onPart) => allProxyRoles(onPart, signal));
  const [change, setChange] = useState<Change>();
  const { data } = loaded;
  if (!data) return <Pending of={loaded} />;
  const rows = Object.entries(data.all_role_mappings).map(([name, mappings]): Organization => {
    return { name, mappings, contender: data.organizations?.[name]?.contenders[0]?.user };
  });
  const close = () => setChange(undefined);
  const onChange = () => {
    loaded.again();
    trust.again();
  };
  return (
    <>
      <Pending of={loaded} />
      <p class="acts">
        <Button label="Map an organization" look="primary" onClick={() => setChange({ kind: 'edit', of: newOne })} />
      </p>
      <Table
        caption="Organizations"
        rows={rows}
        keyOf={({ name }) => name}
        textOf={({ name, mappings }) =>
          `${name} ${mappings.map((one) => `${one.iam_role_arn} ${one.proxy_iam_role_arn}`).join(' ')}`
        }
        empty="No organization is mapped to a role yet."
        columns={[
          { name: 'Organization', cell: (of) => <Name of={of} /> },
          { name: 'Roles', cell: (of) => <Roles of={of} trust={trust.data} /> },
          { name: 'Change', cell: (of) => <Buttons of={of} onOpen={setChange} /> },
        ]}
      />
      {change?.kind === 'edit' && (
        <EditMappingDialog name={change.of.name} mappings={change.of.mappings} onClose={close} onChange={onChange} />
      )}
      {change?.kind === 'delete' && (
        <DeleteMappingDialog name={change.of.name} mappings={change.of.mappings} onClose={close} onChange={onChange} />
      )}
    </>
  );
}

function Name({ of: { name, contender } }: { of: Organization }) {
  return (
    <>
      <b>{name}</b>
      {contender !== undefined && (
        <p>
          <Mark tone="warn">another organization has this name</Mark> <Runbook alert="IrsaOrganizationContested" />
        </p>
      )}
    </>
  );
}

function Buttons({ of, onOpen }: { of: Organization; onOpen: (change: Change) => void }) {
  return (
    <span class="acts">
      <button type="button" onClick={() => onOpen({ kind: 'edit', of })} aria-label={`Edit ${of.name}`}>
        Edit
      </button>
      <button
        type="button"
        class="danger"
        onClick={() => onOpen({ kind: 'delete', of })}
        aria-label={`Delete ${of.name}`}
      >
        Delete
      </button>
    </span>
  );
}

/** Each target role with its pool, and the capacity left in it. */
function Roles({ of: { mappings }, trust }: { of: Organization; trust: TrustStatus | undefined }) {
  const byTarget = [...Map.groupBy(mappings, (one) => one.iam_role_arn)];
  return (
    <ul class="carriers">
      {byTarget.map(([target, pool]) => (
        <li key={target}>
          <Role arn={target} />
          <ul>
            {pool.map((one) => (
              <li key={keyOf(one)}>
                <span aria-hidden="true">↳</span> <Role arn={one.proxy_iam_role_arn} isLink />{' '}
                {one.carrier === 'token' && <Mark tone="plain">by tokens</Mark>} <RoomOf mapping={one} trust={trust} />
              </li>
            ))}
          </ul>
        </li>
      ))}
    </ul>
  );
}

function RoomOf({ mapping, trust }: { mapping: Mapping; trust: TrustStatus | undefined }) {
  if (!isManaged(mapping)) return <Mark tone="plain">kept elsewhere</Mark>;
  const role = trust?.proxy_roles.find((one) => one.proxy_iam_role_arn === mapping.proxy_iam_role_arn);
  if (!role) return null;
  if (role.error) return <Mark tone="bad">{role.error.code}</Mark>;
  if (mapping.carrier === 'token') return <TokensOf role={role} />;
  const fits = role.runs_that_still_fit;
  if (fits === undefined) return <Mark tone="warn">not checked yet</Mark>;
  return <Mark tone={fits === 0 ? 'bad' : fits < 4 ? 'warn' : 'good'}>{fits === 0 ? 'full' : `room for ${fits}`}</Mark>;
}

/** Role tokens need no capacity: the trust policy accepts them from any number of runs, or from none. */
function TokensOf({ role: { role_tokens: tokens } }: { role: ProxyRole }) {
  if (tokens?.problem) return <Mark tone="bad">{tokens.problem.code}</Mark>;
  if (!tokens?.granted) return <Mark tone="warn">not checked yet</Mark>;
  return <Mark tone="good">takes tokens</Mark>;
}
