/** Owns the faults of role tokens by name: errors of the API server, the provider and people, during revocations. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Document } from './documents.ts';
import { type Fault, type FaultContext, kill } from './fault.ts';
import type { Random } from './random.ts';
import { tokenSeconds } from './system.ts';
import type { TokenRole } from './token-model.ts';

const update = 'UpdateAssumeRolePolicy';
const account = '111111111111';

/** Sets the API server's knobs while users request tokens, and may revoke, allow or change a carrier meanwhile. */
const tokenRequests =
  (on: (random: Random) => object, off: object, [least, most]: readonly [number, number]): Fault =>
  async (context) => {
    const { system, tokens, random } = context;
    await system.stack.knobs('kubernetes', on(random));
    await tokens.startRun();
    tokens.renewAll();
    // The requests under way were allowed when they were sent.
    await delay(random.int(50, 400));
    if (random.chance(0.6)) void tokens.revokeSomebody();
    if (random.chance(0.3)) void tokens.allowSomebody();
    if (random.chance(0.4)) void tokens.changeCarrier();
    await delay(random.int(least, most));
    await system.stack.knobs('kubernetes', off);
  };

async function newestOf({ system }: FaultContext, { name }: TokenRole): Promise<Document & { Statement: Document[] }> {
  const [found] = await system.stack.order('trust-history', { proxies: [name], newest: true });
  return structuredClone(found?.history[0]?.document) as Document & { Statement: Document[] };
}

const isTokens = ({ Sid }: Document) => Sid === 'IrsaRoleTokens';
const isDeny = ({ Sid }: Document) => Sid === 'IrsaRevokedRoleTokens';

/** Ways in which a person may alter the service's statements. */
const edits: Readonly<Record<string, (statements: Document[]) => Document[]>> = {
  'the Deny goes': (statements) => statements.filter((one) => !isDeny(one)),
  'the statement goes': (statements) => statements.filter((one) => !isTokens(one)),
  'another action': (statements) =>
    statements.map((one) => (isTokens(one) ? { ...one, Action: [one.Action, 'sts:TagSession'].flat() } : one)),
  'any audience': (statements) =>
    statements.map((one) =>
      isTokens(one) ? (JSON.parse(JSON.stringify(one).replace(/"irsa\/[^"]*"/, '"irsa/other"')) as Document) : one,
    ),
  'a Deny for nobody': (statements) =>
    statements.map((one) =>
      isDeny(one) ? (JSON.parse(JSON.stringify(one).replaceAll(/\*[0-9a-f]{24}/g, '*:other')) as Document) : one,
    ),
};

export const tokenFaults: Readonly<Record<string, Fault>> = {
  'TokenRequest refused': tokenRequests(
    (random) => ({ refuseTokens: random.pick(['403 a policy denied it', '422 invalid', '500 not now', '429 slower']) }),
    { refuseTokens: '' },
    [500, 2_500],
  ),
  'holder killed amid a revocation': async (context) => {
    const { system, tokens, random } = context;
    const holder = await system.holder();
    // The next holder waits for at least a second longer than this, so calls under way have arrived by then.
    await system.stack.knobs('aws', { latencyMs: { [update]: random.int(300, 900) } });
    const revoking = tokens.revokeSomebody();
    // The kill comes before, in or after the write of the Deny, or between this write and the removal of the statement.
    if (random.chance(0.7)) await system.writeUnderWay();
    else await delay(random.int(20, 800));
    if (random.chance(0.5)) {
      void tokens.changeCarrier();
      await delay(random.int(0, 900));
    }
    // The request to allow the run again follows the revocation, and reaches the next holder.
    const allowing = random.chance(0.3) ? tokens.allowSomebody() : undefined;
    await kill(context, holder);
    await system.stack.knobs('aws', { latencyMs: { [update]: 20 } });
    const run = await revoking;
    await allowing;
    if (run?.endedAt === undefined && run && random.chance(0.5)) await tokens.endRun(run);
  },
  'statement for tokens altered': async (context) => {
    const { system, tokens, random } = context;
    const revoked = random.chance(0.7) ? await tokens.revokeSomebody() : undefined;
    for (let times = random.int(1, 3); times > 0; times -= 1) {
      const role = random.pick(tokens.roles);
      const document = await newestOf(context, role);
      const edit = edits[random.pick(Object.keys(edits))];
      const Statement = edit?.(document.Statement) ?? document.Statement;
      if (Statement.length > 0) {
        await system.stack.order('set-trust', { account, name: role.name, document: { ...document, Statement } });
      }
      await delay(random.int(0, 1_000));
    }
    if (revoked?.endedAt === undefined && revoked && random.chance(0.5)) await tokens.endRun(revoked);
  },
  'TokenRequest slow': tokenRequests(
    (random) => ({ tokenLatencyMs: random.int(500, 4_000) }),
    { tokenLatencyMs: 0 },
    [1_000, 3_000],
  ),
  'tokens run out, API server away': async ({ system, tokens, random }) => {
    await system.stack.knobs('kubernetes', { down: true });
    await system.passTime((tokenSeconds + 100) * 1000);
    tokens.renewAll();
    await delay(random.int(500, 4_000));
    await system.stack.knobs('kubernetes', { down: false });
    await tokens.startRun();
  },
  'audience lost': async (context) => {
    const { system, tokens, random } = context;
    const names = tokens.roles.map(({ name }) => name);
    await system.stack.order('list-audiences', random.some(names, random.int(0, names.length - 1)));
    // The next holder reads the provider at once; otherwise the service usually keeps the audiences that it knows.
    if (random.chance(0.7)) await kill(context, await system.holder());
    await tokens.startRun();
    tokens.renewAll();
    await delay(random.int(500, 4_000));
    await system.stack.order('list-audiences', names);
  },
  'clocks moved amid a revocation': async (context) => {
    const { system, tokens, random } = context;
    const slots = random.chance(0.5) ? [await system.holder()] : system.slots;
    const ms = random.pick([-7_200_000, -900_000, 900_000, 7_200_000]);
    for (const slot of slots) system.moveClock(slot, ms);
    const run = await tokens.revokeSomebody();
    await delay(random.int(0, 1_500));
    if (random.chance(0.3)) await tokens.allowSomebody();
    if (run?.endedAt === undefined && run && random.chance(0.6)) await tokens.endRun(run);
    await delay(random.int(0, 1_500));
    for (const slot of slots) if (random.chance(0.5)) system.moveClock(slot, 0);
  },
};
