/** Tests domsed's stand-in: the documented Mutation word for word, each kind of rule, and refusals. */
import assert from 'node:assert/strict';
import type { V1Pod } from '@kubernetes/client-node';
import fc from 'fast-check';
import { parse } from 'yaml';
import { applyMutations, checkMutation, type Mutation, type MutationOptions, type Rule } from './domsed.ts';
import { type DominoPodOptions, dominoPod } from './pods.ts';

const run = '646d27b817c28b5ea4b5b0c1';

/** From the document on Pod Identity for Domino's service accounts, to the letter. */
const documented = parse(`apiVersion: apps.dominodatalab.com/v1alpha1
kind: Mutation
metadata:
  name: map-domino-user-k8s-sa
  namespace: domino-platform
rules:
- labelSelectors:
  - dominodatalab.com/workload-type in (Workspace,Batch,Scheduled)
  cloudWorkloadIdentity:
    cloud_type: aws
    default_sa: ""
    assume_sa_mapping: false
    user_mappings:
      svc-user-1: svc-user-1-sa
      svc-user-2: svc-user-2-sa
`) as Mutation;

function pod(options: Partial<DominoPodOptions> = {}): V1Pod {
  const made = dominoPod({
    runId: run,
    userId: '60faf443e43b3c7a6f5f5eea',
    userName: 'alice',
    plain: true,
    ...options,
  });
  // As JSON, in which dates are text: what applyMutations gives.
  return JSON.parse(JSON.stringify(made)) as V1Pod;
}

function mutation(...rules: Rule[]): Mutation {
  return { metadata: { name: 'acme' }, rules };
}

function applied(rules: Rule[], options: Partial<DominoPodOptions> = {}, how: MutationOptions = {}): V1Pod {
  return applyMutations([mutation(...rules)], pod(options), how);
}

describe('domsed stand-in: cloudWorkloadIdentity', () => {
  const accountOf = (rules: readonly Rule[], userName: string, workloadType = 'Workspace') =>
    applyMutations([mutation(...rules)], pod({ userName, workloadType })).spec?.serviceAccountName;
  const identity = (rest: object) => [{ cloudWorkloadIdentity: { cloud_type: 'aws' as const, ...rest } }];

  for (const [user, workload, account] of [
    ['svc-user-1', 'Workspace', 'svc-user-1-sa'],
    ['svc-user-2', 'Workspace', 'svc-user-2-sa'],
    ['svc-user-3', 'Workspace', `run-${run}`],
    ['svc-user-1', 'Batch', 'svc-user-1-sa'],
    ['svc-user-2', 'Scheduled', 'svc-user-2-sa'],
    ['svc-user-1', 'App', `run-${run}`],
    // The document's two test pods carry the account's name as the user's name, so the list does not match them.
    ['svc-user-1-sa', 'Workspace', `run-${run}`],
  ] as const) {
    it(`the documented Mutation gives ${account} to a ${workload} of ${user}`, () => {
      assert.equal(accountOf(documented.rules, user, workload), account);
    });
  }

  it('changes only the service account of the pod', () => {
    const before = pod({ userName: 'svc-user-1' });
    const after = applyMutations([documented], before);
    assert.deepEqual(after, { ...before, spec: { ...before.spec, serviceAccountName: 'svc-user-1-sa' } });
    assert.equal(before.spec?.serviceAccountName, `run-${run}`);
  });

  it('chooses the service account from the list, else the user’s name, else the default, else the pod', () => {
    const list = { user_mappings: { alice: 'alice-sa' }, default_sa: 'other-sa' };
    assert.equal(accountOf(identity({ ...list, assume_sa_mapping: true }), 'alice'), 'alice-sa');
    assert.equal(accountOf(identity({ ...list, assume_sa_mapping: true }), 'bob'), 'bob');
    assert.equal(accountOf(identity(list), 'bob'), 'other-sa');
    assert.equal(accountOf(identity({}), 'bob'), `run-${run}`);
    // A name that every object has is not on the list.
    assert.equal(accountOf(identity({ user_mappings: {} }), 'constructor'), `run-${run}`);
  });

  it('also changes the deprecated field serviceAccount where a pod has it', () => {
    const old = pod({ userName: 'svc-user-1' });
    Object.assign(old.spec as object, { serviceAccount: `run-${run}` });
    assert.equal(applyMutations([documented], old).spec?.serviceAccount, 'svc-user-1-sa');
  });
});

