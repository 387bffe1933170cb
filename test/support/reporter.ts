/** Owns the output of `npm test`: a line with the progress after each file, failures at once, and mocha's own summary. */
import { relative } from 'node:path';
import Mocha from 'mocha';
import { root } from './pages.ts';

// Node passes this variable to every child. A child loads the sources in another form, and the merged coverage then depends on
// which process has the lower id. Coverage also costs children memory and time.
delete process.env.NODE_V8_COVERAGE;

const { EVENT_RUN_BEGIN, EVENT_TEST_PASS, EVENT_TEST_FAIL, EVENT_TEST_PENDING, EVENT_RUN_END } = Mocha.Runner.constants;

interface Tally {
  readonly file: string;
  readonly start: number;
  passed: number;
  failed: number;
  skipped: number;
}

class Progress extends Mocha.reporters.Base {
  private ended = 0;
  private current: Tally | undefined;
  /** When the last test ended. */
  private last = performance.now();

  constructor(runner: Mocha.Runner, options: Mocha.MochaOptions) {
    super(runner, options);
    let failures = 0;
    const print = () => {
      if (!this.current) return;
      const { file, start, passed, failed, skipped } = this.current;
      const counts = [`${passed} passed`, failed > 0 && `${failed} FAILED`, skipped > 0 && `${skipped} skipped`];
      const seconds = ((this.last - start) / 1000).toFixed(1);
      const part = `${this.ended}/${runner.total}`.padStart(2 * String(runner.total).length + 1);
      Mocha.reporters.Base.consoleLog(`  ${part}  ${file}: ${counts.filter(Boolean).join(', ')} (${seconds} s)`);
    };
    const tallyOf = (test: Mocha.Runnable): Tally => {
      const file = relative(root, test.file ?? '');
      if (this.current?.file !== file) {
        print();
        this.current = { file, start: this.last, passed: 0, failed: 0, skipped: 0 };
      }
      this.last = performance.now();
      return this.current as Tally;
    };
    const count = (kind: 'passed' | 'skipped') => (test: Mocha.Test) => {
      tallyOf(test)[kind] += 1;
      this.ended += 1;
    };
    runner.once(EVENT_RUN_BEGIN, () => Mocha.reporters.Base.consoleLog());
    runner.on(EVENT_TEST_PASS, count('passed'));
    runner.on(EVENT_TEST_PENDING, count('skipped'));
    runner.on(EVENT_TEST_FAIL, (test: Mocha.Test | Mocha.Hook) => {
      tallyOf(test).failed += 1;
      // A failed hook does not count as a test.
      if (test.type === 'test') this.ended += 1;
      failures += 1;
      Mocha.reporters.Base.consoleLog(`  ${failures}) FAILED: ${test.fullTitle()}`);
    });
    runner.once(EVENT_RUN_END, () => {
      print();
      this.epilogue();
    });
  }
}

// Mocha uses the result of `require` as the reporter itself.
export { Progress as 'module.exports' };
