/** Owns the dialog that accepts an organization for a mapped name: its id and member, the effect, and the confirmation. */
import { call } from '../api.ts';
import type { Contested } from '../needs.ts';
import { Button, Since } from './bits.tsx';
import { Action, Dialog } from './dialog.tsx';

interface AcceptProps {
  readonly of: Contested;
  readonly onClose: () => void;
  readonly onChange: () => void;
}

export function AcceptDialog({ of: { name, recorded, id, user, at }, onClose, onChange }: AcceptProps) {
  const accept = async () => {
    await call('accept_organization', { method: 'POST', body: { domino_org: name, organization_id: id } });
    onChange();
    onClose();
  };
  return (
    <Dialog title={`Which organization is ${name}?`} onClose={onClose}>
      <p>
        On record: <code>{recorded ?? 'an id that cannot be read'}</code>
      </p>
      <p>
        To accept: <code>{id}</code>, of which {user} is a member, who asked <Since at={at} />
      </p>
      <p class="refusal">
        Its members get the roles of {name}. Runs that have roles by the organization on record lose them at once. Ask
        in Domino who owns it: a name that had become free may have been taken to get at the roles.
      </p>
      <p class="acts">
        <Action label="Accept" isDangerous act={accept} />
        <Button label="Cancel" onClick={onClose} />
      </p>
    </Dialog>
  );
}
