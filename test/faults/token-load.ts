/** Owns the load of role tokens in a round: runs that request and renew them like a sidecar, revocations, intruders. */
import { setTimeout as delay } from 'node:timers/promises';
import { foreignDocument } from './documents.ts';
import { createPeople } from './people.ts';
import type { Random } from './random.ts';
import { assumeWith, type Verdict } from './sts.ts';
import type { FaultSystem, Slot } from './system.ts';
import {
  type Carrier,
  type Carriers,
  type Given,
  isKeptOut,
  isOpen,
  shouldTake,
  story,
  type TokenFacts,
  type TokenRole,
  type TokenRun,
  tokenPastProblems,
} from './token-model.ts';
import { grossly, until } from './waiting.ts';

const account = '111111111111';
const roleNames = ['tok-one', 'tok-two'] as const;
const people = { dora: ['tok-org-one', 'tok-org-two'], erin: ['tok-org-one'] } as const;
/** A member of no organization. */
const stranger = 'trudy';
const mostLive = 9;
/** The time in which STS must refuse a revoked run, where the leader can act. */
export const revokedWithinMs = 5_000;
/** The time in which STS must accept the tokens of a run that is allowed again. */
export const allowedWithinMs = 5_000;
/** Reasons for which a role may be refused, since a fault or a change of the mappings causes them. */
const refusals = new Set(['pending', 'audience_missing', 'token_refused', 'not_mapped']);

interface Run extends TokenRun {
  asking: Promise<void> | undefined;
}

interface Tokens {
  tokens: { profile: string; iam_role_arn: string; token: string; expires_at: string }[];
  refused: { profile: string; code: string }[];
}

export interface TokenLoad {
  startRun(): Promise<void>;
  /** Makes every live run request its tokens again, without waiting for the answers. */
  renewAll(): void;
  /** Revokes a live run that has tokens, after an administrator's other changes. @returns the run, if any. */
  revokeSomebody(): Promise<TokenRun | undefined>;
  /** Allows a revoked run again, usually a live one. @returns the run, if any. */
  allowSomebody(): Promise<TokenRun | undefined>;
  endRun(run: TokenRun): Promise<void>;
  /** Maps an organization to its role by another carrier, or not at all. */
  changeCarrier(carrier?: Carrier): Promise<void>;
  readonly roles: readonly TokenRole[];
  /** Starts, revokes and ends runs until `ending` is aborted. */
  comeAndGo(ending: AbortSignal): Promise<void>;
  /** Waits until the last change is made; usually maps each role by tokens again. */
  calm(): Promise<void>;
  /** What is not right (yet): checked until nothing is wrong, and again after `lookAgain`. */
  settled(): Promise<string[]>;
  lookAgain(): void;
  /** Starts a run and waits until STS accepts its tokens. */
  heldRun(): Promise<void>;
  /** Revokes a run whose tokens STS accepts. @returns milliseconds until STS refuses them; 0: there was no such run. */
  revocation(): Promise<number>;
  /** Allows a revoked run again. @returns milliseconds until STS accepts its tokens; 0: there was no such run. */
  allowance(): Promise<number>;
  past(graceMs: number): Promise<string[]>;
  /** How long STS still accepted tokens of runs that were revoked during faults, from the end of the last fault. */
  revokedMs(quietAt: number): number[];
  readonly odd: string[];
  readonly counts: { tokens: number; revoked: number; allowed: number };
}

