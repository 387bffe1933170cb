/** Proves with hostile documents, by IAM's semantics, that an edit admits exactly the members and no other access. */
import { fuzzEdits, fuzzRounds } from '../support/trust-fuzz.ts';

describe('trust policy: hostile documents (npm run fuzz makes more of them)', () => {
  it('an edit admits the members and no other account, and removes no unmanaged access', () => {
    fuzzEdits({ numRuns: 1500 });
  }).timeout(120_000);

  it('a tool that alters each statement of the service does not fill the document', () => {
    fuzzRounds({ numRuns: 50 });
  }).timeout(120_000);
});
