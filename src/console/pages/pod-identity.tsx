/** Owns the list of Pod Identities: the four parts of each, the pods to restart, and the buttons that change the mapping. */
import { useState } from 'preact/hooks';
import { CallError, call } from '../api.ts';
import { useLoad } from '../load.ts';
import { Button, Pending, Role, Run, Runbook } from '../parts/bits.tsx';
import { Changes } from '../parts/dialog.tsx';
import { PodIdentityState } from '../parts/pod-identity-state.tsx';
import { PodMappingDialog } from '../parts/pod-mapping-dialog.tsx';
import { type Column, Table } from '../parts/table.tsx';
import type { PodIdentity, PodIdentityMapping, PodIdentityMappings } from '../types.ts';

interface Both {
  readonly identities: readonly PodIdentity[];
  /** Domino user -> mapping. */
  readonly mappings: ReadonlyMap<string, PodIdentityMapping>;
  readonly unusable: PodIdentityMappings['unusable'];
  /** Whether this installation has Pod Identity. */
  readonly isOn: boolean;
}

const nothing: Both = { identities: [], mappings: new Map(), unusable: [], isOn: false };

/** Fetches all users, page after page. @param onPart receives the users fetched so far. */
async function load(signal: AbortSignal, onPart: (both: Both) => void): Promise<Both> {
  let known = nothing;
  for (let cursor: string | undefined; ; ) {
    const page = await pageAfter(cursor, signal);
    if (!page) return nothing;
    const mapped = page.pod_identity_mappings.map((one) => [one.domino_user, one] as const);
    known = {
      identities: [...known.identities, ...(page.pod_identities ?? [])],
      mappings: new Map([...known.mappings, ...mapped]),
      unusable: [...known.unusable, ...page.unusable],
      isOn: true,
    };
    cursor = page.next;
    if (cursor === undefined) return known;
    onPart(known);
  }
}

/** Undefined where this installation has no Pod Identity. */
async function pageAfter(cursor: string | undefined, signal: AbortSignal): Promise<PodIdentityMappings | undefined> {
  try {
    return await call('pod_identity_mappings', { query: { limit: 100, continue: cursor }, signal });
  } catch (error) {
    if (error instanceof CallError && error.code === 'pod_identity_disabled') return undefined;
    throw error;
  }
}

export function PodIdentityPage() {
  const loaded = useLoad(load, '', 10_000);
  const [change, setChange] = useState<{ kind: 'map' | 'delete'; mapping?: PodIdentityMapping }>();
  const { data } = loaded;
  if (!data) return <Pending of={loaded} />;
  if (!data.isOn)
    return <p>This installation does not use EKS Pod Identity: the setting EKS_CLUSTER_NAME is not set.</p>;
  const columns: readonly Column<PodIdentity>[] = [
    ...shown,
    {
      name: 'Change',
      cell: ({ domino_user: user }) => <Buttons mapping={data.mappings.get(user)} onOpen={setChange} />,
    },
  ];
  return (
    <>
      <Pending of={loaded} />
      <p class="acts">
        <Button label="Map a user" look="primary" onClick={() => setChange({ kind: 'map' })} />
      </p>
      <Unusable of={data.unusable} />
      <Table
        caption="Pod Identities"
        rows={data.identities}
        columns={columns}
        keyOf={(one) => one.service_account}
        textOf={(one) => `${one.domino_user} ${one.service_account} ${one.iam_role_arn}`}
        empty="No user is mapped to a role by EKS Pod Identity."
      />
      {change && <PodMappingDialog {...change} onClose={() => setChange(undefined)} onChange={loaded.again} />}
    </>
  );
}

type Open = (change: { kind: 'map' | 'delete'; mapping: PodIdentityMapping }) => void;

/** No buttons where the mapping is deleted and only the removal of its parts is left. */
function Buttons({ mapping, onOpen }: { mapping: PodIdentityMapping | undefined; onOpen: Open }) {
  if (!mapping) return <span class="faint">no longer mapped</span>;
  return (
    <span class="acts">
      <button type="button" aria-label={`Edit ${mapping.domino_user}`} onClick={() => onOpen({ kind: 'map', mapping })}>
        Edit
      </button>
      <button
        type="button"
        class="danger"
        aria-label={`Delete ${mapping.domino_user}`}
        onClick={() => onOpen({ kind: 'delete', mapping })}
      >
        Delete
      </button>
    </span>
  );
}

function Unusable({ of }: { of: PodIdentityMappings['unusable'] }) {
  if (of.length === 0) return null;
  return (
    <section>
      <Changes
        title="Mappings that cannot be used"
        sign="!"
        items={of.map((one) => `${one.domino_user}: ${one.code}, ${one.detail}`)}
      />
      <Runbook alert="IrsaPodIdentityProblem" />
    </section>
  );
}

const shown: readonly Column<PodIdentity>[] = [
  {
    name: 'User',
    cell: (one) => (
      <>
        <b>{one.domino_user}</b> <small>{one.service_account}</small>
      </>
    ),
  },
  {
    name: 'Role',
    cell: (one) => (
      <>
        <Role arn={one.iam_role_arn} />
        {one.target_role_arn !== undefined && (
          <>
            {' '}
            → <Role arn={one.target_role_arn} />
          </>
        )}
      </>
    ),
  },
  { name: 'Parts', cell: (one) => <PodIdentityState of={one} /> },
  {
    name: 'To restart',
    cell: (one) =>
      one.restart.length === 0 ? (
        <span class="faint">none</span>
      ) : (
        <ul class="plainlist">
          {one.restart.map(({ pod, run_id: id }) => (
            <li key={pod}>{id === undefined ? <code>{pod}</code> : <Run id={id} />}</li>
          ))}
        </ul>
      ),
  },
];
