/** Proves by hostile documents, judged by IAM's semantics, that an edit lets in exactly the members and leaves others alone. */
import { fuzzEdits, fuzzRounds } from '../support/trust-fuzz.ts';

describe('trust policy: hostile documents (npm run fuzz makes more of them)', () => {
  it('an edit lets in the members, nobody new, and loses nobody of others', () => {
    fuzzEdits({ numRuns: 1500 });
  }).timeout(120_000);

  it('a tool that alters each statement of ours does not fill the document', () => {
    fuzzRounds({ numRuns: 50 });
  }).timeout(120_000);
});
