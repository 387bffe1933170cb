/** Owns the load of Pod Identity in a round: users who are mapped, changed and unmapped, and their workloads. */
import { setTimeout as delay } from 'node:timers/promises';
import { type Document, foreignDocument } from './documents.ts';
import { createPeople } from './people.ts';
import { type Mapped, type MappedUsers, type PodRole, podSettledProblems } from './pod-model.ts';
import { type PodPastFacts, podPastProblems } from './pod-past.ts';
import type { Random } from './random.ts';
import type { FaultSystem } from './system.ts';

const clusterAccount = '111111111111';
const target = 'arn:aws:iam::222222222222:role/acme-pod-target';
const users = ['svc-user-1', 'svc-user-2', 'svc-user-3', 'svc-user-4', 'svc-user-5'] as const;
const roleNames = ['acme-pods-shared', 'acme-pods-one', 'acme-pods-two'] as const;
/** An account to which one user after the other is mapped, and one that existed before. */
const movingAccount = 'team-sa';
const lasting = 'static-sa';
const mostWorkloads = 6;

export interface PodLoad {
  /** Maps a user, or changes a mapping. @returns the user, once the service has confirmed the change. */
  mapSomebody(): Promise<string>;
  /** Maps a user without a mapping; `before` is called first, with the user's account. @returns undefined where all are mapped. */
  mapNewcomer(before: (account: string, role: string) => Promise<void>): Promise<string | undefined>;
  unmapSomebody(): Promise<void>;
  /** The mappings that may be in force at this moment. */
  mapped(): [user: string, mapped: Mapped][];
  readonly roles: readonly PodRole[];
  makeRole(name: string): Promise<void>;
  /** Changes mappings and workloads until `ending` is aborted. */
  comeAndGo(ending: AbortSignal): Promise<void>;
  /** Waits until the last change is made, and ends workloads whose account now belongs to another user. */
  calm(): Promise<void>;
  /** The differences between the system and the mappings. */
  settled(): Promise<string[]>;
  past(): Promise<string[]>;
  readonly odd: string[];
  readonly counts: { mapped: number; workloads: number };
}

