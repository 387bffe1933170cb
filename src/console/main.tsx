/** Owns the console's frame: the login, the navigation, and the open page. */
import { signal } from '@preact/signals';
import { type FunctionComponent, render } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { CallError, call, config } from './api.ts';
import { finishLogin, isReturning } from './login.ts';
import { ActivityPage } from './pages/activity.tsx';
import { LoginPage } from './pages/login.tsx';
import { OrganizationsPage } from './pages/organizations.tsx';
import { OverviewPage } from './pages/overview.tsx';
import { PodIdentityPage } from './pages/pod-identity.tsx';
import { ProxyRolesPage } from './pages/proxy-roles.tsx';
import { WhyPage } from './pages/why.tsx';
import { Button } from './parts/bits.tsx';
import { linkTo, reread, route } from './route.ts';
import { begin, end, loginProblem, secondsLeft, session, tick } from './session.ts';
import type { ConsoleConfig } from './types.ts';

interface Page {
  readonly name: string;
  readonly title: string;
  readonly shows: FunctionComponent;
}

const pages: readonly Page[] = [
  { name: '', title: 'Overview', shows: OverviewPage },
  { name: 'why', title: 'Why?', shows: () => <WhyPage isOwn={false} /> },
  { name: 'organizations', title: 'Organizations', shows: OrganizationsPage },
  { name: 'roles', title: 'Proxy roles', shows: ProxyRolesPage },
  { name: 'pod-identity', title: 'Pod Identity', shows: PodIdentityPage },
  { name: 'activity', title: 'Activity', shows: ActivityPage },
];
const ownPages: readonly Page[] = [{ name: 'why', title: 'My access', shows: () => <WhyPage isOwn={true} /> }];

/** Whether the service lets the viewer see other users' data. Undefined until the service has answered. */
const isAdmin = signal<boolean | undefined>(undefined);

async function askRights(): Promise<void> {
  const user = session.peek()?.user;
  const error: unknown = await call('trust_status', { query: { limit: 1 } })
    .then(() => undefined)
    .catch((it) => it);
  // The answer is dropped if another person has logged in meanwhile.
  if (session.peek()?.user !== user) return;
  // The open page sends requests of its own, and reports any other error.
  isAdmin.value = !(error instanceof CallError && error.status === 403);
}

function Header({ shown }: { shown: readonly Page[] }) {
  const current = session.value;
  const left = secondsLeft.value;
  return (
    <header class="top">
      <a class="brand" href={linkTo('')}>
        irsa-svc
      </a>
      <nav aria-label="Pages">
        {shown.map(({ name, title }) => (
          <a key={name} href={linkTo(name)} aria-current={route.value.page === name ? 'page' : undefined}>
            {title}
          </a>
        ))}
      </nav>
      {current && (
        <div class="who">
          <span>{current.user}</span>
          {!current.renew && (
            <span class={left < 60 ? 'mark warn' : 'faint'} title="Until this session ends">
              {Math.floor(left / 60)}:{String(left % 60).padStart(2, '0')}
            </span>
          )}
          <Button label="Log out" onClick={() => end('')} />
        </div>
      )}
    </header>
  );
}

function Console() {
  const known = session.value !== undefined;
  const shown = !known || isAdmin.value === undefined ? [] : isAdmin.value ? pages : ownPages;
  const page = shown.find(({ name }) => name === route.value.page) ?? shown[0];
  const title = page?.title ?? 'Log in';
  const heading = useRef<HTMLHeadingElement>(null);
  const opened = useRef('');
  useEffect(() => {
    document.title = `${title} · irsa-svc`;
    // Moving the focus makes a screen reader announce the new page; the browser announces the first one itself.
    if (opened.current !== '' && opened.current !== title) heading.current?.focus();
    opened.current = title;
  }, [title]);
  const Shown = page?.shows;
  return (
    <>
      <button type="button" class="skip" onClick={() => heading.current?.focus()}>
        Skip to the content
      </button>
      <Header shown={shown} />
      <main>
        <h1 ref={heading} tabIndex={-1}>
          {title}
        </h1>
        {known ? Shown ? <Shown /> : <p class="faint">Loading…</p> : <LoginPage />}
      </main>
      <footer>
        irsa-svc {config.value?.version} · <a href="docs">calls</a>
      </footer>
    </>
  );
}

async function start(): Promise<void> {
  const isBack = isReturning();
  try {
    const loaded = await call<ConsoleConfig>('console/config');
    config.value = loaded;
    if (isBack) begin(await finishLogin(loaded));
  } catch (error) {
    loginProblem.value = error instanceof Error ? error.message : String(error);
  }
  if (isBack) reread();
}

addEventListener('hashchange', reread);
session.subscribe((current) => {
  if (current && isAdmin.peek() === undefined) void askRights();
  if (!current) isAdmin.value = undefined;
});
setInterval(tick, 1000);
const root = document.getElementById('console');
if (root) render(<Console />, root);
void start();
