/** Owns the display of a mapping's dry run: added and removed mappings, runs that gain, lose or move, and warnings. */
import { keyOf } from '../chain.ts';
import type { LosingRun, MappingPreview } from '../previews.ts';
import type { Mapping } from '../types.ts';
import { Mark, Role } from './bits.tsx';
import { Changes } from './dialog.tsx';

export function MappingChanges({ preview, before }: { preview: MappingPreview; before: readonly Mapping[] }) {
  const [was, will] = [new Set(before.map(keyOf)), new Set(preview.role_data.map(keyOf))];
  const broken = preview.proxy_roles.flatMap(({ proxy_iam_role_arn: arn, error }) =>
    error ? [`${arn}: ${error.code}, ${error.detail}`] : [],
  );
  const full = preview.proxy_roles
    .filter((one) => one.runs_that_still_fit === 0)
    .map((one) => `${one.proxy_iam_role_arn} is full`);
  const isNothing =
    preview.loses.length +
      preview.moves.length +
      preview.gains_at_next_refresh.length +
      preview.loses_at_next_refresh.length ===
    0;
  return (
    <>
      <Changes title="Mapped" sign="+" items={preview.role_data.filter((one) => !was.has(keyOf(one))).map(pair)} />
      <Changes title="No longer mapped" sign="−" items={before.filter((one) => !will.has(keyOf(one))).map(pair)} />
      <Changes title="Changes" sign="→" items={changedFlags(before, preview.role_data)} />
      <Changes title="Gains, when a run next asks" sign="+" items={preview.gains_at_next_refresh.map(whose)} />
      <Changes title="Loses at once" sign="−" items={preview.loses.map(lost)} />
      <Changes title="Loses, when a run next asks" sign="−" items={preview.loses_at_next_refresh.map(whose)} />
      <Changes title="Moves to another proxy role" sign="→" items={preview.moves.map(moved)} />
      <Changes title="Handed over to another keeper" sign="→" items={(preview.handed_over ?? []).map(handedOver)} />
      <Changes title="Warnings" sign="!" items={[...preview.warnings.map(warned), ...broken, ...full]} />
      {isNothing && <p>No run gains or loses a role.</p>}
      {preview.fits === false && <Mark tone="bad">Not all who move find room.</Mark>}
    </>
  );
}

/** Older releases stored the flag as text, for example `False`. */
export function isManaged({ update_iam_role_trust_policy: value }: Pick<Mapping, 'update_iam_role_trust_policy'>) {
  return String(value).toLowerCase() !== 'false';
}

/** The changed flags of pairs that stay mapped. */
function changedFlags(before: readonly Mapping[], after: readonly Mapping[]) {
  const was = new Map(before.map((one) => [keyOf(one), one]));
  return after.flatMap((one) => {
    const old = was.get(keyOf(one));
    if (!old) return [];
    const isProposed = one.default_profile === true;
    return [
      ...(isManaged(one) === isManaged(old)
        ? []
        : [changed(one, isManaged(one) ? 'the trust policy is kept here' : 'the trust policy is kept elsewhere')]),
      ...(isProposed === (old.default_profile === true)
        ? []
        : [changed(one, isProposed ? 'is the default profile' : 'is no longer the default profile')]),
    ];
  });
}

const changed = (one: Mapping, what: string) => (
  <>
    {pair(one)}: {what}
  </>
);

const pair = (one: Mapping) => (
  <>
    <Role arn={one.iam_role_arn} /> through <Role arn={one.proxy_iam_role_arn} />
    {one.carrier === 'token' && ' by tokens'}
    {one.default_profile && ', proposed as the default profile'}
    {!isManaged(one) && ', its trust policy kept elsewhere'}
  </>
);

const whose = ({ iam_role_arn: arn, who }: { iam_role_arn: string; who: string }) => (
  <>
    {who}: <Role arn={arn} />
  </>
);

const lost = (one: LosingRun) => (
  <>
    <code>{one.run_id}</code> of {one.user}: <Role arn={one.iam_role_arn} />
    {one.again_at_next_refresh && ' (has it again when it next asks)'}
  </>
);

const moved = (one: MappingPreview['moves'][number]) => (
  <>
    <code>{one.run_id}</code> of {one.user}: <Role arn={one.iam_role_arn} /> from <Role arn={one.from} />
  </>
);

const handedOver = (one: NonNullable<MappingPreview['handed_over']>[number]) => (
  <>
    <Role arn={one.proxy_iam_role_arn} />: {one.service_accounts.length} subjects{' '}
    {one.removed ? 'are taken out' : 'stay in it'}
  </>
);

const warned = ({ code, detail, role_arn: arn }: MappingPreview['warnings'][number]) => (
  <>
    <code>{code}</code> {detail} {arn !== undefined && <Role arn={arn} />}
  </>
);
