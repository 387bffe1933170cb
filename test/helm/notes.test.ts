/** Proves the notes that helm prints after an installation. */
import assert from 'node:assert/strict';
import { needsHelm } from './objects.ts';
import { renderNotes } from './render.ts';

describe('the notes of the chart', function () {
  this.timeout(60_000);
  before(needsHelm);

  it('list the next steps', () => {
    const notes = renderNotes();
    for (const part of [
      'kubectl -n domino-field rollout status deployment/irsa-svc',
      'which must trust system:serviceaccount:domino-field:irsa-svc.',
      'kubectl -n domino-compute get configmap irsa-ca',
      'https://irsa-svc.domino-field/update_multirole_mapping',
      'arn:aws:iam::111111111111:role/acme-list-bucket-role',
      'deploy/notebooks',
      'helm test irsa -n domino-field --logs',
      'https://localhost:8443/console, behind',
      'port-forward service/irsa-svc 8443:443',
      'curl localhost:6003/status',
      '`helm uninstall` leaves the mappings',
    ]) {
      assert.ok(notes.includes(part), `${part}\n${notes}`);
    }
    assert.equal(/1\.8|WITHOUT END|wait for each other/.test(notes), false, notes);
  });

  it('name release 1.8’s values that have no effect, and the service account that 1.8’s role trusts', () => {
    const notes = renderNotes({ env: { name: 'irsa', memcached: {} }, serviceAccount: { name: '' } });
    assert.match(notes, /can be removed: env\.name, env\.memcached\./);
    assert.match(notes, /set serviceAccount\.name to\s+irsa/);
  });

  it('say how to keep 1.8’s volumes without a sidecar', () => {
    const notes = renderNotes({ irsa_client_sidecar: { enabled: false } });
    assert.match(notes, /there is no Mutation[\s\S]*set\s+irsa_client_sidecar\.mode to none/);
  });

  it('warn of workloads and native sidecars that wait for each other', () => {
    assert.match(renderNotes({ irsa_client_sidecar: { mode: 'native' } }), /until 120 s have passed/);
    const endless = { irsa_client_sidecar: { mode: 'native', native: { maxWaitSeconds: 0 } } };
    assert.match(renderNotes(endless), /WITHOUT END/);
  });

  it('give the console’s public address, and omit the console where it is off', () => {
    const ingress = { enabled: true, host: 'irsa.acme.example' };
    assert.match(renderNotes({ ingress }), /why a user has none: https:\/\/irsa\.acme\.example\/console/);
    assert.doesNotMatch(renderNotes({ console: { enabled: false }, tests: { enabled: false } }), /console|helm test/);
  });
});
