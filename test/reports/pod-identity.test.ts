/** Proves the reports of Pod Identities: the state, the reason, the advice, and which pods must be restarted. */
import assert from 'node:assert/strict';
import type { Pod } from '../../src/kubernetes/client.ts';
import {
  completePodIdentity,
  type PodIdentitySent,
  parsePodIdentities,
  storedPodIdentity,
} from '../../src/pod-identity/mappings.ts';
import { podIdentityReasonCodes } from '../../src/pod-identity/record.ts';
import { type PodIdentityStatus, podIdentityStatusForm } from '../../src/pod-identity/status.ts';
import { adviceFor } from '../../src/reports/advice.ts';
import { podIdentityOf, podIdentityReports } from '../../src/reports/pod-identity.ts';

const role = (name: string) => `arn:aws:iam::111111111111:role/${name}`;
const made = '2026-11-22T09:00:00.000Z';
const run = '646d27b817c28b5ea4b5b0c1';

const inPlace: PodIdentityStatus = {
  service_account: 'alice-sa',
  domino_user: 'alice',
  state: 'in_place',
  iam_role_arn: role('a'),
  session_tags: true,
  parts: { service_account: true, trust_policy: true, association: true, mutation: true },
  association: { id: 'a-1', iam_role_arn: role('a'), created_at: made },
  trusted_by: [role('a')],
};

function pod(name: string, account: string, hasPodIdentity: boolean, user = 'alice', workload = 'Workspace'): Pod {
  return { name, uid: '', run, account, user: `id-${user}`, userName: user, workload, hasPodIdentity, live: true };
}

function sources(sent: PodIdentitySent[], statuses: PodIdentityStatus[], pods: Pod[] = []) {
  const data = Object.fromEntries(sent.map((one) => [one.domino_user, storedPodIdentity(completePodIdentity(one))]));
  return {
    identities: parsePodIdentities(data),
    status: (account: string) => statuses.find((status) => status.service_account === account),
    statuses: () => statuses,
    pods,
    knowsMutation: true,
  };
}

/** A caller of this name. */
const caller = (name: string, id = `id-${name}`) => ({ id, name });
const alice = { domino_user: 'alice', iam_role_arn: role('a') };

