/** Owns the load at a steady rate: each run's config, its token where the role comes by one, and whether a sample of them opens the role. */
import { setTimeout as delay } from 'node:timers/promises';
import { type Asked, codeOf, nameOf, proxyArnsOf, type StormResult } from './answers.ts';
import { post } from './clients.ts';

export interface PacedJob {
  kind: 'paced';
  asked: (Asked & { pod: string })[];
  perSecond: number;
  byToken: boolean;
  /** A run that has no answer by then counts as failed. */
  callMs: number;
  /** The number of runs, spread evenly, for which STS or the trust policy shows whether they can assume their role. */
  sample: number;
  stsUrl: string;
  controlUrl: string;
}

interface Given {
  run: string;
  proxy: string;
  token: string | undefined;
}

/** Two calls of a run, and one for the sample. @returns milliseconds after which the job is over in any case. */
export function pacedLimitMs({ asked, perSecond, callMs }: PacedJob): number {
  return (asked.length / perSecond) * 1000 + 3 * callMs + 30_000;
}

/** @param report is called every few seconds with the number of runs that are done. */
export async function paced(job: PacedJob, report: (done: number) => void): Promise<StormResult> {
  const { asked, perSecond } = job;
  const result: StormResult = { ms: [], failed: {}, lost: [] };
  const given: Given[] = [];
  const start = performance.now();
  let done = 0;
  const timer = setInterval(() => report(done), 5_000);
  const one = async (run: (typeof asked)[number], index: number) => {
    await delay(Math.max(0, start + (index * 1000) / perSecond - performance.now()));
    const began = performance.now();
    const answer = await take(run, job).catch((error: unknown) => ({ failed: codeOf(0, String(error)) }));
    done += 1;
    if ('failed' in answer) result.failed[answer.failed] = (result.failed[answer.failed] ?? 0) + 1;
    else if ('lost' in answer) result.lost.push(run.run);
    else {
      result.ms.push(performance.now() - began);
      given.push(answer);
    }
  };
  try {
    await Promise.all(asked.map(one));
    result.lost.push(...(await closedTo(sampleOf(given, job.sample), job)));
  } finally {
    clearInterval(timer);
  }
  return result;
}

/** @throws Error where a call has no answer. */
async function take(
  { url, token, run, pod }: PacedJob['asked'][number],
  { byToken, callMs }: PacedJob,
): Promise<Given | { failed: string } | { lost: true }> {
  const headers = { authorization: `Bearer ${token}` };
  const ask = (path: string, body: object) => post(`${url}/${path}`, body, headers, callMs);
  const config = await ask('map_iam_roles_to_pod_sa', { run_id: run, ...(byToken ? { role_tokens: true } : {}) });
  if (config.status !== 200) return { failed: codeOf(config.status, config.text) };
  const [proxy] = proxyArnsOf(config.text);
  if (proxy === undefined) return { lost: true };
  if (!byToken) return { run, proxy, token: undefined };
  const answer = await ask('role_tokens', { run_id: run, pod });
  if (answer.status !== 200) return { failed: codeOf(answer.status, answer.text) };
  const [first] = (JSON.parse(answer.text) as { tokens: { token: string }[] }).tokens;
  return first ? { run, proxy, token: first.token } : { lost: true };
}

function sampleOf(given: readonly Given[], size: number): Given[] {
  const step = Math.max(1, given.length / size);
  return Array.from({ length: Math.min(size, given.length) }, (_, index) => given[Math.floor(index * step)]).filter(
    (one) => one !== undefined,
  );
}

/** One after the other, so that STS gets no burst. @returns the runs that cannot assume their role. */
async function closedTo(sample: readonly Given[], job: PacedJob): Promise<string[]> {
  const lost: string[] = [];
  for (const one of sample) if (!(await opens(one, job).catch(() => false))) lost.push(one.run);
  return lost;
}

async function opens({ run, proxy, token }: Given, { stsUrl, controlUrl, callMs }: PacedJob): Promise<boolean> {
  if (token === undefined) {
    const { text } = await post(
      `${controlUrl}/trusting`,
      { account: `run-${run}`, proxies: [nameOf(proxy)] },
      {},
      callMs,
    );
    return (JSON.parse(text) as string[]).length === 1;
  }
  const query = new URLSearchParams({
    Action: 'AssumeRoleWithWebIdentity',
    Version: '2011-06-15',
    RoleArn: proxy,
    RoleSessionName: 'bench',
    WebIdentityToken: token,
  });
  const answer = await fetch(stsUrl, { method: 'POST', body: query, signal: AbortSignal.timeout(callMs) });
  return answer.ok && (await answer.text()).includes('<AccessKeyId>');
}