export async function startTokenLoad(system: FaultSystem, random: Random): Promise<TokenLoad> {
  const { stack, slots } = system;
  const issuer = stack.environment.OIDC_PROVIDER ?? '';
  const { call, retry, odd } = createPeople(system, random);
  const roles: TokenRole[] = [];
  const runs: Run[] = [];
  const given: Given[] = [];
  const carriers: Carriers[] = [];
  const counts = { tokens: 0, revoked: 0, allowed: 0 };
  /** Runs that were checked since the system is quiet, with nothing wrong. */
  let settledRuns = new Set<Run>();
  let isSettled = false;
  let stopping = false;
  let made = 0;
  let last: Promise<unknown> = Promise.resolve();

  for (const [name, orgs] of Object.entries(people)) await stack.order('add-user', { name, orgs: [...orgs] });
  await stack.order('add-user', { name: stranger, orgs: [] });
  for (const name of roleNames) {
    const pair = await stack.order('add-role-pair', { name });
    const original = foreignDocument(issuer, account, random.int(0, 5));
    await stack.order('add-role', { account, name, trust: original });
    roles.push({
      name,
      arn: pair.proxies[0] ?? '',
      target: pair.target,
      org: name.replace('tok-', 'tok-org-'),
      original,
    });
  }
  await stack.order('list-audiences', [...roleNames]);
  for (const role of roles) await set(role, 'token');

  /** Changes one after the other, as one administrator makes them, so that the latest one counts. */
  function inTurn<T>(act: () => Promise<T>): Promise<T> {
    const done = last.then(act);
    last = done.catch(() => undefined);
    return done;
  }

  function current(): Carriers['of'] {
    return carriers.at(-1)?.of ?? {};
  }

  async function set({ org, target, arn }: TokenRole, carrier: Carrier): Promise<void> {
    const state: Carriers = { sentAt: Date.now(), confirmedAt: undefined, of: { ...current(), [org]: carrier } };
    carriers.push(state);
    const gone = carrier === 'none';
    const data = [{ iam_role_arn: target, proxy_iam_role_arn: arn, carrier }];
    const path = gone ? '/delete_role_mapping' : '/update_multirole_mapping';
    const body = { domino_org: org, ...(gone ? {} : { role_data: data }) };
    while (!stopping) {
      const { status, text } = await call(random.pick(slots), path, 'admin', body, gone ? 'DELETE' : 'POST');
      // 404: an earlier try took effect, and its answer was lost.
      if (status === 200 || (gone && status === 404)) {
        state.confirmedAt = Date.now();
        return;
      }
      await retry(`the mapping of ${org}`, status, text, 'admin');
    }
  }

  async function newRun(): Promise<Run> {
    const user = random.chance(0.7) ? 'dora' : 'erin';
    made += 1;
    const id = `4${made.toString(16).padStart(23, '0')}`;
    const [started] = await stack.order('start-runs', { user, runs: [id] });
    const about = { id, account: started?.account ?? '', pod: started?.pod ?? '', user, orgs: people[user] };
    const run: Run = { ...about, endedAt: undefined, revoked: undefined, revocations: [], asking: undefined };
    runs.push(run);
    return run;
  }

  const isLive = ({ endedAt }: TokenRun) => endedAt === undefined;
  const live = () => runs.filter(isLive);
  const hasTokens = (run: TokenRun) => given.some((one) => one.run === run);

  /** Asks for tokens, once. @returns the status; the tokens that were given are on record, under the user who asked. */
  async function askTokens(run: Run, by: string, slot: Slot = random.pick(slots)) {
    const sentAt = Date.now();
    const { status, text } = await call(slot, '/role_tokens', by, { run_id: run.id, pod: run.pod });
    const none: Tokens = { tokens: [], refused: [] };
    if (status !== 200) return { status, text, ...none };
    const { tokens, refused } = JSON.parse(text) as Tokens;
    for (const { iam_role_arn: target, token, expires_at } of tokens) {
      const role = roles.find((one) => one.target === target);
      if (!role) odd.push(`run ${run.id} was given a token of ${target}`);
      else given.push({ run, by, role, token, sentAt, at: Date.now(), expiresAt: Date.parse(expires_at) });
      counts.tokens += 1;
    }
    const strange = refused.filter(({ code }) => !refusals.has(code));
    if (strange.length > 0) odd.push(`run ${run.id} was refused tokens: ${JSON.stringify(strange)}`);
    return { status, text, tokens, refused };
  }

  const isOver = (run: Run) => !isLive(run) || stopping;

  /** As a sidecar does: requests the config, then the tokens, until the run has all of its roles or is revoked. */
  async function ask(run: Run): Promise<void> {
    let hasConfig = hasTokens(run);
    while (!isOver(run)) {
      const body = { run_id: run.id, role_tokens: true };
      const { status, text, refused } = hasConfig
        ? await askTokens(run, run.user)
        : { ...(await call(random.pick(slots), '/map_iam_roles_to_pod_sa', run.user, body)), refused: [] };
      if (isOver(run)) return;
      if (text.includes('"run_revoked"')) {
        if (run.revocations.length === 0) odd.push(`run ${run.id} was never revoked: ${text}`);
        return;
      }
      if (status !== 200) await retry(`run ${run.id}`, status, text, run.user);
      else if (hasConfig && refused.length === 0) return;
      else if (hasConfig) await delay(300);
      else hasConfig = true;
    }
  }

  function startAsking(run: Run): Promise<void> {
    run.asking ??= ask(run).finally(() => {
      run.asking = undefined;
    });
    return run.asking;
  }

  async function startRun(): Promise<void> {
    void startAsking(await newRun());
  }

  async function endRun(run: TokenRun): Promise<void> {
    await stack.order('end-runs', [run.id]);
    run.endedAt = Date.now();
  }

  const use = ({ token, role }: Given): Promise<Verdict> => assumeWith(stack.awsUrl, token, role.arn);
  const newestOf = (run: TokenRun) =>
    roles.flatMap((role) => given.findLast((one) => one.run === run && one.role === role) ?? []);

  /** Whether STS refuses all tokens of the run. One for a role that has moved to entries is not renewed, and may be over. */
  const isOut = async (run: TokenRun) =>
    (await Promise.all(newestOf(run).map(use))).every((said) => said === 'denied' || said === 'expired');

  /** Calls STS until it refuses all tokens of the run. */
  async function untilOut(run: TokenRun, revoked: NonNullable<TokenRun['revoked']>): Promise<void> {
    const isMoot = () => stopping || revoked.allowSentAt !== undefined;
    if ((await until(async () => isMoot() || (await isOut(run)), 90_000, 100)) && !isMoot()) revoked.outAt = Date.now();
  }

  async function revoke(run: Run): Promise<void> {
    while (!stopping) {
      const sentAt = Date.now();
      if (!run.revoked) {
        const none = { confirmedAt: undefined, outAt: undefined, allowSentAt: undefined, allowedAt: undefined };
        run.revoked = { sentAt, ...none };
        run.revocations.push(run.revoked);
      }
      const { status, text } = await call(random.pick(slots), '/revoke_run', 'admin', { run_id: run.id });
      if (status === 200) {
        // An earlier try may have taken effect, and it is not known which.
        Object.assign(run.revoked, { sentAt, confirmedAt: Date.now() });
        counts.revoked += 1;
        const isLeft = (JSON.parse(text) as { left: boolean }).left;
        for (const one of isLeft ? newestOf(run) : []) {
          if ((await use(one)) !== 'taken') continue;
          const known = await facts(false);
          if (isKeptOut(run, one.role, known)) continue;
          const events = story(run, one.role, known);
          odd.push(`run ${run.id} has left, it was said, and STS takes its token for ${one.role.name}: ${events}`);
        }
        void untilOut(run, run.revoked);
        return;
      }
      if (status === 404 && !isLive(run)) {
        run.revoked = undefined;
        run.revocations.pop();
        return;
      }
      await retry(`the revocation of ${run.id}`, status, text, 'admin');
    }
  }

  async function allow(run: Run): Promise<void> {
    const { revoked } = run;
    if (!revoked) return;
    while (!stopping) {
      revoked.allowSentAt ??= Date.now();
      const { status, text } = await call(random.pick(slots), '/allow_run', 'admin', { run_id: run.id });
      // 404 for a run that has ended: an earlier try took effect without an answer, or the record ended with the run.
      if (status === 200 || (status === 404 && !isLive(run))) {
        revoked.allowedAt = Date.now();
        run.revoked = undefined;
        counts.allowed += 1;
        settledRuns.delete(run);
        if (isLive(run)) void startAsking(run);
        return;
      }
      await retry(`the allowance of ${run.id}`, status, text, 'admin');
    }
  }

  const revokeSomebody = () =>
    inTurn(async () => {
      const holders = live().filter((run) => !run.revoked && hasTokens(run));
      if (holders.length === 0) return undefined;
      const run = random.pick(holders);
      await revoke(run);
      return run;
    });

  const allowSomebody = () =>
    inTurn(async () => {
      const out = runs.filter(({ revoked }) => revoked?.confirmedAt !== undefined);
      const alive = out.filter(isLive);
      const [run] = random.some(alive.length > 0 && random.chance(0.8) ? alive : out, 1);
      if (run) await allow(run);
      return run;
    });

  const changeCarrier = (carrier?: Carrier) =>
    inTurn(async () => {
      const role = random.pick(roles);
      const choices = (['token', 'entry', 'none'] as const).filter((one) => one !== current()[role.org]);
      await set(role, carrier ?? random.pick(choices));
    });

  /** A user requests the tokens of another user's run, or of a run that has ended. */
  async function intrude(): Promise<void> {
    if (runs.length === 0) return;
    const run = random.pick(runs);
    const others = [stranger, ...Object.keys(people)].filter((name) => name !== run.user);
    const by = isLive(run) && !run.revoked ? random.pick(others) : run.user;
    await askTokens(run, by);
  }

  async function facts(newest: boolean, graceMs = 0): Promise<TokenFacts> {
    const found = await stack.order('trust-history', { proxies: [...roleNames], newest });
    const histories = found.map(({ history }) => history);
    return { issuer, roles, carriers, given, histories, runs, passedMs: system.passedMs, graceMs };
  }

  /** Requests the roles of a run once: the answer has to agree with the mappings and the revocations. */
  async function askOnce(run: Run): Promise<string[]> {
    const asks = roles.map((role) => ({ role, carrier: current()[role.org] ?? 'none' }));
    const mine = asks.filter(({ role }) => run.orgs.includes(role.org) && !run.revoked);
    if (mine.some(({ carrier }) => carrier === 'entry')) {
      const body = { run_id: run.id, role_tokens: true };
      const { status, text } = await call(random.pick(slots), '/map_iam_roles_to_pod_sa', run.user, body);
      if (status !== 200) return [`run ${run.id} asked for its roles: ${status} ${text}`];
    }
    const { status, text, tokens } = await askTokens(run, run.user);
    if (run.revoked) return status === 403 ? [] : [`the revoked run ${run.id} asked for tokens: ${status}`];
    if (status !== 200) return [`run ${run.id} asked for tokens: ${status} ${text}`];
    const wanted = mine.flatMap(({ role, carrier }) => (carrier === 'token' ? [role.target] : []));
    const got = tokens.map(({ iam_role_arn }) => iam_role_arn);
    if (wanted.sort().join() !== got.sort().join())
      return [`run ${run.id} was given tokens of ${got}, not of ${wanted}`];
    const entries = mine.flatMap(({ role, carrier }) => (carrier === 'entry' ? [role] : []));
    const barred = await Promise.all(
      entries.map(async ({ arn, name }) =>
        (await stack.order('can-assume', { account: run.account, role: arn })) ? [] : [`${run.id} is not in ${name}`],
      ),
    );
    return barred.flat();
  }

  function documentProblems({ histories }: TokenFacts): string[] {
    return roles.flatMap((role, index) => {
      const document = histories[index]?.at(-1)?.document;
      const carrier = current()[role.org];
      if (!document || carrier === 'entry') return [];
      const open = isOpen(document, role, issuer);
      return open === (carrier === 'token') ? [] : [`${role.name} ${open ? 'lets' : 'does not let'} tokens in`];
    });
  }

  async function look(): Promise<string[]> {
    const now = await facts(true);
    const wrong = documentProblems(now);
    if (wrong.length > 0) return wrong;
    const asked = live()
      .filter((run) => !settledRuns.has(run))
      .map(async (run) => {
        const problems = await askOnce(run).catch((error: unknown) => [String(error)]);
        if (problems.length === 0) settledRuns.add(run);
        return problems;
      });
    const refused = (await Promise.all(asked)).flat();
    if (refused.length > 0) return refused;
    const judged = runs.flatMap(newestOf).map(async (one) => {
      const should = shouldTake(one, now, Date.now());
      if (should === undefined) return [];
      const said = await use(one);
      if (should === (said === 'taken')) return [];
      const events = story(one.run, one.role, await facts(false));
      return [`STS says “${said}” to the token of run ${one.run.id} for ${one.role.name}: ${events}`];
    });
    return (await Promise.all(judged)).flat();
  }

  return {
    odd,
    counts,
    roles,
    startRun,
    endRun,
    changeCarrier,
    revokeSomebody,
    allowSomebody,
    renewAll: () => {
      for (const run of live()) void startAsking(run);
    },
    comeAndGo: async (ending) => {
      while (!ending.aborted) {
        await delay(random.int(150, 500));
        const kind = random.int(0, 19);
        if (kind <= 6 && live().length < mostLive) await startRun();
        else if (kind <= 9 && live().length > 4) await endRun(random.pick(live()));
        else if (kind <= 11) await intrude();
        else if (kind === 12) void (random.chance(0.6) ? revokeSomebody() : allowSomebody());
        else if (kind === 13) void changeCarrier();
        else if (live().length > 0) void startAsking(random.pick(live()));
      }
    },
    calm: async () => {
      await last;
      // Usually both roles come by tokens at the end: a role without tokens leaves less to check.
      for (const role of roles) {
        if (current()[role.org] !== 'token' && random.chance(0.7)) await inTurn(() => set(role, 'token'));
      }
    },
    settled: async () => {
      if (isSettled) return [];
      const problems = await look();
      isSettled = problems.length === 0;
      return problems;
    },
    lookAgain: () => {
      settledRuns = new Set();
      isSettled = false;
    },
    heldRun: async () => {
      const run = await newRun();
      await startAsking(run);
      const isTaken = async () => (await Promise.all(newestOf(run).map(use))).every((said) => said === 'taken');
      await until(isTaken, 30_000, 50);
    },
    revocation: async () => {
      const now = await facts(true);
      const run = live().find((each) => newestOf(each).some((one) => shouldTake(one, now, Date.now())));
      if (!run) return 0;
      const startedAt = performance.now();
      const revoking = inTurn(() => revoke(run));
      await until(() => isOut(run), 2 * grossly * revokedWithinMs, 50);
      const ms = performance.now() - startedAt;
      await revoking;
      return ms;
    },
    allowance: async () => {
      const now = await facts(true);
      // Tokens that STS would accept if the run had never been revoked.
      const isGood = (one: Given) => shouldTake({ ...one, run: { ...one.run, revoked: undefined } }, now, Date.now());
      const run = live().findLast((each) => each.revoked && newestOf(each).some(isGood));
      if (!run) return 0;
      const startedAt = performance.now();
      const allowing = inTurn(() => allow(run));
      const isIn = async () =>
        (await Promise.all(newestOf(run).filter(isGood).map(use))).every((said) => said === 'taken');
      await until(isIn, 2 * grossly * allowedWithinMs, 50);
      const ms = performance.now() - startedAt;
      await allowing;
      return ms;
    },
    past: async (graceMs) => {
      stopping = true;
      return tokenPastProblems(await facts(false, graceMs));
    },
    revokedMs: (quietAt) =>
      runs.flatMap(({ revoked }) =>
        revoked?.outAt === undefined || revoked.outAt < quietAt
          ? []
          : [revoked.outAt - Math.max(quietAt, revoked.sentAt)],
      ),
  };
}
