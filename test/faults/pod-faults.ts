/** Owns the faults of Pod Identity by name: errors of EKS, changes by hand, and a holder killed during a change. */
import { setTimeout as delay } from 'node:timers/promises';
import { type Fault, type FaultContext, kill } from './fault.ts';
import type { Random } from './random.ts';
import { forEks, forEksWrites, quietEks } from './system.ts';

const create = 'CreatePodIdentityAssociation';

/** Sets EKS's knobs for a while, and maps a user meanwhile. */
const eks =
  (on: (random: Random) => Partial<typeof quietEks>, [least, most]: readonly [number, number]): Fault =>
  async ({ system, pods, random }) => {
    await system.stack.knobs('aws', on(random));
    await pods.mapSomebody();
    await delay(random.int(least, most));
    await system.stack.knobs('aws', quietEks);
  };

/** Kills the holder while an administrator's change is half done. */
async function killAmid(context: FaultContext, change: () => Promise<unknown>): Promise<void> {
  const { system, random } = context;
  const holder = await system.holder();
  // The next holder waits for at least a second longer than this, so calls under way have arrived by then.
  await system.stack.knobs('aws', { latencyMs: forEksWrites(random.int(300, 900)) });
  // The kill comes before, in or after the write to EKS.
  const underWay = random.chance(0.6) ? system.eksWriteUnderWay() : delay(random.int(50, 900));
  await Promise.all([underWay, change()]);
  await kill(context, holder);
  await system.stack.knobs('aws', quietEks);
}

/** Maps a new user, and kills the holder when the creation has ended with `outcome`. */
async function killAfterCreate(context: FaultContext, knob: object, outcome: string | undefined): Promise<void> {
  const { system, pods } = context;
  const holder = await system.holder();
  await system.stack.knobs('aws', knob);
  await Promise.all([system.eksWriteUnderWay(outcome), pods.mapNewcomer(async () => undefined)]);
  await kill(context, holder);
  await system.stack.knobs('aws', quietEks);
}

/** A change by hand of an object that may not exist. @returns false where the order was refused for that. */
async function byHand(act: Promise<unknown>): Promise<boolean> {
  return act.then(
    () => true,
    (error: unknown) => {
      if (!/\b400\b/.test(String(error))) throw error;
      return false;
    },
  );
}

function anyMapped({ pods, random }: FaultContext) {
  const mapped = pods.mapped();
  return mapped.length > 0 ? random.pick(mapped)[1] : undefined;
}

async function overwriteMutation({ system, pods, random }: FaultContext): Promise<void> {
  const mapped = pods.mapped().map(([user, { account }]) => [user, account] as const);
  const [[, one = 'other-sa'] = []] = mapped;
  // One user is missing, others have the wrong account, and an unknown user has one.
  const users = Object.fromEntries([...mapped.slice(1).map(([user]) => [user, one]), ['svc-stranger', one]]);
  await system.stack.order('apply-mutation', users);
  await delay(random.int(0, 1_500));
}

export const podFaults: Readonly<Record<string, Fault>> = {
  'EKS throttles': eks(() => ({ throttleRate: forEks(0.6) }), [800, 2_500]),
  'EKS create lost, holder killed': (context) =>
    killAfterCreate(context, { loseAnswerNext: { [create]: 1 } }, 'answer-lost'),
  'foreign association first': async (context) => {
    const { system, pods, random } = context;
    const { stack } = system;
    const account = await pods.mapNewcomer(async (name, role) => {
      await byHand(stack.order('add-association', { account: name, role }));
    });
    await delay(random.int(500, 2_500));
    if (account !== undefined && random.chance(0.6)) await byHand(stack.order('remove-association', account));
  },
  'role deleted, made again': async ({ system, pods, random }) => {
    const { name } = random.pick(pods.roles);
    await system.stack.order('remove-role', name);
    await pods.mapSomebody();
    await delay(random.int(500, 3_000));
    await pods.makeRole(name);
  },
  'Mutation overwritten': overwriteMutation,
  'holder killed, bringing': (context) => killAmid(context, context.pods.mapSomebody),
  'EKS answer lost': eks((random) => ({ loseAnswerNext: forEksWrites(random.int(1, 2)) }), [800, 2_500]),
  'association deleted by hand': async (context) => {
    const { system, pods, random } = context;
    const { stack } = system;
    const { account = '' } = anyMapped(context) ?? {};
    const isGone = await byHand(stack.order('remove-association', account));
    const isReplaced =
      isGone &&
      random.chance(0.4) &&
      (await byHand(stack.order('add-association', { account, role: random.pick(pods.roles).arn })));
    await delay(random.int(0, 1_500));
    if (isGone) await pods.mapSomebody();
    if (isReplaced && random.chance(0.5)) await byHand(stack.order('remove-association', account));
  },
  'EKS create hung, holder killed': (context) => killAfterCreate(context, { hangNext: { [create]: 1 } }, undefined),
  'association changed by hand': async (context) => {
    const { system, pods, random } = context;
    const { account = '', sessionTags = true } = anyMapped(context) ?? {};
    const change = random.pick([{ roleArn: random.pick(pods.roles).arn }, { disableSessionTags: sessionTags }]);
    await byHand(system.stack.order('change-association', { account, change }));
    await delay(random.int(0, 1_500));
  },
  'holder killed, taking away': (context) => killAmid(context, context.pods.unmapSomebody),
  'EKS fails': eks(
    (random) => ({ failRate: forEks({ code: 'ServiceFailure', rate: random.pick([0.6, 1]) }) }),
    [800, 2_500],
  ),
  'Mutation deleted': async (context) => {
    const { system, random } = context;
    if (random.chance(0.3)) await overwriteMutation(context);
    const mutation = { kind: 'mutations', namespace: 'domino-platform', name: 'irsa-pod-identity' };
    await system.stack.order('remove-by-hand', mutation);
    await delay(random.int(0, 1_500));
  },
  'service account deleted': async (context) => {
    const { system, random } = context;
    const { account = '' } = anyMapped(context) ?? {};
    // The service does not recreate the account that it did not create.
    if (!account.startsWith('static')) {
      const name = { kind: 'serviceaccounts', namespace: 'domino-compute', name: account };
      await system.stack.order('remove-by-hand', name);
    }
    await delay(random.int(0, 1_500));
  },
  'EKS hangs': eks(
    (random) => ({ hangNext: { ...forEks(0), ...forEksWrites(random.int(0, 1)), ListPodIdentityAssociations: 1 } }),
    [1_000, 3_000],
  ),
  'status deleted': async (context) => {
    const { system, random } = context;
    const { statuses } = await system.stack.order('pod-identity-state', { roles: [] });
    for (const { configMap } of random.some(statuses, random.int(1, statuses.length))) {
      await system.stack.order('remove-by-hand', { kind: 'configmaps', namespace: 'domino-field', name: configMap });
    }
    if (random.chance(0.5)) await kill(context, await system.holder());
  },
  'EKS slow': eks(
    (random) => ({ latencyMs: { ...forEks(random.int(200, 900)), ...forEksWrites(random.int(900, 1_400)) } }),
    [2_000, 4_000],
  ),
  'EKS sees IAM late': eks((random) => ({ propagationMs: random.int(1_000, 3_000) }), [2_000, 4_000]),
};
