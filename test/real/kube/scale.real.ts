/** Measures a storm of 200 runs and a start with 10,000 live pods on a real API server, with the stand-in's figures beside. */
import assert from 'node:assert/strict';
import { latency, median, percentile } from '../../bench/report.ts';
import type { AwsStandIn } from '../../stack/aws.ts';
import type { DominoStandIn } from '../../stack/domino.ts';
import { dominoPod, dominoServiceAccount } from '../../stack/pods.ts';
import { buildService, type ReplicaProcess, startReplica } from '../../stack/processes.ts';
import { until } from '../../support/clock.ts';
import { subjectsOf } from '../../support/roles.ts';
import { runId, startWorld } from '../../support/world.ts';
import { orSkip } from '../tools.ts';
import { compute, startRealWorld } from './world.ts';

/** What both API servers offer to this measurement. */
interface Stage {
  readonly aws: AwsStandIn;
  readonly domino: DominoStandIn;
  readonly issuer: string;
  readonly kubeconfig: string;
  readonly environment: Readonly<Record<string, string>>;
  addRolePair(name: string, proxies: readonly string[]): { target: string; proxies: string[] };
  startRun(run: string, user: string): unknown;
  /** Pods of one account, as they are before a kubelet has seen them. */
  addPods(count: number): Promise<void>;
  stop(): Promise<void>;
}

const runs = 200;
const runsOfOneUser = 5;
const pods = 10_000;
const targets = ['one', 'two', 'three'];
const manyAccount = 'many-sa';
const figures = new Map<string, Map<string, string>>();

const podNumber = (number: number, plain: boolean) => {
  const names = { runId: runId(1_000_000 + number), userId: 'u', userName: 'svc-user-1' };
  return dominoPod({ ...names, plain, serviceAccount: manyAccount, phase: 'Pending' });
};

const stages: Record<string, () => Promise<Stage>> = {
  'kube-apiserver': async () => {
    const world = await startRealWorld();
    return {
      ...world,
      issuer: world.cluster.issuer,
      addPods: async (count) => {
        await world.cluster.must('POST', `${compute}/serviceaccounts`, dominoServiceAccount(manyAccount));
        await inLanes(count, async (number) => {
          const { status: _, ...pod } = podNumber(number, true);
          await world.cluster.must('POST', `${compute}/pods`, pod);
        });
      },
    };
  },
  'the stand-in': async () => {
    const world = await startWorld();
    return {
      ...world,
      issuer: world.issuer.issuer,
      kubeconfig: world.kubernetes.kubeconfig(),
      addPods: async (count) => {
        world.kubernetes.put('serviceaccounts', dominoServiceAccount(manyAccount));
        world.kubernetes.putMany(
          'pods',
          Array.from({ length: count }, (_, number) => podNumber(number, false)),
        );
      },
    };
  },
};

