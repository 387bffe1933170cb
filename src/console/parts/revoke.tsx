/** Owns the dialog that revokes a run: the roles that are lost, a reason, and the confirmation. */
import { useState } from 'preact/hooks';
import { call } from '../api.ts';
import { useLoad } from '../load.ts';
import type { Revocation, RevocationPreview } from '../previews.ts';
import { Button, Pending, Role } from './bits.tsx';
import { Action, Changes, Dialog } from './dialog.tsx';

interface RevokeProps {
  readonly runId: string;
  readonly onClose: () => void;
  readonly onChange: () => void;
}

export function RevokeDialog({ runId, onClose, onChange }: RevokeProps) {
  const [reason, setReason] = useState('');
  const [done, setDone] = useState<Revocation>();
  const body = { run_id: runId };
  const preview = useLoad((signal) =>
    call<RevocationPreview>('revoke_run', { method: 'POST', query: { dry_run: true }, body, signal }),
  );
  const revoke = async () => {
    setDone(await call<Revocation>('revoke_run', { method: 'POST', body: { ...body, reason: reason.trim() } }));
    onChange();
  };
  const title = `Revoke run ${runId}`;
  if (done) {
    return (
      <Dialog title={title} onClose={onClose}>
        <p>
          {done.left
            ? 'No trust policy that this service keeps lets it in any more.'
            : 'It is shut out, and these roles still let it in:'}
        </p>
        <Changes
          title="Still in"
          sign="!"
          items={(done.still_in ?? []).map((one) => `${one.proxy_iam_role_arn}: ${one.detail}`)}
        />
        <LiveOn />
        <Button label="Close" look="primary" onClick={onClose} />
      </Dialog>
    );
  }
  return (
    <Dialog title={title} onClose={onClose}>
      <Pending of={preview} />
      {preview.data && <RevocationChanges preview={preview.data} />}
      <label>
        Reason, which the run’s user is told
        <input maxLength={200} required value={reason} onInput={(event) => setReason(event.currentTarget.value)} />
      </label>
      <p class="acts">
        <Action label="Revoke" isDangerous disabled={!preview.data || reason.trim() === ''} act={revoke} />
        <Button label="Cancel" onClick={onClose} />
      </p>
    </Dialog>
  );
}

/** Explains what a revocation does not do. */
function LiveOn() {
  return (
    <p>
      Sessions that AWS already gave live on until they expire: after an hour, or, for a role that a run assumes by its
      own token, after the role’s maximum session duration of up to 12 hours. To end them at once, revoke the role’s
      active sessions in IAM. The service does not check roles whose trust policy is kept elsewhere.
    </p>
  );
}

function RevocationChanges({ preview }: { preview: RevocationPreview }) {
  const { loses, shut_out_too: others, stays_in: stays } = preview;
  return (
    <>
      {loses.length === 0 && (
        <p>No trust policy that this service keeps lets it in now; it gets no roles until it is allowed again.</p>
      )}
      <Changes
        title="Loses"
        sign="−"
        items={loses.map((one) => (
          <>
            <Role arn={one.iam_role_arn} /> of {one.user}, by {one.service_account}
          </>
        ))}
      />
      <Changes
        title="Other runs that lose their roles with it"
        sign="!"
        items={others.map(({ run_id: id, user }) => `${id} of ${user ?? 'an unknown user'}`)}
      />
      <Changes title="Stays in" sign="!" items={stays.map((one) => `${one.proxy_iam_role_arn}: ${one.detail}`)} />
      <LiveOn />
    </>
  );
}
