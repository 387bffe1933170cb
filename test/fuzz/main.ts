/** The fuzz's entry: `npm run fuzz -- [documents] [seed]` edits as many hostile trust policies and judges each edit. */
import { wholeNumber } from '../support/arguments.ts';
import { fuzzEdits, fuzzRounds } from '../support/trust-fuzz.ts';

const portion = 2_000;
const [wanted = '100000', from = String(Date.now() % 2 ** 31)] = process.argv.slice(2);
const [documents, first] = [wholeNumber('documents', wanted, 1), wholeNumber('seed', from)];

for (let done = 0; done < documents; done += portion) {
  const seed = first + done;
  fuzzEdits({ numRuns: Math.min(portion, documents - done), seed });
  fuzzRounds({ numRuns: portion / 100, seed });
  console.log(`${Math.min(done + portion, documents)} documents hold, the last ${portion} from seed ${seed}`);
}