describe('domsed stand-in: selection of pods', () => {
  const label = { modifyLabel: { key: 'acme.com/seen', value: 'yes' } };
  const seen = (labelSelectors: string[]) =>
    applied([{ labelSelectors, ...label }]).metadata?.labels?.['acme.com/seen'] === 'yes';

  it('a rule changes only pods that all its selectors match', () => {
    const one = 'dominodatalab.com/workload-type in (Workspace,Batch)';
    assert.ok(seen([]));
    assert.ok(seen([one]));
    assert.ok(seen([one, 'dominodatalab.com/hardware-tier-id=small-k8s']));
    assert.ok(!seen([one, 'dominodatalab.com/hardware-tier-id=large-k8s']));
    assert.ok(!seen([one, '!dominodatalab.com/execution-id']));
  });

  it('a rule changes builds only with matchBuilds', () => {
    const isBuild = () => true;
    assert.deepEqual(applied([label], {}, { isBuild }), pod());
    const matching = applied([{ ...label, matchBuilds: true }], {}, { isBuild });
    assert.equal(matching.metadata?.labels?.['acme.com/seen'], 'yes');
  });

  it('a rule selects pods by labels that an earlier rule, or a Mutation with an earlier name, set', () => {
    const again = { labelSelectors: ['acme.com/seen=yes'], modifyLabel: { key: 'acme.com/again', value: 'yes' } };
    const first = { metadata: { name: 'a' }, rules: [label] };
    const second = { metadata: { name: 'b' }, rules: [again] };
    for (const made of [applyMutations([second, first], pod()), applied([label, again])]) {
      assert.equal(made.metadata?.labels?.['acme.com/again'], 'yes');
    }
    assert.equal(applied([again, label]).metadata?.labels?.['acme.com/again'], undefined);
  });
});

