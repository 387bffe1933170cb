/** Owns the state that the demo's steps share: the system, the screen and the story's run; and calls that are shown on the screen. */
import assert from 'node:assert/strict';
import type { SidecarProcess } from '../stack/sidecars.ts';
import type { Answer } from './https.ts';
import type { Screen } from './screen.ts';
import type { System } from './system.ts';
import type { Workload } from './workload.ts';

export interface Scene {
  readonly system: System;
  readonly screen: Screen;
  /** The story's run, 24 hex digits, with its service account and its sidecar, once they exist. */
  readonly run: string;
  account: string;
  sidecar: SidecarProcess | undefined;
  /** The run that has its role through a token, once it exists. */
  tokenRun: { readonly pod: string; readonly sidecar: SidecarProcess } | undefined;
  /** User -> the newest workload under Pod Identity. */
  readonly workloads: Map<string, Workload>;
}

export interface Call {
  /** The user whose token the call carries. */
  as?: string;
  /** Another token in place of a user's. */
  token?: string;
  /** The name of that token in the shown command. */
  tokenName?: string;
  body?: unknown;
  /** Shortens the shown answer, for one that is long or was shown before; by default all of it is shown. */
  show?: (text: string) => string;
  /** The expected status. */
  status?: number;
}

export function newScene(system: System, screen: Screen): Scene {
  const none = { account: '', sidecar: undefined, tokenRun: undefined };
  return { system, screen, run: '646d27b817c28b5ea4b5b0c1', ...none, workloads: new Map() };
}

/** Makes a call as a person would with curl, and shows command and answer. @throws AssertionError when the status is another. */
export async function curl(scene: Scene, method: string, path: string, call: Call = {}): Promise<Answer> {
  const { as, tokenName, body, show = (text) => text, status = 200 } = call;
  const words = [
    'curl',
    '--cacert $CA',
    ...(method === 'GET' ? [] : [`-X ${method}`]),
    path.includes('?') ? `"$IRSA${path}"` : `$IRSA${path}`,
  ];
  const name = as === undefined ? tokenName : `$${variableOf(as)}`;
  if (name !== undefined) words.push(`-H "Authorization: Bearer ${name}"`);
  if (body !== undefined) words.push('-H Content-Type:application/json', `-d '${bodyText(body)}'`);
  scene.screen.command(...words);
  const answer = await scene.system.call(method, path, call);
  scene.screen.answer(`HTTP ${answer.status}  ${answer.type.replace(/;.*/, '')}`);
  scene.screen.answer(show(readable(answer)));
  assert.equal(answer.status, status, `${method} ${path} answered ${answer.status} where ${status} was due`);
  return answer;
}

/** The shell variable with a user's token. */
export function variableOf(user: string): string {
  return user.toUpperCase().replaceAll('-', '_');
}

/** JSON, over several lines where one line would be too long. */
function bodyText(body: unknown): string {
  const line = JSON.stringify(body);
  return line.length > 60 ? JSON.stringify(body, null, 2) : line;
}

function readable({ type, text }: Answer): string {
  return /\bjson\b/.test(type) ? bodyText(JSON.parse(text)) : text;
}

/** Shows that a statement holds. @throws where it does not. */
export function check(scene: Scene, holds: boolean, what: string): void {
  assert.ok(holds, `this does not hold: ${what}`);
  scene.screen.held(what);
}
