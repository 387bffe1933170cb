/** Owns the HTTP handler for AWS: calls to AWS use the forward proxy in the environment, and no other calls do. */
import { Agent, setGlobalProxyFromEnv } from 'node:http';
import { Agent as SecureAgent } from 'node:https';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { type ProxyEnvironment, proxyFor } from '../lib/forward-proxy.ts';

/** The SDK's interface for sending requests. */
export type AwsRequestHandler = Pick<
  NodeHttpHandler,
  'metadata' | 'handle' | 'destroy' | 'updateHttpClientConfig' | 'httpHandlerConfigs'
>;

/** The same limit as the SDK's own agents. */
const agentOptions = { keepAlive: true, maxSockets: 50 };

/**
 * Sends each request by the proxy that `proxyFor` finds, or direct. The SDK also uses it for the exchange of the
 * service's own web identity token.
 * @returns undefined where no proxy is set: then the SDK's own handler serves.
 */
export function awsRequestHandler(env: ProxyEnvironment): AwsRequestHandler | undefined {
  if (!Object.entries(env).some(([name, value]) => /^https?_proxy$/i.test(name) && value)) return undefined;
  const direct = new NodeHttpHandler();
  const byProxy = new Map<string, NodeHttpHandler>();

  function handlerFor({ protocol, hostname, port }: Parameters<NodeHttpHandler['handle']>[0]): NodeHttpHandler {
    const proxy = proxyFor(`${protocol}//${hostname}${port === undefined ? '' : `:${port}`}`, env)?.href;
    if (proxy === undefined) return direct;
    const known = byProxy.get(proxy) ?? handlerBy(proxy);
    byProxy.set(proxy, known);
    return known;
  }

  return {
    metadata: direct.metadata,
    handle: (request, options) => handlerFor(request).handle(request, options),
    destroy: () => {
      for (const handler of [direct, ...byProxy.values()]) handler.destroy();
    },
    updateHttpClientConfig: (key, value) => direct.updateHttpClientConfig(key, value),
    httpHandlerConfigs: () => direct.httpHandlerConfigs(),
  };
}

/** Node's agents send CONNECT to the proxy for https, and the whole URL for http. */
function handlerBy(proxy: string): NodeHttpHandler {
  const proxyEnv = { HTTP_PROXY: proxy, HTTPS_PROXY: proxy };
  return new NodeHttpHandler({
    httpAgent: new Agent({ ...agentOptions, proxyEnv }),
    httpsAgent: new SecureAgent({ ...agentOptions, proxyEnv }),
  });
}

/**
 * Turns off Node's own proxying (NODE_USE_ENV_PROXY) for the whole process: it would send the calls to Domino, with
 * every user's credentials, to the proxy.
 * @returns whether it was on.
 */
export function keepOtherCallsDirect(env: ProxyEnvironment, nodeOptions: readonly string[]): boolean {
  const flags = [...nodeOptions, ...(env.NODE_OPTIONS ?? '').split(/\s+/)];
  const isOn = (env.NODE_USE_ENV_PROXY ?? '') !== '' || flags.includes('--use-env-proxy');
  // Node needs some proxy to replace the setting; with NO_PROXY=* this address is never called.
  const none = 'http://127.0.0.1:9';
  if (isOn) setGlobalProxyFromEnv({ HTTP_PROXY: none, HTTPS_PROXY: none, NO_PROXY: '*' });
  return isOn;
}
