/** Owns the figures of Pod Identity: the time until a user's role is in place, its calls, and the delay of runs. */
import { setTimeout as delay } from 'node:timers/promises';
import { post } from './clients.ts';
import { median, type Report } from './report.ts';
import { metric, type System, withSystem } from './system.ts';

/** The latencies of the EKS stand-in, like those of IAM's reads and writes. */
const eksLatencyMs = {
  ListPodIdentityAssociations: 60,
  DescribePodIdentityAssociation: 60,
  CreatePodIdentityAssociation: 120,
  DeletePodIdentityAssociation: 120,
};
/** The calls for one user, one after the other: the role is read and written, the association looked up and made. */
const boundOfUserMs = 60 + 120 + 60 + 120;
const many = 30;
const trustsNobody = {
  Version: '2012-10-17',
  Statement: [{ Effect: 'Deny', Principal: '*', Action: 'sts:AssumeRole' }],
};
const settings = { EKS_CLUSTER_NAME: 'acme' };

export async function podIdentity(): Promise<Report> {
  const off = await withSystem(1, restingMiB);
  return withSystem(0, async (system) => {
    await system.addReplica({ settings });
    const on = await restingMiB(system);
    await system.stack.knobs('aws', { latencyMs: { GetRole: 60, UpdateAssumeRolePolicy: 120, ...eksLatencyMs } });
    await system.mapRoles(1, 1);
    const [user] = await system.addUsers(1);
    if (!user) throw new Error('no user');
    const authorization = `Bearer ${await system.stack.token('admin')}`;
    const url = system.replicas[0]?.url ?? '';
    const headers = { authorization };

    const map = async (name: string) => {
      const role = await system.stack.order('add-role', { name: `pods-${name}`, trust: trustsNobody });
      const body = { domino_user: name, iam_role_arn: role.arn };
      const { status, text } = await post(`${url}/update_pod_identity_mapping`, body, headers);
      if (status !== 200) throw new Error(`the mapping was refused: ${status} ${text}`);
    };
    const inPlace = async (count: number) => {
      for (;;) {
        const answer = await fetch(`${url}/trust_status`, { headers });
        const { pod_identities: reports } = (await answer.json()) as { pod_identities: { state: string }[] };
        if (reports.filter(({ state }) => state === 'in_place').length === count) return;
        await delay(10);
      }
    };
    const since = async (work: () => Promise<void>) => {
      const start = performance.now();
      await work();
      return performance.now() - start;
    };
    const firstGrants = async (count: number) => {
      const ids = await system.startRuns(user.name, count);
      await delay(500);
      const asked = ids.map((run) => ({ url, token: user.token, run }));
      return median((await system.serial({ asked, pauseMs: 100 })).ms);
    };

    const single: number[] = [];
    for (let number = 1; number <= 5; number += 1) {
      single.push(
        await since(async () => {
          await map(`one-${number}`);
          await inPlace(number);
        }),
      );
      await delay(1_000);
    }
    const quiet = await firstGrants(15);
    await delay(1_500);

    await system.forgetCalls();
    const mapping = since(async () => {
      for (let number = 1; number <= many; number += 1) await map(`many-${number}`);
      await inPlace(single.length + many);
    });
    const busy = await firstGrants(15);
    const all = await mapping;
    const calls = await system.awsCalls();
    const eks = Object.entries(calls).filter(([action]) => action in eksLatencyMs);
    const made = calls.CreatePodIdentityAssociation ?? 0;
    return {
      figures: [
        {
          name: 'one user: mapping to in place, p50 of 5',
          value: median(single),
          unit: 'ms',
          target: { atMost: 2 * boundOfUserMs },
        },
        { name: `${many} users at once: all in place`, value: all / 1000, unit: 's' },
        { name: 'calls of EKS a user', value: eks.reduce((sum, [, count]) => sum + count, 0) / many, unit: '' },
        { name: 'first grant of a run, nobody else: p50', value: quiet, unit: 'ms' },
        { name: 'first grant of a run, meanwhile: p50', value: busy, unit: 'ms' },
        { name: 'of it, to nobody else', value: busy / quiet, unit: '', target: { atMost: 2 } },
        { name: 'resident memory, off', value: off, unit: 'MiB' },
        { name: 'resident memory, on', value: on, unit: 'MiB' },
      ],
      wrong: made === many ? [] : [`${made} associations were made for ${many} users`],
    };
  });
}

async function restingMiB({ replicas: [replica] }: System): Promise<number> {
  if (!replica) throw new Error('no replica');
  await delay(2_000);
  return (await metric(replica, 'process_resident_memory_bytes')) / 2 ** 20;
}
