/** Proves what the console sends and shows for rare answers: in a real browser, with the test's answers. */
import assert from 'node:assert/strict';
import { answeredConsoles, arn, proxyRole, trustStatus } from './answers.ts';

describe('the pages of the console', function () {
  this.timeout(60_000);
  const open = answeredConsoles();

  it('keep the hidden fields of an edited Pod Identity mapping, and show each field that changes', async () => {
    const mapping = {
      domino_user: 'svc-1',
      domino_user_id: '60faf443e43b3c7a6f5f5eea',
      service_account: 'own-sa',
      iam_role_arn: arn('pods'),
      target_role_arn: arn('beyond'),
      disable_session_tags: true,
      policy: '{"Version":"2012-10-17","Statement":[]}',
      update_iam_role_trust_policy: false,
    };
    const { domino_user, service_account, iam_role_arn, target_role_arn } = mapping;
    const shown = { domino_user, service_account, iam_role_arn, target_role_arn };
    const identity = { ...shown, state: 'in_place', advice: '', pods: [], restart: [] };
    const none = { pods_that_lose_it: [], pods_to_restart: [], pods_of_others_in_the_way: [], warnings: [] };
    const { page, asked, logIn } = await open({
      'GET /pod_identity_mappings': () => ({
        json: { pod_identity_mappings: [mapping], unusable: [], pod_identities: [identity] },
      }),
      'POST /update_pod_identity_mapping': ({ query, body }) => ({
        json: query.dry_run ? { ...none, before: mapping, after: { ...body, policy: '{}' } } : body,
      }),
    });
    await logIn('#/pod-identity');
    await page.getByRole('button', { name: 'Edit svc-1' }).click();
    assert.equal(await page.getByLabel(/^Target role/).inputValue(), target_role_arn);
    await page.getByLabel(/^Role’s ARN/).fill(arn('pods-2'));
    await page.getByRole('button', { name: 'Show the difference' }).click();
    const fields = page.locator('.changes.move');
    await fields.waitFor();
    assert.deepEqual(await fields.locator('li').allTextContents(), [
      `→ iam_role_arn: ${arn('pods')} → ${arn('pods-2')}`,
      `→ policy: ${mapping.policy} → {}`,
    ]);
    await page.getByRole('button', { name: 'Confirm' }).click();
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    const sent = () => asked.filter(({ call }) => call.startsWith('POST')).map(({ body }) => body);
    assert.deepEqual(sent(), Array(2).fill({ ...mapping, iam_role_arn: arn('pods-2') }));
    await page.getByRole('button', { name: 'Edit svc-1' }).click();
    await page.getByLabel(/^Target role/).fill('');
    await page.getByRole('button', { name: 'Show the difference' }).click();
    await fields.getByText('target_role_arn').waitFor();
    const { target_role_arn: _, ...rest } = mapping;
    assert.deepEqual(sent().at(-1), rest);
  });

  it('load all pages of Pod Identities', async () => {
    const pageOf = (from: number) => {
      const users = Array.from({ length: 100 }, (_, index) => `svc-${from + index}`);
      const mappingOf = (user: string) => ({
        domino_user: user,
        service_account: `${user}-sa`,
        iam_role_arn: arn(user),
        disable_session_tags: false,
        update_iam_role_trust_policy: true,
      });
      const reportOf = (user: string) => ({ ...mappingOf(user), state: 'in_place', advice: '', pods: [], restart: [] });
      return {
        pod_identity_mappings: users.map(mappingOf),
        pod_identities: users.map(reportOf),
        unusable: [{ domino_user: `odd-${from}`, code: 'invalid_mapping', detail: 'no role' }],
        ...(from < 500 ? { next: String(from + 100) } : {}),
      };
    };
    const { page, asked, logIn } = await open({
      'GET /pod_identity_mappings': ({ query }) => ({ json: pageOf(Number(query.continue ?? 100)) }),
    });
    await logIn('#/pod-identity');
    await page.getByText('1 of 10', { exact: true }).waitFor();
    const pages = asked.filter(({ call }) => call === 'GET /pod_identity_mappings').map(({ query }) => query);
    const expected = [undefined, '200', '300', '400', '500'].map((next) => ({
      limit: '100',
      ...(next === undefined ? {} : { continue: next }),
    }));
    assert.deepEqual(pages.slice(0, 5), expected);
    assert.equal(await page.getByText(/^! odd-\d+:/).count(), 5);
    await page.getByLabel(/^Filter/).fill('svc-599');
    await page.getByRole('button', { name: 'Edit svc-599' }).waitFor();
    assert.equal(await page.locator('tbody tr').count(), 1);
  });

  it('keep all fields of an organization’s edited mappings, and show each flag that changes', async () => {
    const target = 'arn:aws:iam::222222222222:role/data';
    const one = { domino_org: 'acme', iam_role_arn: target, proxy_iam_role_arn: arn('one') };
    const mappings = [
      { ...one, update_iam_role_trust_policy: 'False', default_profile: true, carrier: 'token' },
      { ...one, proxy_iam_role_arn: arn('two'), update_iam_role_trust_policy: true },
    ];
    const none = { loses: [], moves: [], gains_at_next_refresh: [], loses_at_next_refresh: [], proxy_roles: [] };
    const { page, asked, logIn } = await open({
      'GET /role_mappings': () => ({ json: { all_role_mappings: { acme: mappings }, organizations: {} } }),
      'POST /update_multirole_mapping': ({ body: { role_data } }) => ({
        json: { domino_org: 'acme', ...none, fits: null, warnings: [], role_data },
      }),
    });
    await logIn('#/organizations');
    await page.getByText('kept elsewhere').waitFor();
    await page.getByRole('button', { name: 'Edit acme' }).click();
    const second = page.getByRole('group', { name: 'Role 2' });
    await second.getByLabel('The service keeps').uncheck();
    await page.getByRole('button', { name: 'Show the difference' }).click();
    const changes = page.locator('.changes');
    await changes.first().waitFor();
    assert.deepEqual(await changes.locator('h3').allTextContents(), ['Changes 1']);
    assert.match(String(await changes.textContent()), /two.*: the trust policy is kept elsewhere/);
    const sent = () => asked.filter(({ call }) => call.startsWith('POST')).map(({ body }) => body.role_data);
    const [kept, other] = mappings.map(({ domino_org: _, ...rest }) => rest);
    assert.deepEqual(sent(), [
      [
        { ...kept, update_iam_role_trust_policy: 'false' },
        { ...other, update_iam_role_trust_policy: false },
      ],
    ]);
    await page.getByRole('button', { name: 'Back' }).click();
    await page.getByRole('group', { name: 'Role 1' }).getByLabel('default profile').uncheck();
    await page.getByRole('button', { name: 'Show the difference' }).click();
    await changes.getByText(/one.*: is no longer the default profile/).waitFor();
  });

  it('say that nothing needs the administrator only once everything is loaded and checked', async () => {
    const refused = { status: 503, json: { code: 'kubernetes_unavailable', detail: 'no answer' } };
    let mappings: Promise<{ status?: number; json: unknown }> = Promise.resolve(refused);
    let totals = trustStatus({}).totals;
    const { page, logIn } = await open({
      'GET /trust_status': () => ({ json: trustStatus({ totals }) }),
      'GET /role_mappings': () => mappings,
    });
    const good = page.getByText('Nothing that the service knows of.');
    const shows = async () => {
      await page.getByRole('heading', { name: /^Needs you/ }).waitFor();
      return good.count();
    };
    await logIn('');
    await page.getByText('kubernetes_unavailable').waitFor();
    assert.equal(await shows(), 0, 'refused');
    const answer = Promise.withResolvers<{ json: unknown }>();
    mappings = answer.promise;
    await logIn('');
    assert.equal(await shows(), 0, 'loading');
    await page.getByText('Loading…').waitFor();
    answer.resolve({ json: { all_role_mappings: {} } });
    await good.waitFor();
    totals = { ...totals, not_checked_yet: 2 };
    await logIn('');
    await page.getByText('2 proxy roles were not compared with IAM yet').waitFor();
    assert.equal(await shows(), 0, 'not checked');
  });

  it('show the leader and the ready replicas, or that their number is unknown', async () => {
    let replicas: object | null = { ready: 3, wanted: 3 };
    const { page, logIn } = await open({
      'GET /trust_status': () => {
        const status = trustStatus({ lease_holder: 'irsa-svc-7c9f-1a2b3c4d' });
        return { json: { ...status, totals: { ...status.totals, replicas } } };
      },
    });
    const tile = page.getByRole('listitem').filter({ hasText: 'Leader' });
    for (const [given, text, isBad] of [
      [{ ready: 3, wanted: 3 }, '3 replicas', false],
      [{ ready: 4, wanted: 3 }, '4 replicas', false],
      [{ ready: 1, wanted: 1 }, '1 replica', false],
      [{ ready: 2, wanted: 3 }, '2 of 3 replicas ready', true],
      [null, 'number of replicas not known', false],
    ] as const) {
      replicas = given;
      await logIn('#/');
      await tile.getByText(text, { exact: true }).waitFor();
      await tile.getByText('irsa-svc-7c9f-1a2b3c4d').waitFor();
      assert.equal(await tile.getAttribute('class'), isBad ? 'bad' : null, text);
    }
  });

  it('list the proxy roles that need attention as the service reports them', async () => {
    const names = ({ query }: { query: Readonly<Record<string, string>> }) =>
      query.needs_attention === 'true' ? ['contested'] : ['contested', 'quiet'];
    const { page, logIn } = await open({
      'GET /trust_status': (asked) => ({
        json: trustStatus({ proxy_roles: names(asked).map((name) => proxyRole(name)) }),
      }),
    });
    await logIn('#/roles?show=attention');
    await page.getByRole('link', { name: 'contested' }).waitFor();
    assert.equal(await page.locator('tbody tr').count(), 1);
    await page.getByRole('link', { name: 'Show all' }).click();
    await page.getByRole('link', { name: 'quiet' }).waitFor();
    await page.getByRole('link', { name: 'Show only what needs a look' }).click();
    await page.getByRole('link', { name: 'quiet' }).waitFor({ state: 'detached' });
  });

  it('show in a proxy role’s details why its role tokens do not work', async () => {
    const problem = { code: 'audience_missing', detail: 'the provider does not list it' };
    const one = { ...proxyRole('tokens'), role_tokens: { granted: false, denied: [], problem } };
    const { page, logIn } = await open({ 'GET /trust_status': () => ({ json: trustStatus({ proxy_roles: [one] }) }) });
    await logIn('#/roles');
    await page.getByText('audience_missing').waitFor();
    await page.getByRole('link', { name: 'tokens' }).click();
    await page.getByText('audience_missing the provider does not list it').waitFor();
    await page.getByText('Runbook: IrsaRoleTokensNotGiven').waitFor();
  });

  it('request the chosen kind of decisions, also together with another filter', async () => {
    const { page, asked, logIn } = await open({
      'GET /activity': ({ query: { kind = 'none', user = 'everybody' } }) => {
        const entry = { id: '1', at: '2026-11-21T12:00:00Z', kind, decision: 'revoked', replica: 'one' };
        return { json: { activity: [{ ...entry, summary: `${kind} of ${user}` }], holds_since: null } };
      },
    });
    await logIn('#/activity?kind=revocation');
    await page.getByText('revocation of everybody').waitFor();
    assert.equal(await page.getByLabel('Kind').inputValue(), 'revocation');
    await page.getByLabel('User').fill('alice');
    await page.getByRole('button', { name: 'Filter', exact: true }).click();
    await page.getByText('revocation of alice').waitFor();
    assert.equal(asked.filter(({ call, query }) => call === 'GET /activity' && !query.kind).length, 0);
  });

  it('mask a pasted token, and clear it after the logout', async () => {
    const { page, logIn } = await open({});
    await logIn('');
    await page.getByRole('heading', { name: /^Needs you/ }).waitFor();
    await page.getByRole('button', { name: 'Log out' }).click();
    const field = page.getByLabel('Token');
    assert.equal(await field.getAttribute('type'), 'password');
    assert.equal(await field.getAttribute('autocomplete'), 'off');
    assert.equal(await field.inputValue(), '');
  });

  it('count the runs in trust policies, and explain before and after a revocation what outlives it', async () => {
    const run = { run_id: '60faf443e43b3c7a6f5f5eea', live_pods: 1, service_accounts: ['a'] };
    const { page, logIn } = await open({
      'GET /access': () => ({ json: { user: 'alice', domino_orgs: [], access: [], run } }),
      'POST /revoke_run': ({ query }) => ({
        json: query.dry_run ? { loses: [], shut_out_too: [], stays_in: [] } : { run_id: run.run_id, left: true },
      }),
    });
    await logIn('');
    await page.getByRole('link', { name: /^0 Runs in trust policies$/ }).waitFor();
    await logIn(`#/why?run_id=${run.run_id}`);
    await page.getByRole('button', { name: 'Revoke…' }).click();
    const dialog = page.getByRole('dialog');
    const truth = [/trust policy that this service keeps/, /live on until they expire: after an hour, or.*12 hours/];
    for (const words of truth) await dialog.getByText(words).waitFor();
    await dialog.getByLabel(/^Reason/).fill('lost');
    await dialog.getByRole('button', { name: 'Revoke', exact: true }).click();
    await dialog.getByText('keeps lets it in any more').waitFor();
    for (const words of truth) await dialog.getByText(words).waitFor();
  });
});