for (const [name, start] of Object.entries(stages)) {
  describe(`the scale of ${name}`, function () {
    this.timeout(30 * 60_000);
    let stage: Stage;
    const replicas: ReplicaProcess[] = [];

    before(async function () {
      stage = await orSkip(this, start);
      await buildService();
      const { domino, ...actions } = latency;
      Object.assign(stage.aws.knobs, { quota: 8192, latencyMs: actions });
      stage.domino.knobs.latencyMs = domino;
    });
    after(async () => {
      await Promise.all(replicas.map((replica) => replica.stop()));
      await stage?.stop();
      print();
    });

    async function addReplica(): Promise<ReplicaProcess> {
      const settings = { TRUST_POLICY_MAX_CHARS: '8192', LEASE_SECONDS: '15', RATE_LIMIT_PER_MINUTE: '1000000' };
      const environment = { ...stage.environment, ...stage.aws.environment(), ...stage.aws.credentials };
      const replica = await startReplica({ kubeconfig: stage.kubeconfig, environment }, { settings });
      replicas.push(replica);
      await replica.ready;
      return replica;
    }
    async function post(replica: ReplicaProcess | undefined, path: string, as: string, body: object) {
      const authorization = `Bearer ${stage.domino.token(as)}`;
      const headers = { authorization, 'content-type': 'application/json' };
      const started = performance.now();
      const answer = await fetch(`${replica?.url}${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
      return { status: answer.status, text: await answer.text(), ms: performance.now() - started };
    }
    const ask = (replica: ReplicaProcess | undefined, run: string, as: string) =>
      post(replica, '/map_iam_roles_to_pod_sa', as, { run_id: run });
    /** The proxy roles whose trust policies have the run as a member. */
    const rolesOf = (run: string) =>
      targets.flatMap((target) =>
        ['1', '2'].filter((each) =>
          subjectsOf(stage.aws, stage.issuer, `${target}-${each}`).includes(`*:domino-compute:run-${run}`),
        ),
      );

    it(`gives ${runs} simultaneous runs their roles`, async () => {
      await Promise.all([addReplica(), addReplica(), addReplica()]);
      const pairs = targets.map((target) => stage.addRolePair(target, [`${target}-1`, `${target}-2`]));
      const data = pairs.flatMap(({ target, proxies }) =>
        proxies.map((proxy) => ({ iam_role_arn: target, proxy_iam_role_arn: proxy })),
      );
      const mapped = await post(replicas[0], '/update_multirole_mapping', 'admin', {
        domino_org: 'acme',
        role_data: data,
      });
      assert.equal(mapped.status, 200, mapped.text);
      for (let user = 0; user < runs / runsOfOneUser; user += 1) {
        stage.domino.addUser({ name: `user-${user}`, orgs: ['acme'] });
      }
      const userOf = (number: number) => `user-${Math.floor(number / runsOfOneUser)}`;
      await inLanes(runs, async (number) => void (await stage.startRun(runId(number), userOf(number))));
      // The watches of all three have the last run, and the leader has compared its roles.
      const last = runId(runs);
      await stage.startRun(last, 'user-0');
      for (const replica of replicas)
        await until(async () => (await ask(replica, last, 'user-0')).status === 200, 60_000);
      stage.aws.resetCalls();
      const answers = await Promise.all(
        Array.from({ length: runs }, async (_, number) => {
          const run = runId(number);
          const answer = await ask(replicas[number % replicas.length], run, userOf(number));
          return { ...answer, run, roles: rolesOf(run).length };
        }),
      );
      for (const { status, text, run, roles } of answers) {
        assert.equal(status, 200, text);
        assert.equal(roles, targets.length, `run ${run} had a 200 with ${roles} roles`);
        assert.equal(rolesOf(run).length, targets.length, `run ${run} was removed again`);
      }
      const ms = answers.map((answer) => answer.ms);
      const { GetRole: reads = 0, UpdateAssumeRolePolicy: writes = 0 } = stage.aws.calls;
      assert.ok(writes <= 30, `${writes} IAM writes`);
      note(
        `${runs} runs, 3 replicas: p50, p99`,
        name,
        `${median(ms).toFixed(0)}, ${percentile(ms, 0.99).toFixed(0)} ms`,
      );
      note('IAM writes, reads of the storm', name, `${writes}, ${reads}`);
      await Promise.all(replicas.splice(0).map((replica) => replica.stop()));
    });

    it(`starts with ${pods} live pods, and gives another run its roles`, async () => {
      await stage.addPods(pods);
      const replica = await addReplica();
      note(`start to ready with ${pods} pods`, name, `${(await replica.ready).toFixed(0)} ms`);
      const run = runId(500);
      await stage.startRun(run, 'user-1');
      const answer = await ask(replica, run, 'user-1');
      assert.equal(answer.status, 200, answer.text);
      assert.equal(rolesOf(run).length, targets.length);
      note(`a first grant among ${pods} pods`, name, `${answer.ms.toFixed(0)} ms`);
      const metrics = await (await fetch(replica.metricsUrl)).text();
      const resident = Number(/^process_resident_memory_bytes (\S+)$/m.exec(metrics)?.[1]);
      assert.ok(resident / 2 ** 20 < 256, `${resident} bytes are more than the chart requests`);
      note(`memory with ${pods} pods`, name, `${(resident / 2 ** 20).toFixed(0)} MiB`);
    });
  });
}

/** Calls with 0, 1, … until count, some at a time. */
async function inLanes(count: number, call: (number: number) => Promise<void>): Promise<void> {
  let next = 0;
  const lane = async () => {
    while (next < count) await call(next++);
  };
  await Promise.all(Array.from({ length: 16 }, lane));
}

function note(figure: string, stage: string, value: string): void {
  figures.set(figure, (figures.get(figure) ?? new Map<string, string>()).set(stage, value));
}

/** The figures so far, as rows for docs/real-peers.md. */
function print(): void {
  const rows = [...figures].map(([figure, values]) =>
    ['', figure, ...Object.keys(stages).map((stage) => values.get(stage) ?? ''), ''].join(' | ').trim(),
  );
  process.stderr.write(`\n${rows.join('\n')}\n`);
}
