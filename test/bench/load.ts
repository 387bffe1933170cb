/** Owns the load, in a process of its own: one JSON job on stdin, one JSON result on stdout. */

import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { keepAsking, post } from './clients.ts';

export interface Asked {
  url: string;
  token: string;
  run: string;
}

export type Job =
  /** All at once; each 200 is held against the trust policies as soon as it is there, and when all is over. */
  | { kind: 'storm'; asked: Asked[]; controlUrl: string; roles: number }
  /** One after the other. */
  | { kind: 'serial'; asked: Asked[]; pauseMs: number }
  /** GET over so many connections, each with one request under way. */
  | { kind: 'rate'; url: string; token: string; connections: number; seconds: number };

export interface StormResult {
  /** Milliseconds from sending to the whole answer, of each 200. */
  ms: number[];
  /** Answers that were no 200, with how often: `503 grant_pending`. */
  failed: Record<string, number>;
  /** Runs that were told of a role whose trust policy did not let them in, or of too few roles. */
  lost: string[];
}

export interface RateResult {
  perSecond: number;
  requests: number;
}

/** The proxy roles' names in an AWS config text, one for each profile. */
function proxiesOf(config: string): string[] {
  return [...config.matchAll(/^\[profile src_[^\]]*\][^[]*?^role_arn = \S+?:role\/(\S+)$/gm)].map(
    (match) => match[1] ?? '',
  );
}

async function grant({ url, token, run }: Asked) {
  const start = performance.now();
  const answer = await post(`${url}/map_iam_roles_to_pod_sa`, { run_id: run }, { authorization: `Bearer ${token}` });
  return { ...answer, ms: performance.now() - start };
}

function codeOf(status: number, text: string): string {
  const code = /"code":"(\w+)"/.exec(text)?.[1];
  return code === undefined ? String(status) : `${status} ${code}`;
}

async function storm({ asked, controlUrl, roles }: Extract<Job, { kind: 'storm' }>): Promise<StormResult> {
  const result: StormResult = { ms: [], failed: {}, lost: [] };
  const granted: { run: string; proxies: string[] }[] = [];
  const lost = new Set<string>();
  const check = async ({ run, proxies }: { run: string; proxies: string[] }) => {
    const { text } = await post(`${controlUrl}/trusting`, { account: `run-${run}`, proxies });
    if (proxies.length !== roles || (JSON.parse(text) as string[]).length !== roles) lost.add(run);
  };
  await Promise.all(
    asked.map(async (one) => {
      const { status, text, ms } = await grant(one).catch((error: unknown) => ({
        status: 0,
        text: String(error),
        ms: 0,
      }));
      if (status === 200) {
        result.ms.push(ms);
        granted.push({ run: one.run, proxies: proxiesOf(text) });
        await check({ run: one.run, proxies: proxiesOf(text) });
      } else {
        const code = codeOf(status, text);
        result.failed[code] = (result.failed[code] ?? 0) + 1;
      }
    }),
  );
  // Once more when all is quiet: a later write must not have thrown anybody out.
  await delay(3_000);
  await Promise.all(granted.map(check));
  return { ...result, lost: [...lost] };
}

async function serial({ asked, pauseMs }: Extract<Job, { kind: 'serial' }>): Promise<{ ms: number[] }> {
  const ms: number[] = [];
  for (const one of asked) {
    if (pauseMs > 0) await delay(pauseMs);
    const answer = await grant(one);
    if (answer.status !== 200 || proxiesOf(answer.text).length === 0) {
      throw new Error(`${answer.status} ${answer.text.slice(0, 300)}`);
    }
    ms.push(answer.ms);
  }
  return { ms };
}

function run(job: Job): Promise<StormResult | RateResult | { ms: number[] }> {
  if (job.kind === 'storm') return storm(job);
  return job.kind === 'serial' ? serial(job) : keepAsking(job);
}

createInterface(process.stdin)
  .on('line', async (line) => {
    try {
      process.stdout.write(`${JSON.stringify({ result: await run(JSON.parse(line) as Job) })}\n`);
    } catch (error) {
      process.stdout.write(`${JSON.stringify({ failure: String(error) })}\n`);
    }
  })
  .on('close', () => process.exit(0));
