/** Proves that dashboard, alerts and runbook name only metrics, labels, alerts and log lines that exist. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { createMetrics } from '../../src/lib/metrics.ts';

interface Panel {
  id: number;
  type: string;
  title: string;
  description?: string;
  gridPos: { x: number; y: number; w: number; h: number };
  datasource?: { uid: string };
  targets?: { refId: string; expr: string; legendFormat: string; datasource: { uid: string } }[];
  fieldConfig?: { defaults: { unit?: string } };
}

interface Dashboard {
  uid: string;
  tags: string[];
  schemaVersion: number;
  templating: { list: { name: string; type: string; definition?: string }[] };
  panels: Panel[];
}

interface Alert {
  alert: string;
  expr: string;
  for?: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
}

interface Rules {
  apiVersion: string;
  kind: string;
  metadata: { name: string };
  spec: { groups: { name: string; rules: Alert[] }[] };
}

/** A metric in an expression, with the labels that the expression uses. */
interface Use {
  metric: string;
  labels: string[];
}

const textOf = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const dashboard = JSON.parse(textOf('deploy/helm/irsa/files/monitoring/grafana-dashboard.json')) as Dashboard;
const rules = parse(textOf('deploy/helm/irsa/files/monitoring/alerts.yaml')) as Rules;
const unitTests = textOf('deploy/helm/irsa/files/monitoring/alerts.test.yaml');
const runbook = textOf('docs/runbook.md');

const { registry } = createMetrics();
const alerts = rules.spec.groups.flatMap((group) => group.rules);
const shown = dashboard.panels.filter(({ type }) => type !== 'row');
const targets = shown.flatMap((panel) => (panel.targets ?? []).map((target) => ({ panel: panel.title, ...target })));
const expressions = [...targets.map(({ expr }) => expr), ...alerts.map(({ expr }) => expr)];

/** Prometheus puts these on every sample that it scrapes. */
const scrapeLabels = ['job', 'instance', 'namespace', 'pod'];
const keywords = new Set(['by', 'without', 'on', 'ignoring', 'and', 'or', 'unless', 'offset', 'bool']);

/** Name of a series -> its labels: histograms are known under the names that Prometheus stores. */
function knownSeries(): Map<string, string[]> {
  const series = new Map<string, string[]>();
  for (const { name, type } of registry.getMetricsAsArray()) {
    const labels = labelsOf(name);
    // The library declares a number, and gives the word.
    if (String(type) === 'histogram') {
      series.set(`${name}_bucket`, [...labels, 'le']);
      series.set(`${name}_sum`, labels).set(`${name}_count`, labels);
    } else series.set(name, labels);
  }
  return series;
}

function labelsOf(name: string): string[] {
  const metric = registry.getSingleMetric(name) as unknown as { labelNames: string[] } | undefined;
  return metric?.labelNames ?? [];
}

/** The metrics of an expression. Labels in `by (…)` count for those in the parenthesis that follows, `on` for all. */
function usesIn(expr: string): Use[] {
  const text = expr.replace(/"(\\.|[^"\\])*"/g, '""').replace(/\[[^\]]*\]/g, '');
  const found: (Use & { at: number })[] = [];
  for (const match of text.matchAll(/(?<![\w.$])([a-zA-Z_:][\w:]*)\s*(\{[^}]*\}|\()?/g)) {
    const [whole, name = '', after = ''] = match;
    const isAggregation = /^\s*by\b/.test(text.slice(match.index + whole.length));
    if (after === '(' || isAggregation || keywords.has(name) || isLabel(text, match.index)) continue;
    found.push({ metric: name, labels: namesIn(after.replace(/(=~|!~|!=|=)\s*""/g, '')), at: match.index });
  }
  for (const match of text.matchAll(/\b(by|on)\s*\(([^)]*)\)\s*/g)) {
    const begin = match.index + match[0].length;
    const end = match[1] === 'on' ? text.length : closing(text, begin);
    const reached = found.filter(({ at }) => match[1] === 'on' || (at > begin && at < end));
    assert.ok(reached.length > 0, `${match[0]} before a parenthesis in ${expr}`);
    for (const use of reached) use.labels.push(...namesIn(match[2] ?? ''));
  }
  return found;
}

/** Inside `{…}` or the parenthesis of `by (…)`. */
function isLabel(text: string, at: number): boolean {
  const before = text.slice(0, at);
  return before.lastIndexOf('{') > before.lastIndexOf('}') || /\b(by|on)\s*\([^)]*$/.test(before);
}

/** Where the parenthesis that opens at `begin` closes. */
function closing(text: string, begin: number): number {
  let depth = 0;
  for (let at = begin; at < text.length; at += 1) {
    if (text[at] === '(') depth += 1;
    if (text[at] === ')') depth -= 1;
    if (depth === 0) return at;
  }
  return text.length;
}

const namesIn = (text: string) => text.match(/[a-zA-Z_]\w*/g) ?? [];