describe('domsed stand-in: changes of a rule', () => {
  const volume = { name: 'aws-user-token', projected: { sources: [] } };
  const mount = { name: 'aws-user-token', mountPath: '/var/run/secrets/eks.amazonaws.com/serviceaccount' };
  const sidecar = { name: 'aws-config-file-generator', image: 'quay.io/domino/irsa:2.0.0' };
  const variable = { name: 'DOMINO_API_PROXY', value: 'http://localhost:1' };
  const valueIn = (made: V1Pod, container: string) =>
    [...(made.spec?.initContainers ?? []), ...(made.spec?.containers ?? [])]
      .find(({ name }) => name === container)
      ?.env?.filter(({ name }) => name === variable.name);

  it('insertContainer adds the container after the other containers or init containers', () => {
    const names = (made: V1Pod) =>
      [made.spec?.initContainers, made.spec?.containers].map((all) => all?.map(({ name }) => name));
    const app = applied([{ insertContainer: { containerType: 'app', spec: sidecar } }]);
    assert.deepEqual(names(app), [['domino-init'], ['run', 'executor', sidecar.name]]);
    const init = applied([
      { insertContainer: { containerType: 'init', spec: { ...sidecar, restartPolicy: 'Always' } } },
    ]);
    assert.deepEqual(names(init), [
      ['domino-init', sidecar.name],
      ['run', 'executor'],
    ]);
  });

  it('insertVolumes adds a volume, and insertVolumeMounts mounts it in the named and inserted containers', () => {
    const made = applied([
      { insertContainer: { containerType: 'app', spec: sidecar } },
      { insertVolumes: [volume] },
      { insertVolumeMounts: { containerSelector: ['run', sidecar.name, 'absent'], volumeMounts: [mount] } },
    ]);
    assert.deepEqual(made.spec?.volumes?.at(-1), volume);
    const mounted = made.spec?.containers?.filter(({ volumeMounts }) =>
      volumeMounts?.some(({ name }) => name === volume.name),
    );
    assert.deepEqual(
      mounted?.map(({ name }) => name),
      ['run', sidecar.name],
    );
  });

  it('modifyEnv replaces a variable in the named containers, or in all containers where none is named', () => {
    const named = applied([{ modifyEnv: { containerSelector: ['run'], env: [variable] } }]);
    assert.deepEqual(valueIn(named, 'run'), [variable]);
    assert.notDeepEqual(valueIn(named, 'executor'), [variable]);
    const all = applied([{ modifyEnv: { env: [variable] } }]);
    for (const name of ['run', 'executor', 'domino-init']) assert.deepEqual(valueIn(all, name), [variable]);
    const apps = applied([{ modifyEnv: { env: [variable] } }], {}, { initContainersToo: false });
    assert.deepEqual(valueIn(apps, 'run'), [variable]);
    assert.notDeepEqual(valueIn(apps, 'domino-init'), [variable]);
  });

  it('modifySecurityContext merges into the pod’s security context, and modifyLabel sets a label', () => {
    const made = applied([
      { modifySecurityContext: { context: { runAsUser: 1000, fsGroup: 1 } } },
      { modifySecurityContext: { context: { fsGroup: 12574 } } },
      { modifyLabel: { key: 'dominodatalab.com/irsa-workload-type', value: 'edge-workload' } },
    ]);
    assert.deepEqual(made.spec?.securityContext, { runAsUser: 1000, fsGroup: 12574 });
    assert.equal(made.metadata?.labels?.['dominodatalab.com/irsa-workload-type'], 'edge-workload');
  });

  it('one rule can contain several changes', () => {
    const env = [{ name: 'AWS_REGION', value: 'us-west-2' }];
    const made = applied([
      {
        insertContainer: { containerType: 'app', spec: sidecar },
        insertVolumes: [volume],
        insertVolumeMounts: { containerSelector: [sidecar.name], volumeMounts: [mount] },
        modifyEnv: { containerSelector: [sidecar.name], env },
      },
    ]);
    assert.deepEqual(made.spec?.containers?.at(-1), { ...sidecar, volumeMounts: [mount], env });
  });

  it('a rule is refused where the pod has a different volume, mount or container of that name', () => {
    assert.throws(() => applied([{ insertVolumes: [{ name: 'shared', configMap: { name: 'x' } }] }]), {
      message: 'Mutation acme, rules[0]: volume shared is there already, and differs',
    });
    const volumeMounts = [{ name: 'aws-user-token', mountPath: '/mnt' }];
    assert.throws(() => applied([{ insertVolumeMounts: { volumeMounts } }]), /\/mnt is there already, and differs/);
    const spec = { name: 'run', image: 'quay.io/domino/irsa:2.0.0' };
    assert.throws(() => applied([{ insertContainer: { containerType: 'app', spec } }]), /with another image/);
  });
});

