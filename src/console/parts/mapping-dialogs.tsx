/** Owns the dialog for an organization's mappings: the list to edit, the dry run as a diff, and the confirmation. */
import { useState } from 'preact/hooks';
import { call } from '../api.ts';
import { useLoad } from '../load.ts';
import type { MappingPreview } from '../previews.ts';
import type { Mapping } from '../types.ts';
import { Button, Pending } from './bits.tsx';
import { Action, Dialog } from './dialog.tsx';
import { isManaged, MappingChanges } from './mapping-changes.tsx';

/** A whole mapping, also the fields that the form does not show: the call replaces the organization's whole list. */
interface Row {
  readonly id: number;
  readonly of: Omit<Mapping, 'domino_org'>;
}

interface EditProps {
  /** '' for a new organization. */
  readonly name: string;
  readonly mappings: readonly Mapping[];
  readonly onClose: () => void;
  readonly onChange: () => void;
}

let rowsMade = 0;
const unmapped: Row['of'] = { iam_role_arn: '', proxy_iam_role_arn: '', update_iam_role_trust_policy: true };
function newRow(of = unmapped): Row {
  rowsMade += 1;
  return { id: rowsMade, of };
}

/** The stored value, in the case that the service accepts. */
function sentAs(value: boolean | string): boolean | string {
  return typeof value === 'string' ? value.toLowerCase() : value;
}

function rowsOf(mappings: readonly Mapping[]): Row[] {
  const rows = mappings.map(({ domino_org: _, ...of }) => newRow(of));
  return rows.length === 0 ? [newRow()] : rows;
}

export function EditMappingDialog({ name, mappings, onClose, onChange }: EditProps) {
  const [org, setOrg] = useState(name);
  const [rows, setRows] = useState(() => rowsOf(mappings));
  const [isTakenOut, setTakenOut] = useState(false);
  const [preview, setPreview] = useState<MappingPreview>();
  const send = (isDryRun: boolean) =>
    call<MappingPreview>('update_multirole_mapping', {
      method: 'POST',
      query: { dry_run: isDryRun || undefined, remove_subjects: isTakenOut || undefined },
      body: {
        domino_org: org.trim(),
        role_data: rows.map(({ of }) => ({
          ...of,
          iam_role_arn: of.iam_role_arn.trim(),
          proxy_iam_role_arn: of.proxy_iam_role_arn.trim(),
          update_iam_role_trust_policy: sentAs(of.update_iam_role_trust_policy),
        })),
      },
    });
  const confirm = async () => {
    await send(false);
    onChange();
    onClose();
  };
  const isFilled =
    org.trim() !== '' && rows.every(({ of }) => of.iam_role_arn.trim() !== '' && of.proxy_iam_role_arn.trim() !== '');
  if (preview) {
    return (
      <Dialog title={`What changes for ${org.trim()}`} onClose={onClose}>
        <MappingChanges preview={preview} before={mappings} />
        <p class="acts">
          <Action label="Confirm" act={confirm} />
          <Button label="Back" onClick={() => setPreview(undefined)} />
        </p>
      </Dialog>
    );
  }
  return (
    <Dialog title={name === '' ? 'Map an organization' : `Roles of ${name}`} onClose={onClose}>
      {name === '' && (
        <label>
          Organization, as Domino names it
          <input required value={org} autoComplete="off" onInput={(event) => setOrg(event.currentTarget.value)} />
        </label>
      )}
      <RowsForm rows={rows} onRows={setRows} />
      <label class="check">
        <input type="checkbox" checked={isTakenOut} onInput={(event) => setTakenOut(event.currentTarget.checked)} />
        Take the runs out of proxy roles that are handed over to another keeper
      </label>
      <p class="acts">
        <Action label="Show the difference" disabled={!isFilled} act={() => send(true).then(setPreview)} />
        <Button label="Cancel" onClick={onClose} />
      </p>
    </Dialog>
  );
}

function RowsForm({ rows, onRows }: { rows: readonly Row[]; onRows: (rows: Row[]) => void }) {
  const change = (id: number, part: Partial<Row['of']>) =>
    onRows(rows.map((row) => (row.id === id ? { id, of: { ...row.of, ...part } } : row)));
  return (
    <>
      {rows.map(({ id, of }, index) => (
        <fieldset key={id}>
          <legend>Role {index + 1}</legend>
          <RowFields of={of} onPart={(part) => change(id, part)} />
          {rows.length > 1 && (
            <Button label={`Remove role ${index + 1}`} onClick={() => onRows(rows.filter((row) => row.id !== id))} />
          )}
        </fieldset>
      ))}
      <Button label="Add a role, or another proxy role of one" onClick={() => onRows([...rows, newRow()])} />
    </>
  );
}

function RowFields({ of, onPart }: { of: Row['of']; onPart: (part: Partial<Row['of']>) => void }) {
  return (
    <>
      <label>
        Role’s ARN
        <input
          value={of.iam_role_arn}
          placeholder="arn:aws:iam::222222222222:role/acme-list-bucket-role"
          spellcheck={false}
          onInput={(event) => onPart({ iam_role_arn: event.currentTarget.value })}
        />
      </label>
      <label>
        Proxy role’s ARN
        <input
          value={of.proxy_iam_role_arn}
          placeholder="arn:aws:iam::111111111111:role/acme-list-bucket-role"
          spellcheck={false}
          onInput={(event) => onPart({ proxy_iam_role_arn: event.currentTarget.value })}
        />
      </label>
      <label class="check">
        <input
          type="checkbox"
          checked={isManaged(of)}
          onInput={(event) => onPart({ update_iam_role_trust_policy: event.currentTarget.checked })}
        />
        The service keeps the proxy role’s trust policy
      </label>
      <label>
        Carrier
        <select
          value={of.carrier ?? 'entry'}
          onChange={(event) => onPart({ carrier: event.currentTarget.value === 'token' ? 'token' : 'entry' })}
        >
          <option value="entry">an entry in the trust policy for each run</option>
          <option value="token">a token for each run</option>
        </select>
      </label>
      <label class="check">
        <input
          type="checkbox"
          checked={of.default_profile === true}
          onInput={(event) => onPart({ default_profile: event.currentTarget.checked })}
        />
        The organization proposes the role as its members’ default profile
      </label>
    </>
  );
}

export function DeleteMappingDialog({ name, mappings, onClose, onChange }: EditProps) {
  const send = (query: { dry_run?: true }, signal?: AbortSignal) =>
    call<MappingPreview>('delete_role_mapping', {
      method: 'DELETE',
      query,
      body: { domino_org: name },
      signal,
    });
  const preview = useLoad((signal) => send({ dry_run: true }, signal));
  const confirm = async () => {
    await send({});
    onChange();
    onClose();
  };
  return (
    <Dialog title={`Delete the mappings of ${name}`} onClose={onClose}>
      <Pending of={preview} />
      {preview.data && <MappingChanges preview={preview.data} before={mappings} />}
      <p class="acts">
        <Action label="Delete" isDangerous disabled={!preview.data} act={confirm} />
        <Button label="Cancel" onClick={onClose} />
      </p>
    </Dialog>
  );
}
