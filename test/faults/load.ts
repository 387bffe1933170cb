/** Owns the load of a round: runs that start, request roles as a sidecar does, and end; mappings that change. */
import { setTimeout as delay } from 'node:timers/promises';
import { profilesOf } from './client.ts';
import { foreignDocument } from './documents.ts';
import type { Facts, RoleFacts, RunFacts, Way } from './model.ts';
import { createPeople } from './people.ts';
import type { Random } from './random.ts';
import type { FaultSystem, Slot } from './system.ts';

const account = '111111111111';
const pools = { main: ['main-1', 'main-2'], data: ['data-1'], beta: ['beta-1'], extra: ['extra-1'] } as const;
const people = { alice: ['acme', 'beta'], bob: ['acme'] } as const;
type User = keyof typeof people;

interface Run extends RunFacts {
  user: User;
  answers: RunFacts['answers'];
  accounts: string[];
  /** Index of the mappings when the oldest request with an unknown result was sent. */
  openSince: number | undefined;
  asking: Promise<void> | undefined;
}

export interface Load {
  /** Starts a run with a pod, which requests its roles at once. */
  startRun(): Promise<void>;
  /** Starts a run that asks one replica until it has its roles. @returns how many milliseconds that took. */
  timedRun(slot: Slot): Promise<number>;
  /** Starts and ends runs until `ending` is aborted. */
  comeAndGo(ending: AbortSignal): Promise<void>;
  /** Waits until every live run has its answer. @returns the runs without one, with the last answer of each. */
  untilAnswered(timeoutMs: number): Promise<string[]>;
  facts(newestOnly: boolean): Promise<Facts>;
  /** Answers that no client should get, whatever the faults. */
  readonly odd: string[];
  readonly counts: { asked: number; granted: number; mapped: number; ended: number };
}

