/** Owns the tokens that the API server makes for a service account, bound to one of its pods. */
import type { KubernetesApi } from './transport.ts';

export interface TokenRequest {
  account: string;
  audience: string;
  /** The pod that the token ends with, as it was checked: the API server refuses it for another account's, or for a later one of its name. */
  pod: { name: string; uid: string };
  seconds: number;
}

export interface MadeToken {
  token: string;
  /** ISO 8601. */
  expiresAt: string;
}

/** serviceaccounts/token: create (compute) */
/** @throws KubernetesError */
export type MakeToken = (request: TokenRequest) => Promise<MadeToken>;

/** https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/ */
export function createTokenMaker(api: Pick<KubernetesApi, 'call'>, computeNamespace: string): MakeToken {
  return async ({ account, audience, pod, seconds }) => {
    const boundObjectRef = { apiVersion: 'v1', kind: 'Pod', ...pod };
    const spec = { audiences: [audience], expirationSeconds: seconds, boundObjectRef };
    const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec };
    const path = `/api/v1/namespaces/${computeNamespace}/serviceaccounts/${account}/token`;
    // A token that nobody received harms nobody.
    const { status } = await api.call<{ status: { token: string; expirationTimestamp: string } }>('POST', path, {
      body,
      canRunTwice: true,
    });
    return { token: status.token, expiresAt: status.expirationTimestamp };
  };
}
