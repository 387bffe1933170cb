/** Owns the display of a Pod Identity's state: its four parts as ticks, and what to do where one is missing. */
import type { PodIdentity } from '../types.ts';
import { Mark, type Tone } from './bits.tsx';

const partNames = [
  ['service_account', 'service account'],
  ['trust_policy', 'trust policy'],
  ['association', 'association'],
  ['mutation', 'Mutation'],
] as const;

const tones: Readonly<Record<PodIdentity['state'], Tone>> = {
  in_place: 'good',
  pending: 'warn',
  refused: 'bad',
  leaving: 'plain',
};

export function PodIdentityState({ of }: { of: PodIdentity }) {
  const { parts, state, code, reason, said, advice, restart } = of;
  return (
    <div class="podstate">
      <Mark tone={tones[state]}>{state.replace('_', ' ')}</Mark>
      {parts && (
        <ul class="ticks">
          {partNames.map(([key, name]) => (
            <li key={key} class={parts[key] ? 'good' : 'bad'}>
              <span aria-hidden="true">{parts[key] ? '✓' : '✕'}</span>
              <span class="spoken">{parts[key] ? 'in place:' : 'missing:'}</span> {name}
              {parts[key] === 'kept_elsewhere' && ' (kept elsewhere)'}
            </li>
          ))}
        </ul>
      )}
      {(code !== undefined || restart.length > 0) && (
        <p>
          {code !== undefined && <code>{code}</code>} {reason} <b>What to do:</b> {advice}
        </p>
      )}
      {said !== undefined && <blockquote>{said}</blockquote>}
    </div>
  );
}