export async function startLoad(system: FaultSystem, random: Random): Promise<Load> {
  const { stack, slots } = system;
  const issuer = stack.environment.OIDC_PROVIDER ?? '';
  const runs: Run[] = [];
  const roles: Pick<RoleFacts, 'arn' | 'original'>[] = [];
  const { call, retry, odd } = createPeople(system, random);
  const counts = { asked: 0, granted: 0, mapped: 0, ended: 0 };
  const mappings: Way[][] = [[]];
  /** Index of the newest mappings that the service confirmed to an administrator with 200. */
  let confirmed = 0;
  let stopping = false;
  let made = 0;

  for (const [name, orgs] of Object.entries(people)) await stack.order('add-user', { name, orgs });
  const ways: Record<keyof typeof pools, Omit<Way, 'org'>[]> = { main: [], data: [], beta: [], extra: [] };
  for (const [name, proxies] of Object.entries(pools)) {
    const pair = await stack.order('add-role-pair', { name, proxies: [...proxies] });
    ways[name as keyof typeof pools] = pair.proxies.map((proxy) => ({ target: pair.target, proxy }));
    for (const [index, proxy] of proxies.entries()) {
      const document = foreignDocument(issuer, account, random.int(0, 5));
      await stack.order('add-role', { account, name: proxy, trust: document });
      roles.push({ arn: pair.proxies[index] ?? '', original: document });
    }
  }
  await setMapping('acme', [...ways.main, ...ways.data]);
  await setMapping('beta', ways.beta);
  const quietMappings = mappings.length;

  async function setMapping(org: string, list: Omit<Way, 'org'>[]): Promise<void> {
    const rest = (mappings.at(-1) ?? []).filter((way) => way.org !== org);
    // It may have been in force from the moment that it was sent.
    mappings.push([...rest, ...list.map((way) => ({ org, ...way }))]);
    counts.mapped += 1;
    const data = list.map(({ target, proxy }) => ({ iam_role_arn: target, proxy_iam_role_arn: proxy }));
    const gone = data.length === 0;
    const path = gone ? '/delete_role_mapping' : '/update_multirole_mapping';
    const body = { domino_org: org, ...(gone ? {} : { role_data: data }) };
    while (!stopping) {
      const { status, text } = await call(random.pick(slots), path, 'admin', body, gone ? 'DELETE' : 'POST');
      // 404: an earlier try took effect, and its answer was lost.
      if (status === 200 || (gone && status === 404)) {
        confirmed = mappings.length - 1;
        return;
      }
      await retry('a mapping', status, text, 'admin');
    }
  }

  async function newRun(): Promise<Run> {
    const user = random.chance(0.7) ? 'alice' : 'bob';
    made += 1;
    const id = `5${made.toString(16).padStart(23, '0')}`;
    const accounts = random.chance(0.15) ? [`run-${id}`, `ray-${id}-ray`] : [`run-${id}`];
    for (const each of accounts) await stack.order('start-runs', { user, runs: [id], options: { account: each } });
    const run: Run = {
      id,
      user,
      orgs: people[user],
      accounts,
      askedAt: undefined,
      endedAt: undefined,
      answers: [],
      openSince: undefined,
      asking: undefined,
    };
    runs.push(run);
    return run;
  }

  async function ask(run: Run, only?: Slot): Promise<void> {
    let last = '';
    while (run.endedAt === undefined && !stopping) {
      const sentAt = confirmed;
      run.askedAt ??= Date.now();
      counts.asked += 1;
      const { status, text } = await call(only ?? random.pick(slots), '/map_iam_roles_to_pod_sa', run.user, {
        run_id: run.id,
      });
      const at = Date.now();
      if (status === 200) {
        counts.granted += 1;
        const since = Math.min(run.openSince ?? sentAt, sentAt);
        run.answers.push({ at, profiles: profilesOf(text), since, until: mappings.length - 1 });
        if (/^# .*: refused/m.test(text)) odd.push(`a refusal for run ${run.id}: ${text}`);
        missing(run, text);
        return;
      }
      // It may still be carried out: by a replica that was paused, or one that lost only the answer.
      if (status === 0) run.openSince ??= sentAt;
      last = `${status} ${text}`;
      if (run.endedAt !== undefined) return;
      await retry(`run ${run.id}`, status, last, run.user);
    }
  }

  /** Invariant 6: a role is never absent without a reason. Where mappings changed, a replica may not know yet. */
  function missing(run: Run, text: string): void {
    if (mappings.length > quietMappings) return;
    const mine = (mappings.at(-1) ?? []).filter((way) => run.orgs.includes(way.org));
    for (const target of new Set(mine.map((way) => way.target))) {
      if (!text.includes(target)) odd.push(`run ${run.id} was told nothing of ${target}: ${text}`);
    }
  }

  function startAsking(run: Run): Promise<void> {
    run.asking ??= ask(run).finally(() => {
      run.asking = undefined;
    });
    return run.asking;
  }

  async function endRun(run: Run): Promise<void> {
    run.endedAt = Date.now();
    counts.ended += 1;
    await stack.order('end-runs', [run.id]);
  }

  async function startRun(): Promise<void> {
    void startAsking(await newRun());
  }

  const live = () => runs.filter(({ endedAt }) => endedAt === undefined);
  const choices = [
    () => setMapping('acme', random.chance(0.5) ? [...ways.main, ...ways.data] : [...ways.main]),
    () => setMapping('acme', [...ways.main.slice(random.int(0, 1)), ...ways.data, ...ways.extra]),
    () => setMapping('beta', random.chance(0.5) ? ways.beta : []),
  ];

  return {
    odd,
    counts,
    startRun,
    timedRun: async (slot) => {
      const run = await newRun();
      const start = performance.now();
      await ask(run, slot);
      return performance.now() - start;
    },
    comeAndGo: async (ending) => {
      const mappingsChange = random.chance(0.4);
      while (!ending.aborted) {
        await delay(random.int(50, 350));
        const kind = random.int(0, 9);
        if (kind <= 3 && live().length < 24) await startRun();
        else if (kind <= 6 && live().length > 12) await endRun(random.pick(live()));
        else if (kind === 9 && mappingsChange) await random.pick(choices)();
        else if (live().length > 0) void startAsking(random.pick(live()));
      }
    },
    untilAnswered: async (timeoutMs) => {
      const asking = () => live().filter((run) => run.asking !== undefined);
      await Promise.race([Promise.all(asking().map(({ asking: one }) => one)), delay(timeoutMs)]);
      const left = asking().map(({ id }) => `run ${id} has no answer`);
      if (left.length > 0) stopping = true;
      return left;
    },
    facts: async (newest) => {
      const proxies = roles.map(({ arn }) => arn.split('/').at(-1) ?? '');
      const histories = await stack.order('trust-history', { proxies, newest });
      return {
        issuer,
        runs,
        mappings,
        roles: roles.map((role, index) => ({ ...role, history: histories[index]?.history ?? [] })),
      };
    },
  };
}
