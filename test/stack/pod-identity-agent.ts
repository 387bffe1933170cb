/** Owns the stand-in of the EKS Pod Identity Agent, from which a pod's AWS clients request credentials. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AwsStandIn } from './aws.ts';
import { DEFAULT_CLUSTER } from './aws-eks-helpers.ts';
import { startServer } from './server.ts';

export interface PodIdentityAgent {
  /** For AWS_CONTAINER_CREDENTIALS_FULL_URI; SDKs take plain HTTP from loopback addresses. */
  readonly credentialsUrl: string;
  /** The variables that EKS's webhook gives a pod; `tokenFile` holds a token for `pods.eks.amazonaws.com`. */
  environment(tokenFile: string): Record<string, string>;
  /** The number of requests. */
  readonly requests: () => number;
  close(): Promise<void>;
}

export interface PodIdentityAgentOptions {
  aws: Pick<AwsStandIn, 'url' | 'account' | 'userCredentials'>;
  /** `acme` by default. */
  cluster?: string;
  port?: number;
}

/** The audience that a pod's token must have. */
export const POD_IDENTITY_AUDIENCE = 'pods.eks.amazonaws.com';

/** Unlike the real agent it caches no credentials, so a test's change shows at the next request. */
export async function startPodIdentityAgent({
  aws,
  cluster = DEFAULT_CLUSTER,
  port = 0,
}: PodIdentityAgentOptions): Promise<PodIdentityAgent> {
  const node = aws.userCredentials(aws.account, 'node');
  let requests = 0;

  const assume = (token: string) =>
    fetch(`${aws.url}/clusters/${encodeURIComponent(cluster)}/assume-role-for-pod-identity`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        // The stand-in identifies callers by their keys and checks no signature, so any signature is accepted.
        authorization: `AWS4-HMAC-SHA256 Credential=${node.AWS_ACCESS_KEY_ID}/20260101/us-west-2/eks-auth/aws4_request, SignedHeaders=host, Signature=0`,
      },
      body: JSON.stringify({ token }),
    });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // The agent's errors are plain text, which SDKs show to users.
    const refuse = (status: number, text: string) =>
      void response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' }).end(`${text}\n`);
    if (request.url?.split('?')[0] !== '/v1/credentials') return refuse(404, '404 page not found');
    requests += 1;
    const token = request.headers.authorization;
    if (!token) return refuse(400, 'Service account token cannot be empty');
    let answered: Response;
    try {
      answered = await assume(token);
    } catch (error) {
      return refuse(500, `EKS Auth does not answer: ${String(error)}`);
    }
    const body = (await answered.json()) as EksAuthAnswer;
    if (!answered.ok || !body.credentials) {
      const fault = answered.status < 500 ? 'client' : 'server';
      const [id, code] = ['x-amzn-requestid', 'x-amzn-errortype'].map((name) => answered.headers.get(name));
      return refuse(answered.status, `[${id}]: (${code}): ${body.message}, fault: ${fault}`);
    }
    const { accessKeyId, secretAccessKey, sessionToken, expiration } = body.credentials;
    response.writeHead(200, { 'content-type': 'application/json' }).end(
      JSON.stringify({
        AccessKeyId: accessKeyId,
        SecretAccessKey: secretAccessKey,
        Token: sessionToken,
        AccountId: body.assumedRoleUser?.arn.split(':')[4],
        Expiration: new Date(expiration * 1000).toISOString(),
      }),
    );
  }

  const server = await startServer(answer, port);
  const credentialsUrl = `${server.url}/v1/credentials`;
  return {
    credentialsUrl,
    environment: (tokenFile) => ({
      AWS_CONTAINER_CREDENTIALS_FULL_URI: credentialsUrl,
      AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: tokenFile,
    }),
    requests: () => requests,
    close: server.close,
  };
}

interface EksAuthAnswer {
  readonly message?: string;
  readonly assumedRoleUser?: { readonly arn: string };
  readonly credentials?: {
    readonly accessKeyId: string;
    readonly secretAccessKey: string;
    readonly sessionToken: string;
    readonly expiration: number;
  };
}
