/** Owns TokenRequest in the Kubernetes stand-in: issues tokens of a service account, signed by the cluster's issuer. */
import { type ClusterIssuer, createIssuer } from './issuer.ts';
import { type KubernetesObject, kindNamed } from './kubernetes-kinds.ts';
import type { Knobs } from './kubernetes-knobs.ts';
import { badRequest, conflict, invalid, notFound, StatusError } from './kubernetes-status.ts';
import { objectOf, type Store } from './kubernetes-store.ts';

interface BoundObject {
  kind?: string;
  apiVersion?: string;
  name?: string;
  uid?: string;
}

interface Spec {
  audiences?: string[];
  expirationSeconds?: number;
  boundObjectRef?: BoundObject | null;
}

export type TokenIssuer = Pick<ClusterIssuer, 'podToken'>;
export type Tokens = ReturnType<typeof createTokens>;

/** The kind is not in the store's list, since a TokenRequest is never stored. */
const tokenRequest = { group: 'authentication.k8s.io', kind: 'TokenRequest', plural: 'tokenrequests' };
const leastSeconds = 600;
const mostSeconds = 2 ** 32;

/** @param issuer the cluster's issuer. Without it the stand-in signs with its own key, which no AWS account trusts. */
export function createTokens(
  store: Store,
  knobs: Pick<Knobs, 'refuseTokens' | 'tokenLatencyMs' | 'tokenClockMs'>,
  now: () => number,
  issuer: TokenIssuer | undefined,
  sleep: (ms: number) => Promise<void>,
) {
  let own: Promise<TokenIssuer> | undefined;

  return async (namespace: string, account: string, body: unknown): Promise<KubernetesObject> => {
    if (knobs.tokenLatencyMs > 0) await sleep(knobs.tokenLatencyMs);
    if (knobs.refuseTokens !== '') {
      const [code = '', ...words] = knobs.refuseTokens.split(' ');
      throw new StatusError(Number(code), words.join(' '));
    }
    const { spec: { audiences: asked = [], expirationSeconds = 3600, boundObjectRef } = {} } = body as { spec?: Spec };
    const audiences = asked.length > 0 ? asked : ['https://kubernetes.default.svc'];
    const owner = store.find(kindNamed('serviceaccounts'), namespace, account);
    if (!owner) throw notFound(kindNamed('serviceaccounts'), account);
    refuseLife(expirationSeconds);
    const pod = boundObjectRef ? boundPod(store, namespace, account, boundObjectRef) : undefined;
    own ??= issuer ? Promise.resolve(issuer) : createIssuer();
    const { podToken } = await own;
    const issuedAt = now() + knobs.tokenClockMs;
    const token = await podToken({
      namespace,
      serviceAccount: account,
      serviceAccountUid: owner.uid,
      ...(pod ? { pod: pod.name, podUid: pod.uid } : { isBound: false }),
      audience: audiences,
      expiresInSeconds: expirationSeconds,
      now: issuedAt,
    });
    const expirationTimestamp = new Date((Math.floor(issuedAt / 1000) + expirationSeconds) * 1000)
      .toISOString()
      .replace('.000Z', 'Z');
    return {
      kind: 'TokenRequest',
      apiVersion: 'authentication.k8s.io/v1',
      metadata: { name: account, namespace, creationTimestamp: new Date(issuedAt).toISOString() },
      spec: { audiences, expirationSeconds, boundObjectRef: boundObjectRef ?? null },
      status: { token, expirationTimestamp },
    };
  };
}

function refuseLife(seconds: number): void {
  const field = 'spec.expirationSeconds';
  const refusal = (why: string) => invalid(tokenRequest, '', [{ field, message: `Invalid value: ${seconds}: ${why}` }]);
  if (seconds < leastSeconds) throw refusal('may not specify a duration less than 10 minutes');
  if (seconds > mostSeconds) throw refusal('may not specify a duration larger than 2^32 seconds');
}

/** https://github.com/kubernetes/kubernetes/blob/v1.36.0/pkg/registry/core/serviceaccount/storage/token.go */
function boundPod(store: Store, namespace: string, account: string, { kind, apiVersion, name = '', uid }: BoundObject) {
  const pods = kindNamed('pods');
  if (kind !== 'Pod' || apiVersion !== 'v1') {
    throw badRequest(`cannot bind token to object of type /${apiVersion}, Kind=${kind}`);
  }
  const entry = store.find(pods, namespace, name);
  if (!entry) throw notFound(pods, name);
  const { spec } = objectOf(pods, entry) as { spec?: { serviceAccountName?: string } };
  if (spec?.serviceAccountName !== account) {
    throw badRequest(
      `cannot bind token for serviceaccount "${account}" to pod running with different serviceaccount name.`,
    );
  }
  if (uid !== undefined && uid !== '' && uid !== entry.uid) {
    const why = `the UID in the bound object reference (${uid}) does not match the UID in record. The object might have been deleted and then recreated`;
    throw conflict(pods, name, why);
  }
  return { name, uid: entry.uid };
}