describe('domsed stand-in: any Mutation', () => {
  const name = fc.constantFrom('run', 'executor', 'domino-init', 'sidecar', 'other');
  const word = fc.stringMatching(/^[a-z][a-z0-9]{0,5}$/);
  const selectors = fc.subarray([
    'dominodatalab.com/workload-type in (Workspace,Batch,Scheduled)',
    'dominodatalab.com/starting-user-username=alice',
    'dominodatalab.com/project-id!=none',
  ]);
  const containerSelector = fc.uniqueArray(name, { minLength: 1 });
  const change = fc.oneof(
    fc.record({ user: fc.constantFrom('alice', 'bob'), account: word, assume: fc.boolean() }).map(
      ({ user, account, assume }): Rule => ({
        cloudWorkloadIdentity: { cloud_type: 'aws', assume_sa_mapping: assume, user_mappings: { [user]: account } },
      }),
    ),
    fc
      .constantFrom('init' as const, 'app' as const)
      .map(
        (containerType): Rule => ({ insertContainer: { containerType, spec: { name: 'sidecar', image: 'irsa:2' } } }),
      ),
    word.map((id): Rule => ({ insertVolumes: [{ name: `v-${id}`, emptyDir: {} }] })),
    fc.tuple(containerSelector, word).map(
      ([all, id]): Rule => ({
        insertVolumeMounts: { containerSelector: all, volumeMounts: [{ name: `v-${id}`, mountPath: `/m/${id}` }] },
      }),
    ),
    fc.tuple(containerSelector, word, word).map(
      ([all, id, value]): Rule => ({
        modifyEnv: { containerSelector: all, env: [{ name: id.toUpperCase(), value }] },
      }),
    ),
    // No rule sets a label that a selector above reads: with such rules no webhook could be idempotent.
    fc.tuple(word, word).map(([key, value]): Rule => ({ modifyLabel: { key: `acme.com/${key}`, value } })),
    fc.nat(20_000).map((fsGroup): Rule => ({ modifySecurityContext: { context: { fsGroup } } })),
  );
  const rules = fc.array(
    fc.tuple(selectors, change).map(([labelSelectors, made]) => ({ labelSelectors, ...made })),
    { maxLength: 8 },
  );
  // On the first run, an earlier rule does not see a container that a later rule inserts.
  const inOrder = rules.map((all) =>
    all.sort((a, b) => Number('insertContainer' in b) - Number('insertContainer' in a)),
  );

  it('changes nothing when it is applied again', () => {
    fc.assert(
      fc.property(inOrder, (all) => {
        const once = applied(all);
        assert.deepEqual(applyMutations([mutation(...all)], once), once);
      }),
    );
  });

  it('does not modify its arguments, nor a pod that its rules do not select', () => {
    fc.assert(
      fc.property(rules, (all) => {
        const given = [pod(), mutation(...all)] as const;
        const before = structuredClone(given);
        applyMutations([given[1]], given[0]);
        assert.deepEqual(given, before);
        const elsewhere = all.map((rule) => ({
          ...rule,
          labelSelectors: [...rule.labelSelectors, 'acme.com/no-such'],
        }));
        assert.deepEqual(applyMutations([mutation(...elsewhere)], given[0]), given[0]);
      }),
    );
  });
});

describe('domsed stand-in: an invalid Mutation', () => {
  const rule = (rest: object) => () => checkMutation(mutation(rest as Rule));

  for (const [what, wrong, message] of [
    ['an unknown rule', { insertSidecar: {} }, /rules\[0\]\.insertSidecar: Invalid value: unknown field/],
    [
      'a misspelt key in a rule',
      { modifyEnv: { containers: [], env: [] } },
      /rules\[0\]\.modifyEnv\.containers: .*unknown/,
    ],
    ['a missing key', { insertVolumeMounts: {} }, /rules\[0\]\.insertVolumeMounts\.volumeMounts: Required value/],
    [
      'a misspelt key in a container',
      { insertContainer: { containerType: 'app', spec: { name: 'x', image: 'y', volumeMount: [] } } },
      /insertContainer\.spec\.volumeMount: .*unknown/,
    ],
    [
      'an unknown container type',
      { insertContainer: { containerType: 'sidecar', spec: { name: 'x', image: 'y' } } },
      /containerType: .* allowed values: init, app/,
    ],
    ['an unknown cloud', { cloudWorkloadIdentity: { cloud_type: 'gcp' } }, /cloud_type: .* allowed values: aws/],
    ['a number in place of a string', { modifyLabel: { key: 'x', value: 1 } }, /modifyLabel\.value: .*must be string/],
    ['an invalid selector', { labelSelectors: ['a in b'] }, /labelSelectors\[0\]: .*unable to parse/],
    ['a spec, which a Mutation does not have', {}, /spec: Invalid value: unknown field/],
  ] as const) {
    it(`is refused for ${what}, and the error names the field`, () => {
      if (what.startsWith('a spec'))
        assert.throws(() => checkMutation({ ...documented, spec: {} } as Mutation), message);
      else assert.throws(rule(wrong), message);
    });
  }

  it('makes applyMutations throw an error that names the Mutation', () => {
    assert.throws(() => applyMutations([documented, mutation({ modifyLabels: {} } as Rule)], pod()), /Mutation acme: /);
  });
});
