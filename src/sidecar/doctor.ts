/** Owns `/doctor`: reports the user, the state of each role, hop by hop, and problems of the environment. Pure. */
import { jsonFields } from '../lib/json.ts';
import type { DefaultView } from './default-profile.ts';
import { environmentFindings, type Finding, fileFindings, readEnvironment } from './environment.ts';
import { Failure, oneLine } from './failure.ts';
import { type ProblemView, type ProfileView, problemView, type StatusView, statusView, type Told } from './status.ts';

export type HopView = 'proved' | 'failed' | 'not asked';

export interface DoctorView
  extends Pick<StatusView, 'run_id' | 'state' | 'config_file' | 'refused' | 'default_profile' | 'notice'> {
  time: string;
  /** Null where the service did not name the user. */
  user: string | null;
  organizations: readonly string[] | null;
  endpoint: string;
  /** Whether an HTTP answer came, a refusal too. */
  service_answers: boolean;
  /** Why the service did not name the user. */
  service_problem: ServiceProblem | null;
  /** How far this machine's clock is ahead of AWS's. */
  clock_ahead_seconds: number | null;
  credentials: 'process' | 'chain';
  profiles: RoleView[];
  environment: Finding[];
  /** False where the request had no environment. */
  environment_known: boolean;
  newest_refusal: ProblemView | null;
}

export interface ServiceProblem extends ProblemView {
  /** The HTTP status of the answer; null where none came. */
  status: number | null;
}

export interface RoleView {
  name: string;
  role: string;
  proxy_role: string | null;
  to_proxy_role: HopView;
  to_role: HopView;
  session_expires: string | null;
  problem: string | null;
  what_to_do: string | null;
}

export interface Examined {
  readonly told: Told;
  readonly now: number;
  readonly endpoint: string;
  readonly credentials: 'process' | 'chain';
  readonly configText: string | undefined;
  /** The service's answer to `/my_access`, or why there is none; undefined where the sidecar did not send the request. */
  readonly access: string | Failure | undefined;
  readonly clockAheadMs: number | undefined;
  /** The output of `env`, where the request had it. */
  readonly environment: string | undefined;
}

export function doctorView(examined: Examined): DoctorView {
  const { told, now, endpoint, credentials, access, clockAheadMs, environment } = examined;
  const { state, run_id, refused, last_error, config_file, default_profile, notice, ...status } = statusView(told);
  const who = readAccess(access);
  const profiles = status.profiles.map((view) => roleView(view, told));
  const around = {
    configFile: config_file,
    configText: examined.configText,
    profiles: profiles.map(({ name }) => name),
  };
  return {
    time: new Date(now).toISOString(),
    user: who?.user ?? null,
    organizations: who?.organizations ?? null,
    run_id,
    state,
    endpoint,
    service_answers: access instanceof Failure ? access.answer !== undefined : access !== undefined,
    service_problem: problemOf(access, who !== undefined),
    clock_ahead_seconds: clockAheadMs === undefined ? null : Math.round(clockAheadMs / 1000),
    credentials,
    config_file,
    profiles,
    refused,
    default_profile,
    environment: [
      ...fileFindings(around),
      ...(environment === undefined ? [] : environmentFindings(readEnvironment(environment), around)),
    ],
    environment_known: environment !== undefined,
    notice,
    newest_refusal: last_error,
  };
}

function roleView(view: ProfileView, { written }: Told): RoleView {
  const { config } = written?.what ?? {};
  const way = config?.profiles.find(({ name }) => name === view.name);
  const source = config?.sources.find(({ name }) => name === way?.source);
  const failed = view.problem !== undefined;
  const asked = failed || view.proved === true || view.session_expires !== undefined;
  return {
    name: view.name,
    role: view.role,
    proxy_role: source?.roleArn ?? null,
    to_proxy_role: !asked ? 'not asked' : failed && view.hop !== 'target' ? 'failed' : 'proved',
    to_role: !asked || (failed && view.hop !== 'target') ? 'not asked' : failed ? 'failed' : 'proved',
    session_expires: view.session_expires ?? null,
    problem: view.problem ?? null,
    what_to_do: view.what_to_do ?? null,
  };
}

function problemOf(access: Examined['access'], isUnderstood: boolean): ServiceProblem | null {
  if (isUnderstood) return null;
  if (access instanceof Failure) {
    const { status, code } = access.answer ?? {};
    return { ...problemView(access), code: code || access.code, status: status ?? null };
  }
  if (access !== undefined) return { ...problemView(new Failure('unexpected_answer')), status: 200 };
  return { ...problemView(new Failure('endpoint_not_found')), status: null };
}

