/** Proves which published statuses a replica sees, even when they are edited by hand. */
import assert from 'node:assert/strict';
import type { ConfigMap } from '../../src/kubernetes/client.ts';
import type { StatusForm } from '../../src/reconcile/status-form.ts';
import { createStatuses } from '../../src/reconcile/status-store.ts';

const form: StatusForm<string> = {
  label: 'note',
  keyOf: (status) => status,
  nameOf: (key) => `note-${key}`,
  data: (status) => ({ of: status }),
  parse: ({ of }) => of,
  content: (status) => status,
};

describe('statuses', () => {
  let change: (name: string, value: ConfigMap | undefined) => void;
  let told: string[];

  function create() {
    told = [];
    const watched = {
      synced: Promise.resolve(),
      get: () => undefined,
      values: () => [],
      onChange: (listener: typeof change) => {
        change = listener;
        return () => undefined;
      },
      isLive: () => true,
      isWhole: () => true,
      stop: () => undefined,
    };
    const statuses = createStatuses(form, watched);
    statuses.onChange((key) => told.push(key));
    return statuses;
  }
  const map = (data: Record<string, string>): ConfigMap => ({ name: 'n', resourceVersion: '1', data, annotations: {} });

  it('appear with their ConfigMap, and disappear when it is deleted or is no longer a status', () => {
    const statuses = create();
    for (const end of [undefined, map({})]) {
      change('note-a', map({ of: 'a' }));
      assert.equal(statuses.get('a')?.status, 'a');
      change('note-a', end);
      assert.equal(statuses.get('a'), undefined);
    }
    assert.deepEqual(told, ['a', 'a', 'a', 'a']);
  });

  it('are ignored when edited to have another key, and do not replace the status of that key', () => {
    const statuses = create();
    change('note-a', map({ of: 'a' }));
    change('note-b', map({ of: 'b' }));
    change('note-a', map({ of: 'b' }));
    assert.deepEqual([statuses.get('a'), statuses.get('b')?.configMap], [undefined, 'note-b']);
    change('note-a', map({ of: 'a' }));
    assert.deepEqual([statuses.get('a')?.status, statuses.get('b')?.configMap], ['a', 'note-b']);
    assert.deepEqual(told, ['a', 'b', 'a', 'a']);
  });

  it('are ignored in a ConfigMap of another name', () => {
    const statuses = create();
    change('copy-of-note-a', map({ of: 'a' }));
    assert.deepEqual([statuses.get('a'), told], [undefined, []]);
  });
});
