/** Owns the AWS Query protocol's answers: XML in the form that the SDKs parse, and its errors. */

export type XmlValue =
  | string
  | number
  | boolean
  | readonly XmlValue[]
  | { readonly [tag: string]: XmlValue | undefined };

const NAMESPACES = {
  iam: 'https://iam.amazonaws.com/doc/2010-05-08/',
  sts: 'https://sts.amazonaws.com/doc/2011-06-15/',
};

export type AwsService = keyof typeof NAMESPACES;

/** Status and usual message of each error that the knobs can name by its code alone. */
const KNOWN: Record<string, readonly [status: number, message: string]> = {
  AccessDenied: [403, 'Access denied'],
  AccessDeniedException: [403, 'Access denied'],
  ConcurrentModification: [
    409,
    'The request was rejected because multiple requests to change this object were submitted',
  ],
  EntityAlreadyExists: [409, 'The entity already exists'],
  ExpiredToken: [403, 'The security token included in the request is expired'],
  ExpiredTokenException: [400, 'Token expired'],
  IDPCommunicationError: [400, 'Could not reach the identity provider'],
  InternalFailure: [500, 'The request processing has failed because of an unknown error'],
  InvalidAction: [400, 'Could not find operation'],
  InvalidClientTokenId: [403, 'The security token included in the request is invalid.'],
  InternalServerException: [500, 'The request processing has failed because of an unknown error'],
  InvalidIdentityToken: [400, 'The ID token is invalid'],
  InvalidParameterException: [400, 'The specified parameter is invalid.'],
  InvalidRequestException: [400, 'The request is invalid given the state of the cluster.'],
  InvalidTokenException: [400, 'The specified Kubernetes service account token is invalid.'],
  LimitExceeded: [409, 'Cannot exceed quota'],
  MalformedPolicyDocument: [400, 'Syntax errors in policy.'],
  MissingAuthenticationToken: [403, 'Request is missing Authentication Token'],
  MissingAuthenticationTokenException: [403, 'Missing Authentication Token'],
  NoSuchEntity: [404, 'The entity cannot be found.'],
  ResourceInUseException: [409, 'The specified resource is in use.'],
  ResourceLimitExceededException: [400, 'You have encountered a service limit on the specified resource.'],
  ResourceNotFoundException: [404, 'The specified resource could not be found.'],
  ServerException: [500, 'The request processing has failed because of an unknown error'],
  ServiceFailure: [500, 'The request processing has failed because of an unknown error, exception or failure.'],
  ServiceUnavailable: [503, 'The service is unavailable'],
  ServiceUnavailableException: [503, 'The service is unavailable'],
  Throttling: [400, 'Rate exceeded'],
  ThrottlingException: [429, 'Rate exceeded'],
  UnmodifiableEntity: [400, 'Cannot perform the operation on the protected role'],
  UnrecognizedClientException: [403, 'The security token included in the request is invalid.'],
  ValidationError: [400, 'The input fails to satisfy the constraints'],
};

/** An answer that is an error; `code` is what the wire says, without the suffix that SDKs add. */
export class AwsError extends Error {
  readonly code: string;
  readonly status: number;

  constructor(code: string, message?: string, status?: number) {
    super(message ?? KNOWN[code]?.[1] ?? code);
    this.code = code;
    this.status = status ?? KNOWN[code]?.[0] ?? 400;
  }
}

export function resultXml(
  service: AwsService,
  action: string,
  result: XmlValue | undefined,
  requestId: string,
): string {
  const inner = result === undefined ? '' : `<${action}Result>${render(result)}</${action}Result>`;
  const metadata = `<ResponseMetadata><RequestId>${requestId}</RequestId></ResponseMetadata>`;
  return `<${action}Response xmlns="${NAMESPACES[service]}">${inner}${metadata}</${action}Response>`;
}

export function errorXml(service: AwsService, error: AwsError, requestId: string): string {
  const type = error.status < 500 ? 'Sender' : 'Receiver';
  const body = render({ Error: { Type: type, Code: error.code, Message: error.message }, RequestId: requestId });
  return `<ErrorResponse xmlns="${NAMESPACES[service]}">${body}</ErrorResponse>`;
}

/** Times on the wire have whole seconds. */
export function xmlTime(milliseconds: number): string {
  return new Date(milliseconds).toISOString().replace(/\.\d+Z$/, 'Z');
}

/** IAM returns policy documents percent-encoded by RFC 3986, which escapes more than encodeURIComponent does. */
export function encodeDocument(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}

function render(value: XmlValue): string {
  if (Array.isArray(value)) return value.map((item: XmlValue) => `<member>${render(item)}</member>`).join('');
  if (typeof value !== 'object') return escapeXml(String(value));
  return Object.entries(value as Record<string, XmlValue | undefined>)
    .map(([tag, inner]) => (inner === undefined ? '' : `<${tag}>${render(inner)}</${tag}>`))
    .join('');
}

function escapeXml(text: string): string {
  return text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;').replace(/"/g, '&quot;');
}
