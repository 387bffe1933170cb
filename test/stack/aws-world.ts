/** Owns the state of the AWS stand-in that every call uses: roles, keys, associations, knobs and records. */
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