function readAccess(access: Examined['access']): { user: string; organizations: string[] } | undefined {
  const { user, domino_orgs: organizations } = jsonFields(typeof access === 'string' ? access : '');
  if (typeof user !== 'string' || !Array.isArray(organizations)) return undefined;
  return { user: oneLine(user), organizations: organizations.map((name) => oneLine(String(name))) };
}

/** The report as text for a terminal. */
export function doctorText(view: DoctorView): string {
  const { user, organizations, run_id, state, newest_refusal: refusal, notice } = view;
  const who = user === null ? 'The service does not say who you are' : `You are ${user} to Domino`;
  const where = organizations === null ? '' : `, in ${organizations.join(', ') || 'no organization'}`;
  return [
    `irsa-svc doctor, ${view.time}`,
    '',
    `${who}${where}. Run: ${run_id ?? 'not known yet'}. State: ${state}.`,
    serviceLine(view),
    clockLine(view.clock_ahead_seconds),
    '',
    `Your roles, in ${view.config_file} (${view.credentials === 'process' ? 'the sidecar holds their sessions' : 'tools ask AWS themselves'}):`,
    ...(view.profiles.length === 0 ? ['  none'] : view.profiles.flatMap(roleLines)),
    ...view.refused.map(({ name, reason }) => `  ${name}: refused by the service: ${reason}`),
    ...(notice ? [`  ${notice.message} ${notice.what_to_do}`] : []),
    ...(view.default_profile ? [defaultLine(view.default_profile)] : []),
    '',
    'Your environment, as an AWS SDK sees it:',
    ...view.environment.map(({ level, message, what_to_do }) =>
      level === 'ok' ? `  ok: ${message}` : `  IN THE WAY: ${message} ${what_to_do}`,
    ),
    ...(view.environment_known
      ? []
      : ['  To have it looked at: env | grep ^AWS_ | curl -s --data-binary @- localhost:6003/doctor']),
    '',
    refusal
      ? `The newest refusal (${refusal.at}), ${refusal.code}: ${refusal.message} ${refusal.what_to_do}`
      : 'Nothing was refused since the sidecar started.',
    '',
  ].join('\n');
}

function serviceLine({ endpoint, service_answers, service_problem: problem }: DoctorView): string {
  if (problem === null) return `Service: ${endpoint} answers.`;
  const { status, code, message, what_to_do } = problem;
  const how = status === null ? code : `HTTP ${status}, ${code}`;
  const which = service_answers ? 'REFUSES' : notAsked.test(code) ? 'WAS NOT ASKED' : 'DOES NOT ANSWER';
  return `Service: ${endpoint} ${which} (${how}): ${message} ${what_to_do}`;
}

/** Codes that mean no call was made: the pod lacks what the call needs, or the address does not lead to the service. */
const notAsked = /^(run_unknown|token_proxy_\w+|endpoint_not_found)$/;

function defaultLine({ profile, chosen_by, problem, what_to_do }: DefaultView): string {
  const who = chosen_by === 'mapping' ? 'your organization proposes it' : 'you chose it';
  const which = `Default profile: ${profile ?? 'none'}${profile === null ? '' : `, ${who}`}.`;
  if (problem === undefined) return which;
  return `${which}${profile === null ? '' : ' IT HAS NO SESSION:'} ${problem} ${what_to_do ?? ''}`;
}

function clockLine(ahead: number | null): string {
  if (ahead === null) return 'Clock: AWS has not been asked yet.';
  const off = Math.abs(ahead);
  const words = `${off} s ${ahead < 0 ? 'behind' : 'ahead of'} AWS's`;
  return off <= 60
    ? `Clock: ${words}.`
    : `Clock: ${words}. AWS REFUSES CALLS FROM 5 MINUTES ON: tell your administrator.`;
}

function roleLines({ name, role, proxy_role, to_proxy_role, to_role, session_expires, ...rest }: RoleView): string[] {
  const session = session_expires === null ? '' : `; session until ${session_expires}`;
  return [
    `  ${name}`,
    `    this run -> ${proxy_role ?? 'no proxy role'}: ${to_proxy_role}`,
    `    -> ${role}: ${to_role}${session}`,
    ...(rest.problem === null ? [] : [`    ${rest.problem}. ${rest.what_to_do ?? ''}`]),
  ];
}
