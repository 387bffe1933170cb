/** The fuzz's entry: `npm run fuzz -- [documents] [seed]` edits as many hostile trust policies and judges each edit. */
import { fuzzEdits, fuzzRounds } from '../support/trust-fuzz.ts';

const portion = 2_000;
const [documents = 100_000, first = Date.now() % 2 ** 31] = process.argv.slice(2).map(Number);

for (let done = 0; done < documents; done += portion) {
  const seed = first + done;
  fuzzEdits({ numRuns: Math.min(portion, documents - done), seed });
  fuzzRounds({ numRuns: portion / 100, seed });
  console.log(`${Math.min(done + portion, documents)} documents hold, the last ${portion} from seed ${seed}`);
}