describe('the report of a Pod Identity', () => {
  it('lists the pods of one that is in place, and nothing to restart', () => {
    const report = podIdentityOf(caller('alice'), sources([alice], [inPlace], [pod('p', 'alice-sa', true)]));
    assert.deepEqual([report?.state, report?.code, report?.pods, report?.restart], ['in_place', undefined, ['p'], []]);
    assert.equal(report?.advice, adviceFor('pod_identity', 'in_place'));
    assert.deepEqual(report?.association, inPlace.association);
  });

  it('lists pods to restart that began before the association or before the mapping', () => {
    const pods = [
      pod('old', 'alice-sa', false),
      pod('new', 'alice-sa', true),
      pod('own', `run-${run}`, false),
      // Domsed never gives an app the service account.
      pod('app', `run-${run}`, false, 'alice', 'App'),
      pod('ray', `ray-${run}-ray`, false),
      pod('bobs', `run-${run}`, false, 'bob'),
    ];
    const report = podIdentityOf(caller('alice'), sources([alice], [inPlace], pods));
    assert.deepEqual(report?.restart, [
      { pod: 'old', run_id: run, why: 'before_association' },
      { pod: 'own', run_id: run, why: 'before_mapping' },
    ]);
    assert.deepEqual(report?.pods, ['new']);
    assert.equal(report?.advice, adviceFor('pod_identity', 'restart'));
  });

  it('lists nothing to restart without an association', () => {
    const { association: _none, ...rest } = inPlace;
    const status: PodIdentityStatus = { ...rest, state: 'pending' };
    assert.deepEqual(
      podIdentityOf(caller('alice'), sources([alice], [status], [pod('p', `run-${run}`, false)]))?.restart,
      [],
    );
  });

  it('is pending where the leader has not seen it yet, or saw another mapping', () => {
    const unseen = podIdentityOf(caller('alice'), sources([alice], []));
    assert.deepEqual([unseen?.state, unseen?.code, unseen?.parts], ['pending', 'not_checked_yet', undefined]);
    const blind = podIdentityOf(caller('alice'), { ...sources([alice], []), knowsMutation: false });
    assert.equal(blind?.code, 'mutations_unknown');
    const changed = podIdentityOf(caller('alice'), sources([{ ...alice, iam_role_arn: role('b') }], [inPlace]));
    assert.deepEqual([changed?.state, changed?.code, changed?.iam_role_arn], ['pending', 'not_checked_yet', role('b')]);
    // The service account was another user's before.
    const moved = podIdentityOf(
      caller('bob'),
      sources([{ ...alice, domino_user: 'bob', service_account: 'alice-sa' }], [inPlace]),
    );
    assert.deepEqual([moved?.domino_user, moved?.state, moved?.association], ['bob', 'pending', undefined]);
  });

  it('gives the reason, time and advice of a refusal, and AWS’s message to administrators only', () => {
    const reason = { code: 'pass_role_denied', detail: 'irsa-svc is not allowed', said: 'User: arn:secret', at: made };
    const status: PodIdentityStatus = { ...inPlace, state: 'refused', reason };
    const report = podIdentityOf(caller('alice'), sources([alice], [status]));
    assert.deepEqual([report?.code, report?.reason, report?.since], [reason.code, reason.detail, made]);
    assert.match(report?.advice ?? '', /iam:PassRole/);
    assert.doesNotMatch(JSON.stringify(report), /secret/);
    assert.equal(podIdentityReports(sources([alice], [status]))[0]?.said, 'User: arn:secret');
  });

  it('is leaving without a mapping, and refused where the mapping is unusable', () => {
    const reports = podIdentityReports(
      sources(
        [],
        [
          { ...inPlace, domino_user: 'zoe' },
          { ...inPlace, service_account: 'x' },
        ],
      ),
    );
    assert.deepEqual(
      reports.map(({ domino_user, state }) => [domino_user, state]),
      [
        ['alice', 'leaving'],
        ['zoe', 'leaving'],
      ],
    );
    const frozen = { ...sources([], [inPlace]), identities: parsePodIdentities({ alice: 'x' }) };
    const reason = { code: 'invalid_mapping', detail: 'not JSON', at: made };
    const status: PodIdentityStatus = { ...inPlace, state: 'refused', reason };
    const [report] = podIdentityReports({ ...frozen, statuses: () => [status], status: () => status });
    assert.deepEqual([report?.state, report?.code], ['refused', 'invalid_mapping']);
  });

  it('is absent for a user without a mapping', () => {
    assert.equal(podIdentityOf(caller('bob'), sources([alice], [inPlace])), undefined);
  });

  it('has advice for every reason', () => {
    for (const code of podIdentityReasonCodes)
      assert.notEqual(adviceFor('pod_identity', code), adviceFor('pod_identity', 'unknown'), code);
    assert.match(adviceFor('pod_identity', 'constructor'), /log/);
  });
});

describe('the published status of a Pod Identity', () => {
  it('is read back unchanged, and is ignored where it is incomplete', () => {
    const { data, parse, nameOf } = podIdentityStatusForm;
    assert.deepEqual(parse(data(inPlace)), inPlace);
    const [key = ''] = Object.keys(data(inPlace));
    for (const text of ['', 'x', '{}', JSON.stringify({ ...inPlace, state: 'odd' })]) {
      assert.equal(parse({ [key]: text }), undefined);
    }
    assert.notEqual(nameOf('a.b'), nameOf('a-b'));
    assert.match(nameOf(`${'x'.repeat(250)}-sa`), /^irsa-pod-identity-[a-z0-9-]{1,60}$/);
  });
});
