/** Owns the requests for service account tokens, each bound to one of the account's pods. */
import type { KubernetesApi } from './transport.ts';

export interface TokenRequest {
  account: string;
  audience: string;
  /** The token is valid only while this pod exists. The API server refuses another account's pod, and a wrong uid. */
  pod: { name: string; uid: string };
  seconds: number;
}

export interface MadeToken {
  token: string;
  /** ISO 8601. */
  expiresAt: string;
}

/** serviceaccounts/token: create (compute). @throws KubernetesError */
export type MakeToken = (request: TokenRequest) => Promise<MadeToken>;

/** https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/ */
export function createTokenMaker(api: Pick<KubernetesApi, 'call'>, computeNamespace: string): MakeToken {
  return async ({ account, audience, pod, seconds }) => {
    const boundObjectRef = { apiVersion: 'v1', kind: 'Pod', ...pod };
    const spec = { audiences: [audience], expirationSeconds: seconds, boundObjectRef };
    const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec };
    const path = `/api/v1/namespaces/${computeNamespace}/serviceaccounts/${account}/token`;
    // A retry is safe: a token that was lost on the way does no harm.
    const { status } = await api.call<{ status: { token: string; expirationTimestamp: string } }>('POST', path, {
      body,
      canRunTwice: true,
    });
    return { token: status.token, expiresAt: status.expirationTimestamp };
  };
}
