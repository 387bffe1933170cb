/** Owns AWS's checks of a Kubernetes service account's token: its issuer, signature and expiry. */
import { createLocalJWKSet, decodeJwt, errors, type JSONWebKeySet, type JWTPayload, jwtVerify } from 'jose';
import { AwsError } from './aws-xml.ts';

/** The token's issuer, with `https://`. Throws InvalidIdentityToken where the text is no token. */
export function issuerOf(token: string): string {
  try {
    return decodeJwt(token).iss ?? '';
  } catch {
    throw new AwsError('InvalidIdentityToken', 'The ID Token provided is not a valid JWT.');
  }
}

/** `now` in milliseconds. Throws ExpiredTokenException or InvalidIdentityToken. */
export async function verifyToken(token: string, jwks: JSONWebKeySet, now: number): Promise<JWTPayload> {
  try {
    const { payload } = await jwtVerify(token, createLocalJWKSet(jwks), {
      currentDate: new Date(now),
      requiredClaims: ['exp', 'sub', 'aud'],
    });
    return payload;
  } catch (error) {
    if (error instanceof errors.JWTExpired) {
      throw new AwsError('ExpiredTokenException', `Token expired: current date/time ${Math.floor(now / 1000)}`);
    }
    throw new AwsError(
      'InvalidIdentityToken',
      error instanceof errors.JOSEError ? `Token refused: ${error.code}` : "Couldn't retrieve verification key",
    );
  }
}

export function audiencesOf(claims: JWTPayload): string[] {
  return typeof claims.aud === 'string' ? [claims.aud] : (claims.aud ?? []);
}
