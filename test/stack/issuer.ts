/** Owns the EKS cluster's OIDC issuer: its signing key, and the tokens that the kubelet mounts into pods. */
import { randomUUID } from 'node:crypto';
import { exportJWK, generateKeyPair, type JSONWebKeySet, SignJWT } from 'jose';

export interface PodTokenOptions {
  namespace?: string;
  serviceAccount: string;
  /** Whether the token is bound to the pod and becomes invalid with it. */
  isBound?: boolean;
  pod?: string;
  /** A new one by default. */
  podUid?: string;
  serviceAccountUid?: string;
  audience?: string | string[];
  expiresInSeconds?: number;
  /** Milliseconds since the epoch at which the token is issued. */
  now?: number;
}

export interface ClusterIssuer {
  /** Without `https://`, as condition keys and provider ARNs have it. */
  readonly issuer: string;
  readonly jwks: JSONWebKeySet;
  podToken(options: PodTokenOptions): Promise<string>;
}

export async function createIssuer({
  issuer = 'oidc.eks.us-west-2.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE',
}: {
  issuer?: string;
} = {}): Promise<ClusterIssuer> {
  const { privateKey, publicKey } = await generateKeyPair('RS256');
  const kid = randomUUID();
  const jwks: JSONWebKeySet = { keys: [{ ...(await exportJWK(publicKey)), kid, alg: 'RS256', use: 'sig' }] };
  return {
    issuer,
    jwks,
    podToken({
      namespace = 'domino-compute',
      serviceAccount,
      isBound = true,
      pod = `${serviceAccount}-pod`,
      podUid = randomUUID(),
      serviceAccountUid = randomUUID(),
      audience = 'sts.amazonaws.com',
      expiresInSeconds = 86_400,
      now = Date.now(),
    }) {
      const seconds = Math.floor(now / 1000);
      const bound = {
        namespace,
        ...(isBound ? { pod: { name: pod, uid: podUid } } : {}),
        serviceaccount: { name: serviceAccount, uid: serviceAccountUid },
      };
      return new SignJWT({ 'kubernetes.io': bound })
        .setProtectedHeader({ alg: 'RS256', kid })
        .setIssuer(`https://${issuer}`)
        .setSubject(`system:serviceaccount:${namespace}:${serviceAccount}`)
        .setAudience([audience].flat())
        .setJti(randomUUID())
        .setIssuedAt(seconds)
        .setNotBefore(seconds)
        .setExpirationTime(seconds + expiresInSeconds)
        .sign(privateKey);
    },
  };
}
