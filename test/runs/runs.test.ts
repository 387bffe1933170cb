/** Proves which pods belong to a run, and that no caller gets roles for pods that another user started. */
import assert from 'node:assert/strict';
import type { Pod } from '../../src/kubernetes/client.ts';
import { allStartedBy, createPodIndex, findRun, type PodIndex, parseRunId } from '../../src/runs/runs.ts';

const run = '646d27b817c28b5ea4b5b0c1';
const otherRun = '646f604955daf764547c5b77';
const pod = (name: string, more: Partial<Pod> = {}): Pod => ({
  name,
  run,
  account: `run-${run}`,
  user: 'alice',
  userName: 'alice',
  workload: 'Workspace',
  uid: '',
  hasPodIdentity: false,
  live: true,
  ...more,
});

describe('runs', () => {
  let change: (name: string, value: Pod | undefined) => void;
  let index: PodIndex;
  let told: string[];
  /** What the API server would list, and for which runs it was asked. */
  let listed: Pod[] | Error;
  let asked: (string | undefined)[];
  let isWhole: boolean;

  const watch = (...pods: Pod[]) => {
    for (const one of pods) change(one.name, one);
  };
  const find = (caller = 'alice', id = run) =>
    findRun(id, caller, index, {
      listPods: async (of) => {
        asked.push(of);
        if (listed instanceof Error) throw listed;
        return listed;
      },
      listPodsOfAccount: async (account) => {
        if (listed instanceof Error) throw listed;
        return listed.filter((one) => one.account === account);
      },
    });
  const refusal = async (caller?: string, id?: string) => {
    const error = await find(caller, id).then(
      () => undefined,
      (thrown: unknown) => thrown as { code: string; status: number; message: string; cause?: unknown },
    );
    assert.ok(error, 'the run was found');
    return error;
  };

  beforeEach(() => {
    told = [];
    listed = [];
    asked = [];
    isWhole = true;
    index = createPodIndex({
      synced: Promise.resolve(),
      get: () => undefined,
      values: () => [],
      onChange: (listener) => {
        change = listener;
        return () => undefined;
      },
      isLive: () => true,
      isWhole: () => isWhole,
      stop: () => undefined,
    });
    index.onAccountChange((account) => told.push(account));
  });

  describe('pod index', () => {
    const of = () => [index.ofRun(run), index.ofAccount(`run-${run}`)].map((pods) => pods.map(({ name }) => name));

    it('finds live pods by run and by service account', () => {
      watch(pod('a'), pod('b', { account: 'ray' }), pod('c', { run: otherRun }), pod('d', { run: undefined }));
      assert.deepEqual(of(), [
        ['a', 'b'],
        ['a', 'c', 'd'],
      ]);
      assert.deepEqual([index.ofRun('x'), index.ofAccount('x')], [[], []]);
    });

    it('invariant 7: keeps live pods until they end or are deleted', () => {
      watch(pod('a'), pod('b'));
      watch(pod('a', { live: false }));
      assert.deepEqual(of(), [['b'], ['b']]);
      change('b', undefined);
      assert.deepEqual(of(), [[], []]);
      watch(pod('c', { live: false }));
      assert.deepEqual(of(), [[], []]);
    });

    it('follows a pod whose labels change', () => {
      watch(pod('a'));
      watch(pod('a', { run: otherRun }));
      assert.deepEqual(of(), [[], ['a']]);
      watch(pod('a', { user: 'bob' }));
      assert.equal(index.ofRun(run)[0]?.user, 'bob');
    });

    it('reports each service account whose live pods changed, and no other change', () => {
      watch(pod('a'), pod('a'), pod('b', { live: false }));
      assert.deepEqual(told.splice(0), [`run-${run}`]);
      watch(pod('a', { account: 'ray' }));
      assert.deepEqual(told.splice(0), [`run-${run}`, 'ray']);
      change('a', undefined);
      change('a', undefined);
      change('never', undefined);
      assert.deepEqual(told, ['ray']);
    });
  });

  describe('found for a caller', () => {
    it('have the service accounts of their live pods, sorted, each once', async () => {
      watch(
        pod('a'),
        pod('b', { account: 'ray' }),
        pod('c', { account: 'ray' }),
        pod('d', { run: otherRun, account: 'z' }),
      );
      const { pods, ...found } = await find();
      assert.deepEqual(found, { id: run, accounts: ['ray', `run-${run}`] });
      assert.deepEqual(pods.map(({ name }) => name).sort(), ['a', 'b', 'c']);
      assert.deepEqual(asked, []);
    });

    it('invariant 5: are refused when the API server lists another user’s pod that the cache lacks', async () => {
      watch(pod('a'));
      listed = [pod('a'), pod('b', { run: otherRun, user: 'bob', account: `run-${run}` })];
      assert.equal((await find()).id, run);
      isWhole = false;
      assert.equal((await refusal()).code, 'shared_service_account');
      listed = [pod('a'), pod('b', { run: otherRun, user: 'bob', account: `run-${run}`, live: false })];
      assert.equal((await find()).id, run);
      listed = new Error('away');
      assert.equal((await find()).id, run);
    });

    it('are looked up in the API server when the watch has no pod of theirs yet', async () => {
      listed = [pod('a')];
      assert.deepEqual(await find(), { id: run, accounts: [`run-${run}`], pods: listed });
      assert.deepEqual(asked, [run]);
    });

    it('invariant 7: are not found when the listed pods have ended', async () => {
      listed = [pod('a', { live: false })];
      assert.equal((await refusal()).code, 'run_not_found');
    });

    it('invariant 5: are not found for another caller, with the same answer as for an unknown run', async () => {
      watch(pod('a'), pod('b', { run: otherRun, user: undefined, account: 'x' }));
      const answers = [await refusal('bob'), await refusal('bob', '0'.repeat(24)), await refusal('alice', otherRun)];
      for (const { code, status, message } of answers) {
        assert.deepEqual([code, status, message], ['run_not_found', 404, answers[0]?.message]);
      }
    });

    it('invariant 5: are not found by listed pods of other users or other runs', async () => {
      listed = [pod('a', { user: 'bob' }), pod('b', { run: otherRun }), pod('c', { user: undefined })];
      assert.equal((await refusal()).code, 'run_not_found');
    });

    it('invariant 5: are refused while pods of another user or of no user share a service account', async () => {
      for (const user of ['bob', undefined]) {
        watch(pod('a', { account: 'shared' }), pod('b', { account: 'shared', run: otherRun, user }));
        const { code, status } = await refusal();
        assert.deepEqual([code, status], ['shared_service_account', 409]);
      }
      watch(pod('b', { account: 'shared', run: otherRun, user: 'bob', live: false }));
      assert.deepEqual((await find()).accounts, ['shared']);
    });

    it('invariant 5: are refused when the watch has another user’s pod on a listed service account', async () => {
      watch(pod('b', { account: 'shared', run: otherRun, user: 'bob' }));
      listed = [pod('a', { account: 'shared' })];
      assert.equal((await refusal()).code, 'shared_service_account');
    });

    it('do not have service accounts that only other users’ pods of the run use', async () => {
      watch(pod('a'), pod('b', { account: 'other', user: 'bob' }));
      assert.deepEqual((await find()).accounts, [`run-${run}`]);
    });

    it('invariant 5: are not found when the service account’s name could be a pattern', async () => {
      for (const account of ['*', 'run-?', '']) {
        watch(pod('a', { account }));
        assert.equal((await refusal()).code, 'run_not_found');
      }
    });

    it('fail with kubernetes_unavailable when the API server does not answer, with the cause for the log only', async () => {
      listed = new Error('connect ECONNREFUSED 10.0.0.1');
      const error = await refusal();
      assert.equal(error.code, 'kubernetes_unavailable');
      assert.doesNotMatch(error.message, /ECONNREFUSED/);
      assert.equal(error.cause, listed);
    });
  });

  it('have ids of 24 hex digits, with or without run- before them', () => {
    assert.deepEqual([parseRunId(run), parseRunId(`run-${run}`)], [run, run]);
    for (const text of [
      '',
      'run-',
      `${run}0`,
      run.slice(1),
      run.toUpperCase(),
      `run-run-${run}`,
      `${run}\n`,
      `*${run}`,
    ]) {
      assert.equal(parseRunId(text), undefined, text);
    }
  });

  it('count as started by a user only if there are pods and all are that user’s', () => {
    assert.equal(allStartedBy([], 'alice'), false);
    assert.equal(allStartedBy([pod('a'), pod('b')], 'alice'), true);
    assert.equal(allStartedBy([pod('a'), pod('b', { user: undefined })], 'alice'), false);
  });
});