describe('monitoring', () => {
  const series = knownSeries();

  it('uses only existing metrics, with labels that they have', () => {
    assert.ok(expressions.length > 50);
    for (const expr of expressions) {
      const uses = usesIn(expr);
      assert.ok(uses.length > 0, `no metric in ${expr}`);
      for (const { metric, labels } of uses) {
        const known = series.get(metric);
        assert.ok(known, `${metric} does not exist, in ${expr}`);
        for (const label of labels) {
          assert.ok([...known, ...scrapeLabels].includes(label), `${metric} has no label ${label}, in ${expr}`);
        }
      }
    }
  });

  it('usesIn finds the metrics and labels of an expression', () => {
    const expr = 'sum by (le) (rate(a_bucket{x="y{z", w!~"b"}[5m])) / on (job) (c or vector(0)) > 1e3 offset 1d';
    assert.deepEqual(
      usesIn(expr).map(({ metric, labels }) => [metric, labels]),
      [
        ['a_bucket', ['x', 'w', 'le', 'job']],
        ['c', ['job']],
      ],
    );
  });

  it('shows every metric of the service on the dashboard, also those that release 1.8 had', () => {
    const onDashboard = new Set(targets.flatMap(({ expr }) => usesIn(expr).map(({ metric }) => metric)));
    const bases = new Set([...onDashboard].map((name) => name.replace(/_(bucket|sum|count)$/, '')));
    const ours = registry.getMetricsAsArray().filter(({ name }) => name.startsWith('irsa_'));
    assert.deepEqual(
      ours.map(({ name }) => name).filter((name) => !bases.has(name)),
      [],
    );
    for (const name of [
      'irsa_mapping_requests_total',
      'irsa_failed_maping_requests_total',
      'irsa_query_user_principal_total',
      'irsa_failed_query_user_principal_total',
      'irsa_query_user_org_membership_total',
      'irsa_failed_query_user_org_membership_total',
      'irsa_query_config_map_org_to_iamrole_mapping_total',
    ]) {
      assert.ok(onDashboard.has(name), name);
    }
  });

  it('has a dashboard whose panels fit the grid and do not overlap', () => {
    assert.equal(dashboard.uid, 'irsa-svc');
    assert.ok(dashboard.tags.length > 0 && dashboard.schemaVersion >= 39);
    assert.equal(new Set(dashboard.panels.map(({ id }) => id)).size, dashboard.panels.length);
    const taken = new Map<string, string>();
    for (const { title, gridPos } of dashboard.panels) {
      assert.ok(gridPos.x >= 0 && gridPos.x + gridPos.w <= 24, `${title} is off the grid`);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
          assert.equal(taken.get(`${x},${y}`), undefined, `${title} lies on another panel`);
          taken.set(`${x},${y}`, title);
        }
      }
    }
  });

  it('describes on every panel what is normal, with a unit and a data source that users select', () => {
    assert.ok(dashboard.templating.list.some(({ name, type }) => name === 'datasource' && type === 'datasource'));
    for (const panel of shown) {
      assert.match(panel.description ?? '', /^All is well: /, panel.title);
      assert.ok(panel.fieldConfig?.defaults.unit, panel.title);
      assert.equal(panel.datasource?.uid, `\${datasource}`, panel.title);
      assert.ok(panel.targets && panel.targets.length > 0, panel.title);
    }
    for (const { panel, expr, legendFormat, datasource } of targets) {
      assert.equal(datasource.uid, `\${datasource}`, panel);
      assert.notEqual(legendFormat, '', panel);
      const has = new Set([...usesIn(expr).flatMap(({ metric }) => series.get(metric) ?? []), ...scrapeLabels]);
      for (const [, label = ''] of legendFormat.matchAll(/\{\{\s*(\w+)\s*\}\}/g)) assert.ok(has.has(label), panel);
    }
    for (const { definition } of dashboard.templating.list) {
      const [, metric = '', label = ''] = /^label_values\((\w+), (\w+)\)$/.exec(definition ?? '') ?? [];
      if (definition) assert.ok(series.get(metric)?.includes(label), definition);
    }
  });

  it('has alerts with a summary, a severity, a link to the runbook and only labels that exist', () => {
    assert.deepEqual(
      [rules.apiVersion, rules.kind, rules.metadata.name],
      ['monitoring.coreos.com/v1', 'PrometheusRule', 'irsa-svc'],
    );
    assert.equal(new Set(alerts.map(({ alert }) => alert)).size, alerts.length);
    for (const { alert, expr, labels, annotations } of alerts) {
      assert.match(alert, /^Irsa[A-Za-z]+$/);
      assert.match(labels.severity ?? '', /^(page|ticket)$/, alert);
      assert.ok(annotations.summary && annotations.description, alert);
      assert.equal(annotations.runbook_url, `docs/runbook.md#${alert.toLowerCase()}`);
      for (const [, label = ''] of (annotations.description ?? '').matchAll(/\$labels\.(\w+)/g)) {
        const kept = /\bby \(/.test(expr)
          ? [...expr.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, by = '']) => namesIn(by))
          : scrapeLabels;
        assert.ok(kept.includes(label), `${alert}: no label ${label} is left`);
      }
    }
  });

  it('has a complete section of the runbook for each alert, and no other sections', () => {
    const sections = new Map(
      runbook
        .split(/^## /m)
        .slice(1)
        .map((section) => [section.slice(0, section.indexOf('\n')), section]),
    );
    sections.delete('First look');
    assert.deepEqual([...sections.keys()].sort(), alerts.map(({ alert }) => alert).sort());
    for (const [alert, section] of sections) {
      for (const part of ['Means.', 'Users notice.', 'Look at.', 'Do.', 'Do not.']) {
        assert.ok(section.includes(`\n**${part}** `), `${alert}: ${part}`);
      }
    }
    const anchors = new Set([...sections.keys()].map((alert) => alert.toLowerCase()));
    for (const [, anchor = ''] of runbook.matchAll(/\]\(#([^)]+)\)/g)) assert.ok(anchors.has(anchor), anchor);
  });

  it('quotes only existing log lines and metrics in the runbook', () => {
    const folders = ['src', 'routes'];
    const code = folders.flatMap((folder) =>
      readdirSync(new URL(`../../${folder}`, import.meta.url), { recursive: true, encoding: 'utf8' })
        .filter((name) => name.endsWith('.ts') && !name.startsWith('sidecar'))
        .map((name) => textOf(`${folder}/${name}`)),
    );
    const quoted = [...runbook.matchAll(/`msg: ([^`]+)`/g)].map(([, line = '']) => line);
    assert.ok(quoted.length > 20);
    for (const line of quoted)
      assert.ok(
        code.some((text) => text.includes(`'${line}'`)),
        line,
      );
    for (const [name] of runbook.matchAll(/\birsa_\w+/g)) assert.ok(series.has(name), name);
  });

  it('has a unit test for each alert', () => {
    assert.deepEqual((parse(unitTests) as { rule_files: string[] }).rule_files, ['rules.yaml']);
    const tested = new Set(unitTests.match(/\bIrsa[A-Za-z]+\b/g));
    assert.deepEqual([...tested].sort(), alerts.map(({ alert }) => alert).sort());
  });

  describe('run by CI', function () {
    this.timeout(60_000);
    let folder: string;
    beforeEach(() => {
      folder = mkdtempSync(join(tmpdir(), 'irsa-alerts-'));
    });
    afterEach(() => rmSync(folder, { recursive: true, force: true }));

    /** What `.ci/alerts` does, with nothing but Node and what is in the folder on PATH. */
    function check(environment: Record<string, string> = {}) {
      const env = { PATH: folder, IRSA_TOOLS: join(folder, 'tools'), FOLDER: folder, ...environment };
      const entry = fileURLToPath(new URL('../helm/alerts.ts', import.meta.url));
      return spawnSync(process.execPath, ['--import', 'tsx', entry], { env, encoding: 'utf8' });
    }
    /** A promtool that records its arguments and input, and fails at one of its two tasks. */
    const promtool = `#!/bin/sh
echo "$1 $2" >> "$FOLDER/calls"
while read -r line; do echo "$line"; done < "$3" > "$FOLDER/given-$1"
[ -e "\${3%/*}/rules.yaml" ] || exit 3
[ "$1" != "$FAILS" ]
`;

    it('is part of .ci/run', () => {
      assert.match(textOf('.ci/run'), /^part 'alerts' \.ci\/alerts$/m);
      assert.match(textOf('.ci/alerts'), /^exec node --import tsx test\/helm\/alerts\.ts$/m);
    });

    it('reports a missing promtool, and how to build it', () => {
      const { status, stdout } = check();
      assert.equal(status, 0);
      assert.match(stdout, /^SKIPPED: the alerts[\s\S]*IRSA_BUILD_PROMTOOL=1/);
      assert.match(check({ IRSA_BUILD_PROMTOOL: '1' }).stdout, /^SKIPPED[\s\S]*Go cannot build it/);
    });

    it('runs promtool’s check and test of the rules, and fails where promtool fails', () => {
      writeFileSync(join(folder, 'promtool'), promtool, { mode: 0o755 });
      assert.equal(check().status, 0);
      assert.equal(readFileSync(join(folder, 'calls'), 'utf8'), 'check rules\ntest rules\n');
      const names = [...readFileSync(join(folder, 'given-check'), 'utf8').matchAll(/^- alert: (\w+)$/gm)];
      assert.deepEqual(
        names.map(([, name]) => name),
        alerts.map(({ alert }) => alert),
      );
      assert.match(readFileSync(join(folder, 'given-test'), 'utf8'), /^rule_files: \[rules\.yaml\]$/m);
      for (const FAILS of ['check', 'test']) {
        const { status, stdout } = check({ FAILS });
        assert.equal(status, 1);
        assert.match(stdout, new RegExp(`promtool ${FAILS} rules: FAILED`));
      }
    });
  });
});
