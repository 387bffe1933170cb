/** Owns that calls to AWS go by the forward proxy that the environment names, and that no other call does. */
import { Agent, setGlobalProxyFromEnv } from 'node:http';
import { Agent as SecureAgent } from 'node:https';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { type ProxyEnvironment, proxyFor } from '../lib/forward-proxy.ts';

/** What the SDK's clients send requests with. */
export type AwsRequestHandler = Pick<
  NodeHttpHandler,
  'metadata' | 'handle' | 'destroy' | 'updateHttpClientConfig' | 'httpHandlerConfigs'
>;

/** As many as the SDK's own agents have. */
const agentOptions = { keepAlive: true, maxSockets: 50 };

/**
 * For each request, a connection by the proxy that `proxyFor` names, or a direct one. The SDK hands it on to the client with
 * which it exchanges the service's own web identity token.
 * @returns undefined where no proxy is set: the SDK's own handler does.
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

/** Node's own agents do CONNECT for https, and ask the proxy for the whole URL for http. */
function handlerBy(proxy: string): NodeHttpHandler {
  const proxyEnv = { HTTP_PROXY: proxy, HTTPS_PROXY: proxy };
  return new NodeHttpHandler({
    httpAgent: new Agent({ ...agentOptions, proxyEnv }),
    httpsAgent: new SecureAgent({ ...agentOptions, proxyEnv }),
  });
}

/**
 * Node's own proxying (NODE_USE_ENV_PROXY) would send Domino's calls, and with them everybody's credentials, to the proxy:
 * this takes it back for all of the process.
 * @returns whether it was on.
 */
export function keepOtherCallsDirect(env: ProxyEnvironment, nodeOptions: readonly string[]): boolean {
  const flags = [...nodeOptions, ...(env.NODE_OPTIONS ?? '').split(/\s+/)];
  const isOn = (env.NODE_USE_ENV_PROXY ?? '') !== '' || flags.includes('--use-env-proxy');
  // The address is never called: it takes some proxy to set this anew.
  const none = 'http://127.0.0.1:9';
  if (isOn) setGlobalProxyFromEnv({ HTTP_PROXY: none, HTTPS_PROXY: none, NO_PROXY: '*' });
  return isOn;
}
