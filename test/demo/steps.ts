/** Owns the order of the demo's steps, in its long and short form: the main job, role tokens and Pod Identity. */
import { grantSteps, operatorStep, policyStep, refusedStep, startStep } from './grant-steps.ts';
import { podIdentityEndSteps } from './pod-identity-end-steps.ts';
import { podIdentitySteps } from './pod-identity-steps.ts';
import { endStep, refusalSteps } from './refusal-steps.ts';
import type { Scene } from './scene.ts';
import { mapStep, setUpSteps } from './set-up-steps.ts';
import { refreshSteps, sidecarStep } from './sidecar-steps.ts';
import { tokenSteps } from './token-steps.ts';

/** One step. It throws when a check fails, and the demo then fails. */
export interface Step {
  readonly title: string;
  /** An explanation for the reader before the step. */
  readonly why: string;
  play(scene: Scene): Promise<void>;
}

export const steps: readonly Step[] = [
  ...setUpSteps,
  ...grantSteps,
  ...refreshSteps,
  operatorStep,
  ...refusalSteps,
  ...tokenSteps,
  ...podIdentitySteps,
  ...podIdentityEndSteps,
];

/** Only the main job: a mapping, a run without and with its roles, and its end. */
export const shortSteps: readonly Step[] = [mapStep, startStep, refusedStep, sidecarStep, policyStep, endStep];
