/** Proves that docs/aws-permissions.md names what the code calls and what Terraform allows, and nothing else. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { root, rowsOf, section, textOf } from '../support/pages.ts';

describe('docs/aws-permissions.md', () => {
  const page = textOf('docs/aws-permissions.md');
  const service = section(page, "The service's role");
  const actionsIn = (text: string) =>
    new Set([...text.matchAll(/\b(?:iam|eks|sts):[A-Z]\w+/g)].map(([found]) => found));
  const sorted = (actions: Iterable<string>) => [...new Set(actions)].sort();
  const told = actionsIn(
    rowsOf(service)
      .map(([cell]) => cell)
      .join(),
  );

  /** The actions that a document allows, by the name of its statement. */
  function bySid(statements: { Sid?: string; Action: string | string[] }[]): Map<string, string[]> {
    return new Map(statements.map(({ Sid, Action }) => [Sid ?? '', sorted([Action].flat())]));
  }
  const documents = (text: string) =>
    [...text.matchAll(/```json\n([\s\S]*?)```/g)].flatMap(
      ([, json = '']) => (JSON.parse(json) as { Statement: { Sid?: string; Action: string | string[] }[] }).Statement,
    );
  /** Of Terraform's text: what stands in `Action` after each `Sid`. */
  function ofTerraform(path: string): [string, string[]][] {
    const parts = textOf(path)
      .split(/\bSid\s*=\s*"/)
      .slice(1);
    return parts.map((part) => {
      const [, list = ''] = /\bAction\s*=\s*(\[[^\]]*\]|"[^"]*")/.exec(part) ?? [];
      return [part.split('"')[0] ?? '', sorted(actionsIn(list))];
    });
  }
  const terraform = ofTerraform('deploy/terraform/service-role/policies/main.tf');

  it('names the actions that the code calls, and those that AWS requires with them', () => {
    const called = new Set<string>();
    for (const name of readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })) {
      const text = name.endsWith('.ts') ? textOf(`src/${name}`) : '';
      const clients = [...text.matchAll(/@aws-sdk\/client-(\w+)/g)].map(([, client]) => client ?? '');
      const imported = [...text.matchAll(/import \{([^}]*)\} from '@aws-sdk\/client-(\w+)'/g)];
      for (const [, action = ''] of text.matchAll(/\bnew (?:sdk\.)?(\w+)Command\(/g)) {
        const of = imported.find(([, names = '']) => names.includes(`${action}Command`))?.[2] ?? clients[0];
        assert.ok(of, `${name} imports the client of ${action}`);
        called.add(`${of}:${action}`);
      }
    }
    const asked = ['eks:TagResource', 'iam:PassRole'];
    assert.deepEqual(sorted(told), sorted([...called, ...asked]));
  });

  it('has the same actions in its documents as Terraform', () => {
    const made = terraform.filter(([sid]) => sid !== 'ThePodsOfTheService');
    const [permissions] = [...service.matchAll(/```json\n([\s\S]*?)```/g)];
    const shown = bySid(documents(permissions?.[0] ?? ''));
    assert.deepEqual(Object.fromEntries(shown), Object.fromEntries(made));
    // Every caller may use this one, so no policy names it.
    const allowed = made.flatMap(([, actions]) => actions);
    assert.deepEqual(sorted(told), sorted([...allowed, 'sts:GetCallerIdentity']));
    const trust = terraform.filter(([sid]) => sid === 'ThePodsOfTheService').map(([, actions]) => actions);
    assert.deepEqual(trust[0], bySid(documents(service)).get('ThePodsOfTheService'));
    assert.deepEqual(trust[1], ['sts:AssumeRole', 'sts:TagSession']);
    for (const [heading, path] of [
      ['Proxy roles', 'deploy/terraform/proxy-roles/policies/outputs.tf'],
      ['Target roles', 'deploy/terraform/target-roles/policies/main.tf'],
    ] as const) {
      const shownThere = documents(section(page, heading)).flatMap(({ Action }) => Action);
      const terraformText = textOf(path).replaceAll(/Action\s*=\s*"sts:AssumeRoleWithWebIdentity"/g, '');
      assert.deepEqual(sorted(shownThere), sorted(actionsIn(terraformText)), heading);
    }
  });

  it('lists under "What is not needed" no action that Terraform allows', () => {
    const needless = [...section(page, 'What is not needed').matchAll(/^- (.*?):(?: |$)/gm)];
    const actions = needless.flatMap(([, list = '']) => [...actionsIn(list)]);
    assert.ok(actions.length >= 10);
    const allowed = terraform.filter(([sid]) => sid !== 'ThePodsOfTheService').flatMap(([, list]) => list);
    assert.deepEqual(
      actions.filter((action) => allowed.includes(action)),
      [],
    );
  });
});
