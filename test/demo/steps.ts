/** Owns the walks through the main job, role tokens and Pod Identity, long and short: their steps in order, and what each may use. */
import { grantSteps, operatorStep, policyStep, refusedStep, startStep } from './grant-steps.ts';
import { podIdentityEndSteps } from './pod-identity-end-steps.ts';
import { podIdentitySteps } from './pod-identity-steps.ts';
import { endStep, refusalSteps } from './refusal-steps.ts';
import type { Scene } from './scene.ts';
import { mapStep, setUpSteps } from './set-up-steps.ts';
import { refreshSteps, sidecarStep } from './sidecar-steps.ts';
import { tokenSteps } from './token-steps.ts';

/** One step. It throws when something did not hold, and the demo has failed then. */
export interface Step {
  readonly title: string;
  /** What the reader should know to understand what follows. */
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

/** The main job alone: a mapping, a run without and with its roles, and its end. */
export const shortSteps: readonly Step[] = [mapStep, startStep, refusedStep, sidecarStep, policyStep, endStep];
