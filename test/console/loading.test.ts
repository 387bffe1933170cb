/** Proves how the console waits for answers, and which token it sends: in a real browser, with the test's answers. */
import assert from 'node:assert/strict';
import { until } from '../support/clock.ts';
import { answeredConsoles, arn, proxyRole, root, tokenOf, trustStatus } from './answers.ts';

describe('the calls of the console', function () {
  this.timeout(60_000);
  const open = answeredConsoles();

  it('show an answer that takes longer than the refresh interval', async () => {
    const asked: PromiseWithResolvers<{ json: unknown }>[] = [];
    const { page, logIn } = await open({
      'GET /access': () => {
        const answer = Promise.withResolvers<{ json: unknown }>();
        asked.push(answer);
        return answer.promise;
      },
    });
    const access = (org: string) => ({ json: { user: 'alice', domino_orgs: [org], access: [] } });
    await page.clock.install();
    await logIn('#/why?user=alice', tokenOf('admin', 86_400));
    await page.getByText('Loading…').waitFor();
    await page.clock.runFor(45_000);
    assert.equal(asked.length, 1, 'the call under way is awaited');
    asked[0]?.resolve(access('acme'));
    await page.getByText('belongs to acme').waitFor();
    // The page sets its timer, and the browser sends the call, only after the page's clock has moved.
    await until(async () => {
      await page.clock.runFor(1_000);
      return asked.length === 2;
    });
    asked[1]?.resolve(access('risk'));
    await page.getByText('belongs to risk').waitFor();
  });

  it('time out after a minute without an answer', async () => {
    const { page, logIn } = await open({ 'GET /access': () => new Promise(() => {}) });
    const late = 'AbortSignal.timeout = (ms) => { globalThis.waited = ms; return AbortSignal.abort(); }';
    await logIn('#/why');
    await page.getByLabel(/^A run’s id/).fill('alice');
    await page.evaluate(late);
    await page.getByRole('button', { name: 'Find out' }).click();
    await page.getByText('The service did not answer').waitFor();
    assert.equal(await page.evaluate('waited'), 60_000);
  });

  it('keep a complete table while it reloads', async () => {
    const mapping = { domino_org: 'acme', iam_role_arn: arn('data'), update_iam_role_trust_policy: true };
    const mappings = ['one', 'two'].map((name) => ({ ...mapping, proxy_iam_role_arn: arn(name) }));
    const fits = (name: string) => ({ ...proxyRole(name), runs_that_still_fit: 9 });
    const second: PromiseWithResolvers<void>[] = [];
    let rounds = 0;
    const none = { loses: [], moves: [], gains_at_next_refresh: [], loses_at_next_refresh: [], proxy_roles: [] };
    const { page, logIn } = await open({
      'GET /role_mappings': () => ({ json: { all_role_mappings: { acme: mappings }, organizations: {} } }),
      'POST /update_multirole_mapping': ({ body: { role_data } }) => ({
        json: { domino_org: 'acme', ...none, fits: null, warnings: [], role_data },
      }),
      'GET /trust_status': async ({ query }) => {
        if (query.limit !== '100') return { json: trustStatus({}) };
        if (!query.continue) return { json: trustStatus({ proxy_roles: [fits('one')], next: 'two' }) };
        rounds += 1;
        const answer = Promise.withResolvers<void>();
        second.push(answer);
        if (rounds > 1) await answer.promise;
        return { json: trustStatus({ proxy_roles: [fits('two')] }) };
      },
    });
    await logIn('#/organizations');
    const rooms = page.getByText('room for 9');
    await rooms.nth(1).waitFor();
    await page.getByRole('button', { name: 'Edit acme' }).click();
    await page.getByRole('group', { name: 'Role 1' }).getByLabel('default profile').check();
    await page.getByRole('button', { name: 'Show the difference' }).click();
    await page.getByRole('button', { name: 'Confirm' }).click();
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    await until(() => rounds === 2, 10_000);
    assert.equal(await rooms.count(), 2, 'the rows of the second page stay until it has reloaded');
    second[1]?.resolve();
  });

  it('report a proxy role as missing only after all pages have arrived', async () => {
    const last = Promise.withResolvers<{ json: unknown }>();
    const { page, logIn } = await open({
      'GET /trust_status': ({ query }) =>
        query.continue ? last.promise : { json: trustStatus({ proxy_roles: [proxyRole('one')], next: 'two' }) },
    });
    await logIn(`#/roles?arn=${arn('gone')}`);
    await page.getByText('Loading…').waitFor();
    last.resolve({ json: trustStatus({ proxy_roles: [proxyRole('two')] }) });
    await page.getByText(/^No mapping names/).waitFor();
  });

  it('are repeated with a renewed token, and the login ends only when the realm refuses the renewal', async () => {
    const [first, second] = [tokenOf('alice', 3000), tokenOf('alice', 3001)];
    const taken = { status: 200, json: { user: 'alice', domino_orgs: ['acme'], access: [] } };
    const refused = { status: 401, json: { code: 'unauthenticated', detail: 'This token is no longer good.' } };
    let good = first;
    let realm: { status?: number; json: object } = { json: {} };
    const tokens = (token: string) => ({ access_token: token, token_type: 'Bearer', refresh_token: `after ${token}` });
    const { page, asked } = await open({
      'GET /console/config': () => ({ json: { issuer: `${root}/realm`, client_id: 'irsa-console', version: '0' } }),
      'GET /realm/.well-known/openid-configuration': () => ({
        json: {
          issuer: `${root}/realm`,
          authorization_endpoint: `${root}/realm/auth`,
          token_endpoint: `${root}/realm/token`,
        },
      }),
      'GET /realm/auth': () => ({ json: {} }),
      'POST /realm/token': ({ body }) => (body.code === 'a-code' ? { json: tokens(first) } : realm),
      'GET /access': ({ token }) => (token === good ? taken : refused),
    });
    await page.goto(`${root}/console#/why?user=alice`);
    await page.getByRole('button', { name: 'Log in with Domino' }).click();
    await page.waitForURL('**/realm/auth?*');
    const state = new URL(page.url()).searchParams.get('state') ?? '';
    await page.goto(`${root}/console#state=${state}&code=a-code`);
    await page.getByText('belongs to acme').waitFor();

    const ask = () => page.getByRole('button', { name: 'Find out' }).click();
    const askFor = async (name: string) => {
      await page.getByLabel(/^A run’s id/).fill(name);
      await ask();
    };
    const sent = (name: string) => asked.filter(({ query }) => query.user === name).map(({ token }) => token);
    good = second;
    realm = { status: 503, json: {} };
    await askFor('bob');
    await page.getByText('This token is no longer good.').waitFor();
    assert.deepEqual(sent('bob'), [first], 'without an answer of the realm the user stays logged in');
    realm = { json: tokens(second) };
    await askFor('carol');
    await page.getByText('belongs to acme').waitFor();
    assert.deepEqual(sent('carol'), [first, second]);
    good = '';
    realm = { status: 400, json: { error: 'invalid_grant' } };
    await askFor('dana');
    await page.getByRole('button', { name: 'Log in with Domino' }).waitFor();
    await page.getByText('The service no longer takes this token. Log in again.').waitFor();
    const renewals = asked.filter(({ body }) => body.grant_type === 'refresh_token');
    assert.deepEqual(
      renewals.map(({ body }) => body.refresh_token),
      [`after ${first}`, `after ${first}`, `after ${second}`],
    );
  });
});
