/** Proves which certificates the chart asks for, and that workloads get the CA alone. */
import assert from 'node:assert/strict';
import { needsHelm, service, type Workload } from './objects.ts';
import { objectNamed, type Rendered, renderChart } from './render.ts';

describe('the certificates of the chart', function () {
  this.timeout(60_000);
  before(needsHelm);

  it('cover each DNS name by which workloads call the service', () => {
    const objects = renderChart();
    const { spec } = objectNamed<Rendered & { spec: { dnsNames: string[]; secretName: string; issuerRef: unknown } }>(
      objects,
      'Certificate',
      'irsa-svc',
    );
    assert.deepEqual(spec.dnsNames, [
      'irsa-svc',
      'irsa-svc.domino-field',
      'irsa-svc.domino-field.svc',
      'irsa-svc.domino-field.svc.cluster.local',
    ]);
    assert.deepEqual(spec.issuerRef, { name: 'irsa-svc-ca', kind: 'Issuer', group: 'cert-manager.io' });
    const volume = service(objects).spec.template.spec.volumes?.[0];
    assert.equal(volume?.secret?.secretName, spec.secretName);
    const hooks = objects
      .map(({ metadata }) => metadata.annotations?.['helm.sh/hook'])
      .filter((hook) => hook !== undefined);
    assert.deepEqual([...new Set(hooks)], ['test'], 'no job makes certificates');
    assert.ok(objects.every(({ kind }) => kind !== 'Secret'));
  });

  it('give the compute namespace the CA without its private key', () => {
    const objects = renderChart();
    const publisher = objectNamed<Workload>(objects, 'Deployment', 'irsa-svc-ca-publisher');
    const sources = publisher.spec.template.spec.volumes?.find(({ name }) => name === 'ca')?.projected?.sources;
    const items = (sources as { secret: { items: { key: string }[] } }[]).flatMap(({ secret }) => secret.items);
    assert.deepEqual(
      items.map(({ key }) => key),
      ['tls.crt', 'ca.crt'],
    );
    // The chart sets no data: otherwise an upgrade would remove the published CA.
    const copy = objectNamed(objects, 'ConfigMap', 'irsa-ca');
    assert.deepEqual([copy.metadata.namespace, copy.data], ['domino-compute', undefined]);
  });
});
