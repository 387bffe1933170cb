/** Proves that the numbers of docs/sizing.md are those that the code computes and the benchmarks measured. */
import assert from 'node:assert/strict';
import { refuseTooLarge } from '../../src/kubernetes/config-map-store.ts';
import { completeMapping, storedText } from '../../src/mappings/role-mappings.ts';
import { completePodIdentity, storedPodIdentity } from '../../src/pod-identity/mappings.ts';
import { editTrustPolicy } from '../../src/trust-policy/document.ts';
import { memberCost } from '../../src/trust-policy/subjects.ts';
import { numberOf, rowsOf, section, textOf } from '../support/pages.ts';
import { needTerraform, openTerraform } from '../terraform/terraform.ts';

const grouped = (value: number) => value.toLocaleString('en-US');

describe('docs/sizing.md', () => {
  const page = textOf('docs/sizing.md');
  const quotas = [2048, 4096, 8192];
  const issuer = `oidc.eks.us-west-2.amazonaws.com/id/${'A'.repeat(32)}`;
  const provider = `arn:aws:iam::111111111111:oidc-provider/${issuer}`;
  const cluster = 'arn:aws:eks:us-west-2:111111111111:cluster/acme';
  const scope = { issuer, audience: 'sts.amazonaws.com', providerArn: provider, namespace: 'domino-compute', cluster };
  const empty = '{"Version":"2012-10-17","Statement":[]}';
  const nobodyStays = () => false;

  /** How many fit: the code refuses one more. */
  function most(fits: (count: number) => boolean): number {
    let count = 0;
    while (fits(count + 1)) count += 1;
    return count;
  }
  const id = (index: number) => index.toString(16).padStart(24, '0');
  /** The accounts of the table's form for one run; a static name is made another one of its length. */
  const named = (form: string, index: number) =>
    form.includes('<24 hex>') ? form.replaceAll('<24 hex>', id(index)) : String(index).padStart(form.length, 'a');
  function runsThatFit(forms: string[], quota: number): number {
    return most((count) => {
      const members = Array.from({ length: count }, (_, index) => forms.map((form) => named(form, index))).flat();
      return editTrustPolicy(scope, empty, members, nobodyStays, quota).kind === 'changed';
    });
  }
  /** Proxy roles that one target can trust, by quota. */
  const trusted = (
    rowsOf(section(page, 'How many proxy roles')).find(([cell]) => cell?.startsWith('proxy roles that')) ?? []
  )
    .slice(1)
    .map(numberOf);
  const runs = rowsOf(section(page, 'How many runs fit in one proxy role'));

  it('says how many characters a document and its members take', () => {
    const one = editTrustPolicy(scope, empty, ['alice-sa'], nobodyStays, 8192);
    assert.equal(one.kind, 'changed');
    const base = (one.kind === 'changed' ? one.size : 0) - memberCost(scope.namespace, 'alice-sa');
    const text = section(page, 'How many runs fit in one proxy role');
    assert.match(text, new RegExp(`in us-west-2 \\(${issuer.length}\\s+characters\\) that is ${base}\\.`));
    assert.match(
      text,
      new RegExp(`with nobody in it: ${base - 3 * issuer.length} characters and three times the issuer`),
    );
    const own = memberCost(scope.namespace, 'alice-sa') - 'alice-sa'.length - scope.namespace.length;
    assert.match(text, new RegExp(`its name, the namespace, and ${own} characters`));
  });

  it('says how many runs fit, with clusters and without', () => {
    assert.ok(runs.length >= 7);
    for (const [what, accounts = '', characters, ...counts] of runs) {
      const forms = [...accounts.matchAll(/`([^`]+)`/g)].map(([, form]) => form ?? '');
      const cost = forms.reduce((sum, form) => sum + memberCost(scope.namespace, named(form, 1)), 0);
      assert.equal(numberOf(characters), cost, what);
      assert.deepEqual(
        counts.map(numberOf),
        quotas.map((quota) => runsThatFit(forms, quota)),
        what,
      );
    }
  });

  it('says how many proxy roles a number of live runs needs', () => {
    const each = quotas.map((quota) => runsThatFit(['run-<24 hex>'], quota));
    for (const [alive, ...counts] of rowsOf(section(page, 'How many proxy roles'))) {
      if (alive?.startsWith('proxy roles that')) continue;
      const expected = each.map((count) => Math.ceil((1.2 * numberOf(alive)) / count));
      // Numbers that no target role could trust, by the same section, are in parentheses.
      const cells = expected.map((count, index) => (count <= (trusted[index] ?? 0) ? `${count}` : `(${count})`));
      assert.deepEqual(counts, cells, `${alive} runs`);
    }
  });

  it('says how many proxy roles a target role can trust, by the document that Terraform creates', async function () {
    this.timeout(60_000);
    needTerraform(this);
    const example = textOf('deploy/terraform/examples/acme/terraform.tfvars.example');
    const [, prefix = ''] = /^prefix = "(.+)"/m.exec(example) ?? [];
    const [, target = ''] = /^roles = \{\n {2}(\S+) = /m.exec(example) ?? [];
    const proxies = (count: number) =>
      Array.from(
        { length: count },
        (_, index) => `arn:aws:iam::111111111111:role/${prefix}${target}${index === 0 ? '' : `-${index + 1}`}`,
      );
    const roles = Object.fromEntries(
      trusted.flatMap((count) => [count, count + 1].map((each) => [each, { proxy_role_arns: proxies(each) }])),
    );
    const terraform = openTerraform();
    try {
      const { trust_policies: made } = await terraform.apply('target-roles/policies', { roles });
      const length = (count: number) => (made as Record<string, string>)[count]?.length ?? Number.NaN;
      for (const [index, quota] of quotas.entries()) {
        const count = trusted[index] ?? 0;
        assert.ok(length(count) <= quota, `${count} at ${quota}`);
        assert.ok(length(count + 1) > quota, `${count + 1} at ${quota}`);
      }
    } finally {
      terraform.remove();
    }
  });

  it('names the limit of proxy roles that Terraform and the contract have', () => {
    const [, most] = /proxies <= (\d+)/.exec(textOf('deploy/terraform/proxy-roles/variables.tf')) ?? [];
    const pool = /MultiRoleMappingUpdate:[\s\S]*?maxItems: (\d+)/.exec(textOf('openapi.yaml'))?.[1];
    const [, told] = /An\s+organization's mapping holds (\d+) entries/.exec(page) ?? [];
    assert.deepEqual([most, told], [pool, pool]);
  });

  it('says how many service accounts fit in a role of Pod Identity', () => {
    const text = section(page, 'Pod Identity');
    const table = rowsOf(text).filter(([cell]) => /^\d+$/.test(cell ?? ''));
    assert.ok(table.length >= 4);
    const size = (accounts: string[], quota: number) =>
      editTrustPolicy(scope, empty, undefined, nobodyStays, quota, { accounts: new Set(accounts), open: false });
    for (const [length, ...counts] of table) {
      const accounts = (count: number) =>
        Array.from({ length: count }, (_, index) => named('x'.repeat(numberOf(length)), index));
      const expected = quotas.map((quota) => most((count) => size(accounts(count), quota).kind === 'changed'));
      assert.deepEqual(counts.map(numberOf), expected, `${length} characters`);
    }
    const one = size(['alice-sa'], 8192);
    assert.ok(
      one.kind === 'changed' && text.includes(`${one.size - 'alice-sa'.length - 3} characters with nobody in it`),
    );
  });

  it('says how many users and mappings their ConfigMaps hold', () => {
    const role = (account: string, name: string) => `arn:aws:iam::${account}:role/acme-${name}`;
    const entry = (index: number, hasTarget: boolean): [string, string] => {
      const name = `user-${String(index).padStart(6, '0')}`;
      const target = hasTarget ? { target_role_arn: role('222222222222', name) } : {};
      return [
        name,
        storedPodIdentity(
          completePodIdentity({ domino_user: name, iam_role_arn: role('111111111111', name), ...target }),
        ),
      ];
    };
    const [plain, chained] = [false, true].map((hasTarget) => {
      const bytes = entry(0, hasTarget).join('').length;
      const holds = (count: number) =>
        refuseTooLarge(
          Object.fromEntries(Array.from({ length: count }, (_, index) => entry(index, hasTarget))),
          'mappings',
        );
      const count = Math.floor(2 ** 20 / bytes);
      assert.doesNotThrow(() => holds(count));
      assert.throws(() => holds(count + 1));
      return `${grouped(count)} at ${bytes} bytes`;
    });
    assert.ok(page.includes(`${plain} each; ${chained}`), `${plain}; ${chained}`);
    const arn = {
      iam_role_arn: role('222222222222', 'list-bucket-role'),
      proxy_iam_role_arn: role('111111111111', 'list-bucket-role'),
    };
    const bytes = `data-science${storedText([completeMapping('data-science', arn)])}`.length;
    assert.ok(
      page.includes(`about ${grouped(Math.floor(2 ** 20 / bytes / 100) * 100)} role mappings of\n${bytes} bytes`),
    );
  });

  it('has the figures of the benchmarks within 25%', () => {
    const figures = (bench: string) =>
      (JSON.parse(textOf(`test/bench/results/${bench}.json`)) as { figures: { name: string; value: number }[] })
        .figures;
    const storm = (what: string, factor = 1) => ['storm', what, factor] as const;
    const measured: Record<string, (readonly [string, string, number])[]> = {
      'memory, no pods': [['footprint', 'RSS, no pods', 1]],
      'memory, 10,000 live pods': [
        ['footprint', 'RSS, 10,000 pods, settled', 1],
        ['footprint', 'RSS, 10,000 pods, peak', 1],
      ],
      'largest replica of a soak with 500 runs alive': [['soak', 'RSS of the larger replica, last fifth', 1]],
      'from start to ready, no pods': [['footprint', 'start to /readyz 200: p50 of 5', 1e-3]],
      'from start to ready, 10,000 live pods': [['footprint', 'start to /readyz 200, 10,000 pods', 1e-3]],
      'CPU for one answer that needs no IAM': [['reads', "replica's CPU for one /my_role_mappings", 1]],
      'a first grant, 180 ms of it IAM’s': [['single', 'first grant: p50 of 30', 1]],
      '200 runs, 3 target roles with 2 proxies each, 3 replicas': [
        storm('200 runs, 3 replicas: IAM writes'),
        storm('200 runs, 3 replicas: IAM reads'),
        storm('200 runs, 3 replicas: p99', 1e-3),
      ],
      '1,000 runs, 1 target role with 8 proxies, 5 replicas': [
        storm('1000 runs, 5 replicas: IAM writes'),
        storm('1000 runs, 5 replicas: IAM reads'),
        storm('1000 runs, 5 replicas: p99', 1e-3),
      ],
    };
    const rows = new Map(rowsOf(page).map(([what = '', ...cells]) => [what.replaceAll("'", '’'), cells.join(' ')]));
    for (const [what, sources] of Object.entries(measured)) {
      const shown = [...(rows.get(what) ?? '').matchAll(/\d[\d.,]*/g)].map(([number]) =>
        numberOf(number.replace(/,(?!\d)/, '')),
      );
      const values = sources.map(([bench, name, factor]) => {
        const found = figures(bench).find((figure) => figure.name === name);
        assert.ok(found, `${bench}: ${name}`);
        return found.value * factor;
      });
      const isNear = (value: number, index: number) => Math.abs((shown[index] ?? Number.NaN) / value - 1) <= 0.25;
      assert.ok(
        values.length <= shown.length && values.every(isNear),
        `${what}: ${shown.join(', ')}, measured ${values.join(', ')}`,
      );
    }
  });
});
