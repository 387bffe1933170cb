/** Proves when a published status counts as an external edit: not while the publisher's own write is under way. */
import assert from 'node:assert/strict';
import type { ConfigMap } from '../../src/kubernetes/client.ts';
import { KubernetesError } from '../../src/kubernetes/transport.ts';
import { createPublisher } from '../../src/reconcile/publisher.ts';
import type { StatusForm } from '../../src/reconcile/status-form.ts';
import type { PublishedStatus } from '../../src/reconcile/status-store.ts';

interface Note {
  of: string;
  text: string;
}

const form: StatusForm<Note> = {
  label: 'note',
  keyOf: ({ of }) => of,
  nameOf: (key) => `note-${key}`,
  data: ({ of, text }) => ({ of, text }),
  parse: ({ of = '', text = '' }) => ({ of, text }),
  content: ({ text }) => text,
};

describe('a publisher', () => {
  let there: ConfigMap | undefined;
  let seen: Note | undefined;
  let version = 0;
  let beforeAnswer: () => void = () => undefined;

  const put = async (data: Record<string, string | null>) => {
    version += 1;
    there = { name: 'note-a', resourceVersion: String(version), annotations: {}, data: data as Record<string, string> };
    seen = form.parse(there.data);
    beforeAnswer();
    return there;
  };
  const publisher = () =>
    createPublisher(
      form,
      {
        getConfigMap: async () => there,
        createConfigMap: async (_name, data) => put(data),
        patchConfigMap: async (_name, data, at) => {
          if (there?.resourceVersion !== at) throw new KubernetesError('conflict', 'conflict');
          return put(data);
        },
        deleteConfigMap: async () => {
          there = undefined;
          seen = undefined;
        },
      },
      {
        get: () =>
          seen &&
          ({ configMap: 'note-a', resourceVersion: '', annotations: {}, status: seen } as PublishedStatus<Note>),
      },
      () => true,
    );

  it('accepts its own write, even if the watch shows it before the API server answers', async () => {
    const one = publisher();
    const stood: boolean[] = [];
    beforeAnswer = () => stood.push(one.stands('a'));
    await one.publish({ of: 'a', text: 'first' });
    await one.publish({ of: 'a', text: 'second' });
    assert.deepEqual(stood, [true, true]);
    assert.ok(one.stands('a'));
  });

  it('rejects an external edit, and overwrites it', async () => {
    const one = publisher();
    beforeAnswer = () => undefined;
    await one.publish({ of: 'a', text: 'ours' });
    await put({ of: 'a', text: 'theirs' });
    assert.equal(one.stands('a'), false);
    await one.publish({ of: 'a', text: 'ours' });
    assert.deepEqual(there?.data, { of: 'a', text: 'ours' });
    seen = undefined;
    assert.equal(one.stands('a'), false);
  });
});
