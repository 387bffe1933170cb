/** Owns the check that the realm of the fetched keys is the configured issuer, as its discovery document says. */
import { z } from 'zod';
import { boundedText } from '../lib/bounded-text.ts';
import { parseJson } from '../lib/json.ts';

const keysPath = '/protocol/openid-connect/certs';
const maxDocumentBytes = 256 * 1024;
const documentForm = z.object({ issuer: z.string() });

/**
 * Asks the realm itself, at the address of its keys, so that no token can influence the answer.
 * OpenID Connect Discovery 1.0 section 4, https://www.keycloak.org/securing-apps/oidc-layers
 * @returns the realm's issuer where it is another one, so that every token of the realm will be refused; undefined where
 * it is the configured one, and where the document could not be fetched or does not decide it.
 */
export async function askOtherIssuer(jwksUrl: string, issuer: string, timeoutMs: number): Promise<string | undefined> {
  if (!jwksUrl.endsWith(keysPath)) return undefined;
  const url = `${jwksUrl.slice(0, -keysPath.length)}/.well-known/openid-configuration`;
  try {
    const response = await fetch(url, { redirect: 'error', signal: AbortSignal.timeout(timeoutMs) });
    if (response.status !== 200) {
      await response.body?.cancel();
      return undefined;
    }
    const found = parseJson(documentForm, await boundedText(response, maxDocumentBytes));
    return found && otherIssuer(found.issuer, issuer, url);
  } catch {
    return undefined;
  }
}

/**
 * @param said the issuer in the document at `url`. A Keycloak without a fixed host name answers with the host of the
 * request, which may be cluster-internal and differ from the one in tokens; then only the realm's path is compared.
 */
export function otherIssuer(said: string, issuer: string, url: string): string | undefined {
  if (said === issuer) return undefined;
  if (!URL.canParse(said) || !URL.canParse(issuer)) return said;
  const [realm, accepted] = [new URL(said), new URL(issuer)];
  const isOwnName = realm.origin !== new URL(url).origin;
  return isOwnName || realm.pathname !== accepted.pathname ? said : undefined;
}
