/** Owns the walk through the main job and Pod Identity: its steps in order, and what each of them may use. */
import { grantSteps, operatorStep } from './grant-steps.ts';
import { podIdentityEndSteps } from './pod-identity-end-steps.ts';
import { podIdentitySteps } from './pod-identity-steps.ts';
import { refusalSteps } from './refusal-steps.ts';
import type { Scene } from './scene.ts';
import { setUpSteps } from './set-up-steps.ts';
import { refreshSteps } from './sidecar-steps.ts';

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
  ...podIdentitySteps,
  ...podIdentityEndSteps,
];
