/** Owns domsed's and EKS's webhooks as a real API server calls them: an HTTPS server, registered for pods that are created. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { makeCertificate } from '../../stack/certificates.ts';
import type { Cluster } from '../../stack/kubernetes-admission.ts';
import type { KubernetesObject } from '../../stack/kubernetes-kinds.ts';
import { podWebhooks } from '../../stack/pod-webhooks.ts';
import { readBody } from '../../stack/server.ts';
import type { RealCluster } from './cluster.ts';

interface Review {
  uid: string;
  dryRun?: boolean;
  userInfo: { username: string };
  namespace: string;
  object: KubernetesObject;
}

export interface PodWebhook {
  /** Who created pods, oldest first, and whether as a dry run. */
  readonly seen: { user: string; dryRun: boolean }[];
  close(): Promise<void>;
}

/** @param associationOf whether a service account has a Pod Identity association at this moment. */
export async function startPodWebhook(
  cluster: RealCluster,
  associationOf: (namespace: string, account: string) => boolean,
): Promise<PodWebhook> {
  const seen: PodWebhook['seen'] = [];
  const admit = podWebhooks({ associationOf });
  async function review({ uid, dryRun = false, userInfo, namespace, object }: Review) {
    seen.push({ user: userInfo.username, dryRun });
    const { items = [] } = await cluster.must(
      'GET',
      '/apis/apps.dominodatalab.com/v1alpha1/namespaces/domino-platform/mutations',
    );
    // The objects that it may read; the annotation of service accounts has no effect here.
    const stored = { list: () => items, get: () => undefined } as unknown as Cluster;
    // A pod says which namespace it is for only if it likes to.
    const given = { ...object, metadata: { ...object.metadata, namespace } };
    const { spec, metadata } = admit('pods', given, stored);
    const steps = Object.entries({ spec, metadata }).map(([key, value]) => ({ op: 'add', path: `/${key}`, value }));
    const patch = Buffer.from(JSON.stringify(steps)).toString('base64');
    return { uid, allowed: true, patchType: 'JSONPatch', patch };
  }
  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { request: asked } = JSON.parse(await readBody(request)) as { request: Review };
    const body = { apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview', response: await review(asked) };
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  }
  const tls = makeCertificate();
  const server = createServer(tls, (request, response) => {
    answer(request, response).catch((error: unknown) => response.writeHead(500).end(String(error)));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await cluster.must('POST', '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations', {
    metadata: { name: 'pods' },
    webhooks: [
      {
        name: 'pods.stand-in.example',
        admissionReviewVersions: ['v1'],
        sideEffects: 'None',
        failurePolicy: 'Fail',
        clientConfig: { url: `https://127.0.0.1:${port}/`, caBundle: Buffer.from(tls.cert).toString('base64') },
        namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'domino-compute' } },
        rules: [{ apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE'], resources: ['pods'] }],
      },
    ],
  });
  return {
    seen,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
