import assert from 'node:assert/strict';
import { createLog } from '../../src/lib/log.ts';

describe('the log', () => {
  const lines: string[] = [];
  const log = createLog('info', { write: (line: string) => void lines.push(line) });
  beforeEach(() => lines.splice(0));

  it('invariant 9: redacts what is logged under the name of a credential', () => {
    const secrets = { authorization: 'Bearer s3cret', token: 's3cret', apiKey: 's3cret' };
    log.info({ ...secrets, request: secrets, err: Object.assign(new Error('refused'), secrets) }, 'asked');
    const [line = ''] = lines;
    assert.doesNotMatch(line, /s3cret/);
    assert.equal(JSON.parse(line).token, '[redacted]');
    assert.equal(JSON.parse(line).err.message, 'refused');
  });

  it('writes one JSON line per entry, with the service, the level as a word and the time', () => {
    log.debug('not told');
    log.warn({ run: 'a' }, 'told');
    assert.equal(lines.length, 1);
    const { time, ...rest } = JSON.parse(lines[0] ?? '');
    assert.deepEqual(rest, { level: 'warn', service: 'irsa-svc', run: 'a', msg: 'told' });
    assert.ok(Date.parse(time) > 0);
  });
});
