/** Owns what every call to the AWS stand-in works on: its roles, keys and associations, its knobs and its records. */
import type { EksWorld } from './aws-eks.ts';
import type { EksWrite } from './aws-eks-writes.ts';
import type { Faults } from './aws-knobs.ts';
import type { StsWorld } from './aws-sts.ts';
import type { TrustWrite } from './aws-writes.ts';

export interface AwsWorld extends StsWorld, EksWorld {
  readonly faults: Faults;
  readonly writes: TrustWrite[];
  readonly eksWrites: EksWrite[];
}
