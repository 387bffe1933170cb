/** Owns a console whose calls the test answers: the built files in a real browser, without a service. */
import type { Browser, Page, Request } from 'playwright-core';
import { buildConsole } from '../../build-console.ts';
import { chromiumPath, launch, openPage, type Watched } from './browser.ts';

/** Nothing listens there: the test answers each request. */
export const root = 'http://127.0.0.1:9';

export interface Asked {
  /** Such as `GET /activity`. */
  readonly call: string;
  readonly query: Readonly<Record<string, string>>;
  readonly body: Readonly<Record<string, unknown>>;
  readonly token: string | undefined;
}

interface Given {
  readonly status?: number;
  readonly json: unknown;
}

export type Answers = Readonly<Record<string, (asked: Asked) => Given | Promise<Given>>>;

export interface Answered extends Watched {
  readonly asked: readonly Asked[];
  /** Opens a page of the console, such as `#/activity`, and pastes a token. */
  logIn(hash: string, token?: string): Promise<void>;
}

const base: Answers = {
  'GET /console/config': () => ({
    json: { issuer: `${root}/realm`, client_id: null, version: '0.0.0', runbook_url: null },
  }),
  'GET /trust_status': () => ({ json: trustStatus({}) }),
  'GET /role_mappings': () => ({ json: { all_role_mappings: {}, organizations: {} } }),
  'GET /revoked_runs': () => ({ json: { revoked_runs: [] } }),
};

/** A trust status without proxy roles and problems. */
export function trustStatus(more: object) {
  const zeros = ['proxy_roles', 'runs_with_roles', 'in_error', 'waiting', 'external_changes', 'held'];
  const counts = Object.fromEntries([...zeros, 'not_checked_yet', 'revoked_runs'].map((name) => [name, 0]));
  const totals: Record<string, unknown> = { ...counts, replicas: { ready: 3, wanted: 3 } };
  return { lease_holder: 'one', totals, proxy_roles: [], pools: [], ...more };
}

export const arn = (name: string) => `arn:aws:iam::111111111111:role/${name}`;

/** A managed proxy role without members. */
export function proxyRole(name: string) {
  return { proxy_iam_role_arn: arn(name), mapped: true, published: true, members: [], waiting: [] };
}

/** An unsigned token: the console reads its user and its expiry, and only the service verifies it. */
export function tokenOf(user: string, seconds = 3600): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const exp = Math.floor(Date.now() / 1000) + seconds;
  return `${part({ alg: 'none' })}.${part({ preferred_username: user, exp })}.x`;
}

/** Starts a browser for a suite, which is skipped on a machine without one. @returns a function that opens a console. */
export function answeredConsoles(): (answers: Answers) => Promise<Answered> {
  let browser: Browser;
  before(async function () {
    const path = chromiumPath();
    if (path === undefined) {
      console.log('SKIPPED: the pages of the console are not tested: this machine has no Chromium');
      this.skip();
    }
    browser = await launch(path);
  });
  after(() => browser?.close());
  afterEach(async () => {
    for (const context of browser?.contexts() ?? []) await context.close();
  });
  return (answers) => openAnswered(browser, answers);
}

/** @param answers by method and path; the others are those of a service without problems. */
async function openAnswered(browser: Browser, answers: Answers): Promise<Answered> {
  const watched = await openPage(browser);
  const { page } = watched;
  const asked: Asked[] = [];
  await serve(page, { ...base, ...answers }, asked);
  return {
    ...watched,
    asked,
    logIn: async (hash, token = tokenOf('admin')) => {
      // A URL that differs only after the # would not reload the page.
      await page.goto('about:blank');
      await page.goto(`${root}/console${hash}`);
      await page.getByLabel('Token').fill(token);
      await page.getByRole('button', { name: 'Use it' }).click();
    },
  };
}

async function serve(page: Page, answers: Answers, asked: Asked[]): Promise<void> {
  const files = await buildConsole();
  const types = { js: 'text/javascript', css: 'text/css', html: 'text/html', svg: 'image/svg+xml' };
  await page.route('**/*', async (route) => {
    const request = route.request();
    const { pathname, searchParams } = new URL(request.url());
    const name = pathname === '/console' ? 'index.html' : pathname.replace('/console/', '');
    const file = files.get(name);
    if (file) {
      const contentType = types[name.split('.').at(-1) as keyof typeof types];
      return route.fulfill({ body: Buffer.from(file), contentType });
    }
    const one: Asked = {
      call: `${request.method()} ${pathname}`,
      query: Object.fromEntries(searchParams),
      body: bodyOf(request),
      token: (await request.headerValue('authorization'))?.replace('Bearer ', ''),
    };
    asked.push(one);
    const answer = answers[one.call];
    const { status = 200, json } = (await answer?.(one)) ?? {
      status: 404,
      json: { code: 'not_found', detail: one.call },
    };
    // The page may have aborted the call meanwhile.
    return route.fulfill({ status, json }).catch(() => undefined);
  });
}

/** Calls to the service have JSON, and calls to the realm a form. */
function bodyOf(request: Request): Record<string, unknown> {
  const text = request.postData() ?? '{}';
  return text.startsWith('{') ? JSON.parse(text) : Object.fromEntries(new URLSearchParams(text));
}
