/** Owns the load, in a process of its own: one JSON job on stdin, one JSON result on stdout, and its progress before. */

import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { type Asked, codeOf, nameOf, proxyArnsOf, type StormResult } from './answers.ts';
import { keepAsking, post } from './clients.ts';
import { type PacedJob, paced } from './paced.ts';

export type Job =
  /** All at once; each 200 is compared with the trust policies as soon as it arrives, and again at the end. */
  | { kind: 'storm'; asked: Asked[]; controlUrl: string; roles: number }
  /** A fixed number per second, however long answers take: the config, and the token where the role comes by one. */
  | PacedJob
  /** One after the other. */
  | { kind: 'serial'; asked: Asked[]; pauseMs: number }
  /** GET over a number of connections, each with one request under way. */
  | { kind: 'rate'; url: string; token: string; connections: number; seconds: number };

export interface RateResult {
  perSecond: number;
  requests: number;
}

const proxiesOf = (config: string) => proxyArnsOf(config).map(nameOf);

async function grant({ url, token, run }: Asked) {
  const start = performance.now();
  const answer = await post(`${url}/map_iam_roles_to_pod_sa`, { run_id: run }, { authorization: `Bearer ${token}` });
  return { ...answer, ms: performance.now() - start };
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
  // Once more at the end: a later write must not have removed a member.
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

function say(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

function run(job: Job): Promise<StormResult | RateResult | { ms: number[] }> {
  if (job.kind === 'storm') return storm(job);
  if (job.kind === 'paced') return paced(job, (done) => say({ progress: `${done} of ${job.asked.length} runs` }));
  return job.kind === 'serial' ? serial(job) : keepAsking(job);
}

createInterface(process.stdin)
  .on('line', async (line) => {
    try {
      say({ result: await run(JSON.parse(line) as Job) });
    } catch (error) {
      say({ failure: String(error) });
    }
  })
  .on('close', () => process.exit(0));
