/** Owns changes that people make to proxy roles with members by hand; STS itself shows whether the result is right. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Document } from './documents.ts';
import { createPeople } from './people.ts';
import type { Random } from './random.ts';
import type { FaultSystem } from './system.ts';
import { until } from './waiting.ts';

const account = '111111111111';
const user = 'carol';

interface Statement {
  Principal: { Federated?: string | string[] };
  Action: string | string[];
  Condition: Record<string, Record<string, string | string[]>>;
}

interface HandRole {
  name: string;
  arn: string;
  /** The organization that is mapped to this role alone. */
  org: string;
  mapping: { iam_role_arn: string; proxy_iam_role_arn: string };
}

interface Expectation {
  account: string;
  role: string;
  isIn: boolean;
}

/** Ways to change the service's statement after which STS may still admit its subjects. */
const alterations: Readonly<Record<string, (statement: Statement, issuer: string) => void>> = {
  'another action': (statement) => {
    statement.Action = [statement.Action, 'sts:TagSession'].flat();
  },
  'another condition': ({ Condition }) => {
    Condition.StringNotEquals = { 'sts:RoleSessionName': 'nobody' };
  },
  'a condition that no token meets': ({ Condition }) => {
    Condition.StringEquals = { ...Condition.StringEquals, 'aws:SourceVpc': 'vpc-1' };
  },
  'another provider': ({ Principal }) => {
    Principal.Federated = [Principal.Federated ?? [], `arn:aws:iam::${account}:oidc-provider/other.example.com`].flat();
  },
  'another audience': ({ Condition }, issuer) => {
    const like = Condition.StringLike ?? {};
    Condition.StringLike = { ...like, [`${issuer}:aud`]: ['sts.amazonaws.com', 'other.example.com'] };
  },
};

export interface Hands {
  /** A person changes the statement of three members; one of these runs ends, one is revoked, and one continues. */
  alter(random: Random, wrong: (what: string) => void): Promise<void>;
  /** IAM refuses the role while its mapping is deleted. @param amid what happens before the role is repaired. */
  refuse(wrong: (what: string) => void, amid: () => Promise<void>): Promise<void>;
  /** The answers of STS that are wrong once the system is quiet. */
  settled(): Promise<string[]>;
}

export function createHands(system: FaultSystem, random: Random): Hands {
  const { stack, slots } = system;
  const issuer = stack.environment.OIDC_PROVIDER ?? '';
  const { call, retry } = createPeople(system, random);
  const expected: Expectation[] = [];
  let made = 0;
  let started = 0;

  /** Calls any replica until it answers with success. */
  async function insist(path: string, as: string, body: object, method: 'POST' | 'DELETE' = 'POST'): Promise<string> {
    for (const end = performance.now() + 60_000; ; ) {
      const { status, text } = await call(random.pick(slots), path, as, body, method);
      if (status === 200 || (method === 'DELETE' && status === 404)) return text;
      if (performance.now() > end) throw new Error(`${path}: ${status} ${text}`);
      await retry(path, status, text, as);
    }
  }

  /** STS's own answer; undefined where another fault prevents one. */
  async function letsIn(name: string, role: string): Promise<boolean | undefined> {
    for (let tries = 0; tries < 20; tries += 1) {
      try {
        return await stack.order('can-assume', { account: name, role });
      } catch {
        await delay(200);
      }
    }
    return undefined;
  }

  async function newRole(): Promise<HandRole> {
    made += 1;
    const [name, org] = [`hand-${made}`, `hands-${made}`];
    await stack.order('add-user', { name: `${user}-${made}`, orgs: [org] });
    const pair = await stack.order('add-role-pair', { name });
    const arn = pair.proxies[0] ?? '';
    const mapping = { iam_role_arn: pair.target, proxy_iam_role_arn: arn };
    await insist('/update_multirole_mapping', 'admin', { domino_org: org, role_data: [mapping] });
    return { name, arn, org, mapping };
  }

  async function newRun({ name, arn }: HandRole): Promise<string> {
    const as = `${user}-${name.split('-')[1]}`;
    started += 1;
    const run = `8${started.toString(16).padStart(23, '0')}`;
    await stack.order('start-runs', { user: as, runs: [run] });
    const isGiven = async () =>
      (await insist('/map_iam_roles_to_pod_sa', as, { run_id: run })).includes(`role_arn = ${arn}`);
    if (!(await until(isGiven, 30_000, 300))) throw new Error(`run ${run} was not given ${arn}`);
    return run;
  }

  async function documentOf({ name }: HandRole): Promise<Document & { Statement: Statement[] }> {
    const [found] = await stack.order('trust-history', { proxies: [name], newest: true });
    return structuredClone(found?.history[0]?.document) as Document & { Statement: Statement[] };
  }

  const setTrust = ({ name }: HandRole, document: object) => stack.order('set-trust', { account, name, document });

  /** Where `revoke_run` answers `left`, STS must refuse the run. */
  async function revoke(run: string, { arn }: HandRole, wrong: (what: string) => void): Promise<void> {
    const { left } = JSON.parse(await insist('/revoke_run', 'admin', { run_id: run })) as { left: boolean };
    if (left && (await letsIn(`run-${run}`, arn)))
      wrong(`run ${run} has left, it was said, and STS lets it into ${arn}`);
    expected.push({ account: `run-${run}`, role: arn, isIn: false });
  }

  async function end(run: string, { arn }: HandRole): Promise<void> {
    await stack.order('end-runs', [run]);
    expected.push({ account: `run-${run}`, role: arn, isIn: false });
  }

  return {
    alter: async (choice, wrong) => {
      const role = await newRole();
      const [ending, revoked, going] = [await newRun(role), await newRun(role), await newRun(role)];
      for (let times = choice.int(1, 3); times > 0; times -= 1) {
        const document = await documentOf(role);
        const alter = alterations[choice.pick(Object.keys(alterations))];
        for (const statement of document.Statement) alter?.(statement, issuer);
        await setTrust(role, document);
        await delay(choice.int(0, 800));
      }
      await end(ending, role);
      await revoke(revoked, role, wrong);
      expected.push({ account: `run-${going}`, role: role.arn, isIn: true });
    },
    refuse: async (wrong, amid) => {
      const role = await newRole();
      const [first, second] = [await newRun(role), await newRun(role)];
      const deleted = { Effect: 'Allow', Principal: { AWS: 'AROAEXAMPLEDELETED123' }, Action: 'sts:AssumeRole' };
      const document = await documentOf(role);
      await setTrust(role, { ...document, Statement: [...document.Statement, deleted] });
      await insist('/delete_role_mapping', 'admin', { domino_org: role.org }, 'DELETE');
      await amid();
      await revoke(first, role, wrong);
      expected.push({ account: `run-${second}`, role: role.arn, isIn: false });
      const { Statement, ...rest } = await documentOf(role);
      await setTrust(role, { ...rest, Statement: Statement.filter(({ Principal }) => !('AWS' in Principal)) });
    },
    settled: async () => {
      const answers = expected.map(async ({ account: name, role, isIn }) => {
        const said = await letsIn(name, role);
        if (said === isIn) return [];
        return [`STS ${said ? 'lets' : 'does not let'} ${name} into ${role}`];
      });
      return (await Promise.all(answers)).flat();
    },
  };
}
