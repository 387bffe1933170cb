/** Owns the wiring of the sidecar: starts and stops the rounds, HTTP, the checks between rounds and the token watch together. */
import { watchAccess } from './access-watch.ts';
import { readText } from './config-file.ts';
import { doctorText, doctorView } from './doctor.ts';
import { Failure } from './failure.ts';
import { type HttpHandlers, type HttpListening, listenHttp, type Reply } from './http.ts';
import { createKeeper, type Keeper, type SidecarOptions } from './keeper.ts';
import type { SourceProfile } from './profiles.ts';
import { recheck } from './recheck.ts';
import { serviceCall } from './round.ts';
import { askAccess } from './service-client.ts';
import {
  noticeOf,
  offeredOf,
  problemView,
  type RefreshView,
  type StatusView,
  stateOf,
  statusView,
  type Told,
} from './status.ts';
import { assumeSource } from './sts.ts';
import { watchTokenFile } from './token-file.ts';

export interface Sidecar {
  /** `http://127.0.0.1:<port>` */
  readonly url: string;
  /** Resolves when a config was written and proved for the first time, which may never happen. */
  readonly ready: Promise<void>;
  status(): StatusView;
  /** Does what `/refresh` does. */
  refresh(): Promise<RefreshView>;
  /** Ends everything at once; files are complete at any time. */
  stop(): Promise<void>;
}

/** Begins the first round and listens. @throws where the port is taken. */
export async function startSidecar(options: SidecarOptions): Promise<Sidecar> {
  const { config, clock, log, random = Math.random } = options;
  const stopping = new AbortController();
  const { signal } = stopping;
  const keeper = createKeeper(options, signal);
  const { refresh, sessions } = keeper;
  const http: HttpListening = await listenHttp(config.port, {
    ready: () => readyReply(keeper.told()),
    status: () => ({ status: 200, body: statusView(keeper.told()) }),
    default: serveDefault(keeper),
    doctor: async (asJson, environment) => {
      const view = await examine(options, keeper, signal, environment);
      return { status: 200, body: asJson ? view : doctorText(view) };
    },
    refresh: async () => {
      const body = await refresh();
      if (body.result === 'ok') return { status: 200, body };
      const wait = body.next_try === null ? undefined : (Date.parse(body.next_try) - clock.now()) / 1000;
      return { status: 503, body, retryAfterSeconds: wait };
    },
  });
  log.info({ port: http.port, refresh_seconds: config.refreshMs / 1000, prove: config.prove }, 'listening');
  void keeper.rounds.ask('start');
  void sessions?.keepFresh(signal);
  void keeper.roleTokens?.keepFresh(() => serviceCall(options, signal), signal);
  const looks = { clock, random, signal };
  // Where the sidecar holds the sessions, each renewal shows whether AWS still accepts this run, so only the service is asked.
  if (sessions) {
    const ask = async () => askAccess(await serviceCall(options, signal));
    const onLost = () => void keeper.rounds.askAfter('recheck');
    void watchAccess({ ...looks, everyMs: config.recheckMs, log, ask, onLost });
  } else {
    const everyMs = config.prove ? config.recheckMs : 0;
    const ask = (source: SourceProfile) => assumeSource(source, keeper.sts());
    void recheck({ ...looks, everyMs, proved: keeper.proved, ask, onRefused: keeper.onRefused });
  }
  void watchTokenFile(config.tokenFile, clock, signal, () => {
    log.info('the web identity token was replaced');
    void keeper.rounds.askAfter('token');
  });
  return {
    url: `http://127.0.0.1:${http.port}`,
    ready: keeper.ready,
    status: () => statusView(keeper.told()),
    refresh,
    stop: async () => {
      stopping.abort();
      keeper.rounds.stop();
      await http.close();
    },
  };
}

/** @returns undefined where default profiles are switched off. */
function serveDefault({ defaultProfile, told }: Keeper): HttpHandlers['default'] {
  if (!defaultProfile) return undefined;
  return (path, query, authorization) => {
    const offered = offeredOf(told());
    if (path === '/default') return defaultProfile.choose(query, offered);
    return path === '/default/credentials' ? defaultProfile.credentials(authorization, offered) : undefined;
  };
}

/** Asks the service for the user, and builds the doctor's report. */
async function examine(options: SidecarOptions, keeper: Keeper, signal: AbortSignal, environment: string | undefined) {
  const { config, clock } = options;
  const { endpoint, credentials } = config;
  const call = serviceCall(options, signal).then((made) => askAccess({ ...made, deadlineMs: doctorMs }));
  const access = await call.catch((error: unknown) =>
    error instanceof Failure ? error : new Failure('internal', { cause: error }),
  );
  const configText = readText(config.configFile).text;
  const [told, clockAheadMs] = [keeper.told(), keeper.clockAheadMs()];
  return doctorView({ told, now: clock.now(), endpoint, credentials, configText, access, clockAheadMs, environment });
}

/** Short, since a person waits. */
const doctorMs = 5_000;

/** Runs rounds until one succeeds, without HTTP. @returns whether one did before `onceTimeoutMs`, or the signal. */
export async function runOnce(options: SidecarOptions, signal: AbortSignal): Promise<boolean> {
  const { config, clock, log } = options;
  const end = new AbortController();
  const keeper = createKeeper({ ...options, config: { ...config, refreshMs: 0 } }, end.signal);
  void keeper.rounds.ask('start');
  const timeout = clock.sleep(config.onceTimeoutMs, AbortSignal.any([signal, end.signal])).then(() => false);
  const done = await Promise.race([keeper.ready.then(() => true), timeout]);
  end.abort();
  keeper.rounds.stop();
  if (!done && !signal.aborted) log.error({ seconds: config.onceTimeoutMs / 1000 }, 'no proved AWS config in time');
  return done;
}

function readyReply(told: Told): Reply {
  const state = stateOf(told);
  const notice = noticeOf(told);
  if (told.ready && state !== 'revoked') {
    return { status: 200, body: { status: 'Ready', ...(notice ? { notice } : {}) } };
  }
  const failure = told.rounds.last?.failure;
  const proving = told.written ? 'The AWS config is written; AWS is being asked whether it works.' : undefined;
  const reason = proving ?? 'The first AWS config is being fetched.';
  const body = failure ? problemView(failure) : { reason };
  return { status: 503, body: { status: 'NotReady', state, ...body } };
}
