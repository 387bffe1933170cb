/** Owns the check that the realm of the fetched keys is the configured issuer, as its discovery document says. */
import { boundedText } from '../lib/bounded-text.ts';

export type IssuerVerdict =
  /** The realm's issuer is the configured one. */
  | { kind: 'same' }
  /** It is another one, so every token of the realm will be refused. */
  | { kind: 'other'; issuer: string }
  /** The document could not be fetched, or does not decide it. */
  | { kind: 'unknown' };

const keysPath = '/protocol/openid-connect/certs';
const maxDocumentBytes = 256 * 1024;

/**
 * Asks the realm itself, at the address of its keys, so that no token can influence the verdict.
 * OpenID Connect Discovery 1.0 section 4, https://www.keycloak.org/securing-apps/oidc-layers
 */
export async function askRealmIssuer(jwksUrl: string, issuer: string, timeoutMs: number): Promise<IssuerVerdict> {
  if (!jwksUrl.endsWith(keysPath)) return { kind: 'unknown' };
  const url = `${jwksUrl.slice(0, -keysPath.length)}/.well-known/openid-configuration`;
  try {
    const response = await fetch(url, { redirect: 'error', signal: AbortSignal.timeout(timeoutMs) });
    if (response.status !== 200) {
      await response.body?.cancel();
      return { kind: 'unknown' };
    }
    const found: unknown = JSON.parse(await boundedText(response, maxDocumentBytes));
    const said = typeof found === 'object' && found !== null && 'issuer' in found ? found.issuer : undefined;
    return typeof said === 'string' ? compareIssuers(said, issuer, url) : { kind: 'unknown' };
  } catch {
    return { kind: 'unknown' };
  }
}

/**
 * @param said the issuer in the document at `url`. A Keycloak without a fixed host name answers with the host of the
 * request, which may be cluster-internal and differ from the one in tokens; then only the realm's path is compared.
 */
export function compareIssuers(said: string, issuer: string, url: string): IssuerVerdict {
  if (said === issuer) return { kind: 'same' };
  if (!URL.canParse(said) || !URL.canParse(issuer)) return { kind: 'other', issuer: said };
  const [realm, accepted] = [new URL(said), new URL(issuer)];
  const isOwnName = realm.origin !== new URL(url).origin;
  return isOwnName || realm.pathname !== accepted.pathname ? { kind: 'other', issuer: said } : { kind: 'unknown' };
}
