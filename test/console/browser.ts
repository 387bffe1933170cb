/** Owns the real browser of the console's tests: the machine's Chromium, and a record of a page's errors and origins. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { which } from '../stack/clients.ts';

/** Undefined on a machine without Chromium. */
export function chromiumPath(): string | undefined {
  return process.env.CHROMIUM ?? which('chromium') ?? which('chromium-browser') ?? which('google-chrome');
}

export function launch(executablePath: string): Promise<Browser> {
  // Chromium's own sandbox does not work for root, as CI runs; the browser opens only pages that the tests serve.
  return chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-dev-shm-usage'] });
}

export interface Watched {
  readonly page: Page;
  /** Errors that the page threw or the browser logged, policy violations included. */
  readonly errors: readonly string[];
  /** The origins of all requests. */
  readonly origins: ReadonlySet<string>;
}

/** A page in a fresh profile, which accepts the test's certificate of the service. */
export async function openPage(browser: Browser, options: BrowserContextOptions = {}): Promise<Watched> {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, reducedMotion: 'reduce', ...options });
  context.setDefaultTimeout(10_000);
  const page = await context.newPage();
  const errors: string[] = [];
  const origins = new Set<string>();
  page.on('pageerror', (error) => errors.push(String(error)));
  // The page shows refused calls itself; the browser logs them as well.
  page.on('console', (line) => {
    if (line.type() === 'error' && !line.text().startsWith('Failed to load resource')) errors.push(line.text());
  });
  page.on('request', (request) => {
    if (!/^(blob|data):/.test(request.url())) origins.add(new URL(request.url()).origin);
  });
  return { page, errors, origins };
}

/** Counts each press of the pointer on every later page, including the realm's login page. */
export async function onPress(page: Page, pressed: () => void): Promise<void> {
  await page.exposeFunction('pointerPressed', pressed);
  await page.addInitScript("addEventListener('pointerdown', () => pointerPressed(), true)");
}

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** @returns axe's findings on the current page, a line each. */
export async function axeFindings(page: Page): Promise<string[]> {
  await page.evaluate(axeSource);
  const { violations } = (await page.evaluate('axe.run()')) as {
    violations: { id: string; help: string; nodes: { html: string; failureSummary: string }[] }[];
  };
  return violations.flatMap(({ id, help, nodes }) =>
    nodes.map(({ html, failureSummary }) => `${id}: ${help}: ${html} ${failureSummary}`),
  );
}
