/** Owns the REST-JSON protocol of EKS and EKS Auth: maps paths to calls, and writes errors. */
import { AwsError } from './aws-xml.ts';

export type RestService = 'eks' | 'eks-auth';

export interface RestCall {
  readonly service: RestService;
  readonly action: string;
  readonly cluster: string;
  /** Empty for the calls that name no association. */
  readonly associationId: string;
  readonly query: URLSearchParams;
}

const ROUTES: readonly [method: string, path: RegExp, service: RestService, action: string][] = [
  ['POST', /^\/clusters\/([^/]+)\/pod-identity-associations$/, 'eks', 'CreatePodIdentityAssociation'],
  ['GET', /^\/clusters\/([^/]+)\/pod-identity-associations$/, 'eks', 'ListPodIdentityAssociations'],
  ['GET', /^\/clusters\/([^/]+)\/pod-identity-associations\/([^/]+)$/, 'eks', 'DescribePodIdentityAssociation'],
  ['POST', /^\/clusters\/([^/]+)\/pod-identity-associations\/([^/]+)$/, 'eks', 'UpdatePodIdentityAssociation'],
  ['DELETE', /^\/clusters\/([^/]+)\/pod-identity-associations\/([^/]+)$/, 'eks', 'DeletePodIdentityAssociation'],
  ['POST', /^\/clusters\/([^/]+)\/assume-role-for-pod-identity$/, 'eks-auth', 'AssumeRoleForPodIdentity'],
];

/** Undefined where the path is no call of EKS. IAM and STS use only the path `/`, so one address can serve all of them. */
export function restCall(method: string | undefined, url: string | undefined): RestCall | undefined {
  const [path = '', query = ''] = (url ?? '').split('?');
  if (!path.startsWith('/clusters/')) return undefined;
  for (const [verb, pattern, service, action] of ROUTES) {
    const found = verb === method ? pattern.exec(path) : null;
    if (!found) continue;
    const [cluster = '', associationId = ''] = found.slice(1).map(decodeURIComponent);
    return { service, action, cluster, associationId, query: new URLSearchParams(query) };
  }
  return { service: 'eks', action: 'UnknownOperation', cluster: '', associationId: '', query: new URLSearchParams() };
}

/** Throws InvalidParameterException when the body is no JSON object. */
export function jsonBody(text: string): Record<string, unknown> {
  let body: unknown;
  try {
    body = JSON.parse(text || '{}');
  } catch {
    throw new AwsError('InvalidParameterException', 'The request body is not JSON');
  }
  if (typeof body === 'object' && body !== null && !Array.isArray(body)) return body as Record<string, unknown>;
  throw new AwsError('InvalidParameterException', 'The request body is not a JSON object');
}

/** Errors for which the knobs and the key ring use IAM's names. */
const NAMES: Record<string, string> = {
  AccessDenied: 'AccessDeniedException',
  ExpiredToken: 'ExpiredTokenException',
  InternalFailure: 'ServerException',
  InvalidClientTokenId: 'UnrecognizedClientException',
  InvalidIdentityToken: 'InvalidTokenException',
  MissingAuthenticationToken: 'MissingAuthenticationTokenException',
  ServiceFailure: 'ServerException',
  ServiceUnavailable: 'ServiceUnavailableException',
  Throttling: 'ThrottlingException',
};

/** The same error by the name and the status that the service's model gives it. */
export function restError(service: RestService, error: AwsError): AwsError {
  const code = NAMES[error.code] ?? error.code;
  if (service === 'eks-auth') {
    // EKS Auth's model has 400 here, EKS's 403.
    if (code === 'AccessDeniedException') return new AwsError(code, error.message, 400);
    if (code === 'ServerException') return new AwsError('InternalServerException', error.message);
  }
  return code === error.code ? error : new AwsError(code, error.message);
}
