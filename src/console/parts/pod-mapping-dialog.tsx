/** Owns the dialog for a user's Pod Identity mapping: its fields, the dry run as a diff, and the confirmation. */
import { useEffect, useState } from 'preact/hooks';
import { call } from '../api.ts';
import type { PodIdentityPreview } from '../previews.ts';
import type { PodIdentityMapping } from '../types.ts';
import { Button, Refusal, Role } from './bits.tsx';
import { Action, Changes, Dialog } from './dialog.tsx';

interface PodMappingProps {
  readonly kind: 'map' | 'delete';
  /** Undefined for a new mapping. */
  readonly mapping?: PodIdentityMapping | undefined;
  readonly onClose: () => void;
  readonly onChange: () => void;
}

type Form = Readonly<Record<'domino_user' | 'iam_role_arn' | 'target_role_arn' | 'service_account', string>>;

const fields: readonly [name: keyof Form, label: string, isRequired: boolean][] = [
  ['domino_user', 'Domino user', true],
  ['iam_role_arn', 'Role’s ARN, in the cluster’s account', true],
  ['target_role_arn', 'Target role’s ARN, where it goes on to one', false],
  ['service_account', 'Service account, where not the usual one', false],
];

/** The body keeps fields that the form does not show, since the call replaces the whole mapping. An emptied field is left out. */
function bodyOf(mapping: PodIdentityMapping | undefined, form: Form): object {
  const all = Object.entries({ ...mapping, ...form }).map(([name, value]) => [
    name,
    typeof value === 'string' ? value.trim() : value,
  ]);
  return Object.fromEntries(all.filter(([, value]) => value !== ''));
}

export function PodMappingDialog({ kind, mapping, onClose, onChange }: PodMappingProps) {
  const user = mapping?.domino_user ?? '';
  const [form, setForm] = useState<Form>({
    domino_user: user,
    iam_role_arn: mapping?.iam_role_arn ?? '',
    target_role_arn: mapping?.target_role_arn ?? '',
    service_account: mapping?.service_account ?? '',
  });
  const [preview, setPreview] = useState<PodIdentityPreview>();
  const [problem, setProblem] = useState<Error>();
  const isDeletion = kind === 'delete';
  const send = (isDryRun: boolean) => {
    const query = { dry_run: isDryRun || undefined };
    return isDeletion
      ? call<PodIdentityPreview>('delete_pod_identity_mapping', {
          method: 'DELETE',
          query,
          body: { domino_user: user },
        })
      : call<PodIdentityPreview>('update_pod_identity_mapping', {
          method: 'POST',
          query,
          body: bodyOf(mapping, form),
        });
  };
  const show = () => send(true).then(setPreview);
  useEffect(() => {
    if (isDeletion) show().catch(setProblem);
  }, []);
  const confirm = async () => {
    await send(false);
    onChange();
    onClose();
  };
  const title = isDeletion
    ? `Delete the mapping of ${user}`
    : user === ''
      ? 'Map a user to a role'
      : `The mapping of ${user}`;
  if (isDeletion || preview) {
    return (
      <Dialog title={title} onClose={onClose}>
        <Refusal error={problem} />
        {preview && <PodChanges preview={preview} />}
        <p class="acts">
          <Action
            label={isDeletion ? 'Delete' : 'Confirm'}
            isDangerous={isDeletion}
            disabled={!preview}
            act={confirm}
          />
          <Button label={isDeletion ? 'Cancel' : 'Back'} onClick={isDeletion ? onClose : () => setPreview(undefined)} />
        </p>
      </Dialog>
    );
  }
  return (
    <Dialog title={title} onClose={onClose}>
      {fields.map(([name, label, isRequired]) => (
        <label key={name}>
          {label}
          <input
            required={isRequired}
            spellcheck={false}
            autoComplete="off"
            readOnly={name === 'domino_user' && user !== ''}
            value={form[name]}
            onInput={(event) => setForm({ ...form, [name]: event.currentTarget.value })}
          />
        </label>
      ))}
      <p class="acts">
        <Action label="Show the difference" disabled={form.domino_user === '' || form.iam_role_arn === ''} act={show} />
      </p>
    </Dialog>
  );
}

function PodChanges({ preview }: { preview: PodIdentityPreview }) {
  const { before, after, warnings } = preview;
  return (
    <>
      <Changes title="No longer mapped" sign="−" items={before ? [mapped(before)] : []} />
      <Changes title="Mapped" sign="+" items={after ? [mapped(after)] : []} />
      <Changes title="Fields that change" sign="→" items={before && after ? changedFields(before, after) : []} />
      <Changes title="Pods that lose the role" sign="−" items={preview.pods_that_lose_it} />
      <Changes title="Pods to restart" sign="!" items={preview.pods_to_restart} />
      <Changes title="Pods of others in the way" sign="!" items={preview.pods_of_others_in_the_way} />
      <Changes title="Warnings" sign="!" items={warnings.map(({ code, detail }) => `${code}: ${detail}`)} />
    </>
  );
}

const mapped = (one: PodIdentityMapping) => (
  <>
    {one.domino_user} by {one.service_account}: <Role arn={one.target_role_arn ?? one.iam_role_arn} />
  </>
);

/** Each field in which the two mappings differ. */
function changedFields(before: PodIdentityMapping, after: PodIdentityMapping) {
  const [was, will] = [new Map(Object.entries(before)), new Map(Object.entries(after))];
  return [...new Set([...was.keys(), ...will.keys()])]
    .filter((name) => was.get(name) !== will.get(name))
    .map((name) => (
      <>
        <code>{name}</code>: {said(was.get(name))} → {said(will.get(name))}
      </>
    ));
}

const said = (value: unknown) => (value === undefined ? 'none' : <code>{String(value)}</code>);