export async function startPodLoad(system: FaultSystem, random: Random): Promise<PodLoad> {
  const { stack, slots } = system;
  const { call, retry, odd } = createPeople(system, random);
  const issuer = stack.environment.OIDC_PROVIDER ?? '';
  const roles: (PodRole & { originals: Document[] })[] = [];
  const mappings: MappedUsers[] = [{ at: Date.now(), users: new Map() }];
  const workloads: { run: string; pod: string; account: string; user: string }[] = [];
  const counts = { mapped: 0, workloads: 0 };
  let made = 0;
  const stopping = false;
  let last: Promise<unknown> = Promise.resolve();

  await stack.order('admit-pods', undefined);
  const metadata = { name: lasting, namespace: 'domino-compute', labels: { team: 'platform' } };
  await stack.order('put-objects', { kind: 'serviceaccounts', objects: [{ metadata }] });
  for (const name of users) await stack.order('add-user', { name, orgs: [] });
  for (const name of roleNames) await makeRole(name);
  for (const user of users.slice(0, 3)) await set(user, { ...chosen(user), account: `${user}-sa` });

  async function makeRole(name: string): Promise<void> {
    const trust = foreignDocument(issuer, clusterAccount, random.int(0, 5));
    const { arn } = await stack.order('add-role', { account: clusterAccount, name, trust });
    const known = roles.find((role) => role.name === name);
    if (known) known.originals.push(trust);
    else roles.push({ name, arn, originals: [trust] });
  }

  function current(): ReadonlyMap<string, Mapped> {
    return mappings.at(-1)?.users ?? new Map<string, Mapped>();
  }

  function chosen(user: string): Mapped {
    const isTaken = [...current()].some(([other, { account }]) => other !== user && account === movingAccount);
    const account = !isTaken && random.chance(0.25) ? movingAccount : `${user}-sa`;
    return {
      account: user === users[3] && random.chance(0.5) ? lasting : account,
      role: random.pick(roles).arn,
      target: user === users[0] && random.chance(0.5) ? target : undefined,
      sessionTags: !(user === users[1] && random.chance(0.3)),
    };
  }

  /** Changes one after the other, as one administrator makes them, so that the latest one counts. */
  function inTurn<T>(act: () => Promise<T>): Promise<T> {
    const done = last.then(act);
    last = done.catch(() => undefined);
    return done;
  }

  async function set(user: string, mapped: Mapped | undefined): Promise<void> {
    const next = new Map(current());
    if (mapped) next.set(user, mapped);
    else next.delete(user);
    mappings.push({ at: Date.now(), users: next });
    counts.mapped += 1;
    while (!stopping) {
      const { status, text } = mapped ? await post(user, mapped) : await remove(user);
      // 404: an earlier try took effect, and its answer was lost.
      if (status === 200 || (!mapped && status === 404)) return;
      await retry(`the Pod Identity of ${user}`, status, text, 'admin');
    }
  }

  function remove(user: string) {
    return call(random.pick(slots), '/delete_pod_identity_mapping', 'admin', { domino_user: user }, 'DELETE');
  }

  function post(user: string, { account, role, target: further, sessionTags }: Mapped) {
    return call(random.pick(slots), '/update_pod_identity_mapping', 'admin', {
      domino_user: user,
      service_account: account,
      iam_role_arn: role,
      ...(further === undefined ? {} : { target_role_arn: further }),
      disable_session_tags: !sessionTags,
    });
  }

  const mapSomebody = () =>
    inTurn(async () => {
      const user = random.pick(users);
      await set(user, chosen(user));
      return user;
    });
  const unmapSomebody = () =>
    inTurn(async () => {
      const mapped = [...current().keys()];
      if (mapped.length > 0) await set(random.pick(mapped), undefined);
    });

  async function startWorkload(): Promise<void> {
    const user = random.pick(users);
    made += 1;
    counts.workloads += 1;
    const run = `7${made.toString(16).padStart(23, '0')}`;
    const { metadata: of, spec } = await stack.order('start-workload', { user, run });
    workloads.push({ run, user, pod: of?.name ?? '', account: spec?.serviceAccountName ?? '' });
  }

  async function endWorkload(one: (typeof workloads)[0]): Promise<void> {
    workloads.splice(workloads.indexOf(one), 1);
    await stack.order('end-workload', one);
  }

  const names = () => roles.map(({ name }) => name);

  function identities(): Map<string, string> {
    const known = new Map<string, string>();
    for (const { name, replica } of system.all) {
      const line = replica?.child.output.find((each) => each.includes('"holding the lease'));
      if (line !== undefined) known.set(name, (JSON.parse(line) as { identity: string }).identity);
    }
    return known;
  }

  return {
    odd,
    counts,
    roles,
    mapped: () => [...current()],
    makeRole,
    mapSomebody,
    unmapSomebody,
    mapNewcomer: (before) =>
      inTurn(async () => {
        const [user] = users.filter((name) => !current().has(name));
        if (user === undefined) return undefined;
        const mapped = { ...chosen(user), account: `${user}-sa` };
        await before(mapped.account, mapped.role);
        await set(user, mapped);
        return mapped.account;
      }),
    comeAndGo: async (ending) => {
      while (!ending.aborted) {
        await delay(random.int(150, 700));
        const kind = random.int(0, 9);
        if (kind <= 2 && workloads.length < mostWorkloads) await startWorkload();
        else if (kind <= 4 && workloads.length > 0) await endWorkload(random.pick(workloads));
        else if (kind <= 7) await mapSomebody();
        else if (kind === 8) await unmapSomebody();
      }
    },
    calm: async () => {
      await last;
      const ownerOf = new Map([...current()].map(([user, { account }]) => [account, user]));
      for (const one of [...workloads]) {
        const owner = ownerOf.get(one.account);
        if (owner !== undefined && owner !== one.user) await endWorkload(one);
      }
    },
    settled: async () => {
      const state = await stack.order('pod-identity-state', { roles: names() });
      return podSettledProblems({ mappings, roles, lasting: [lasting], state });
    },
    past: async () => {
      const past = await stack.order('pod-identity-past', { roles: names() });
      const facts: PodPastFacts = { mappings, roles, past, identities: identities() };
      return podPastProblems(facts);
    },
  };
}
