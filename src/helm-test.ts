/**
 * Owns the two checks of `helm test`, a separate program in the image: `ready <address>` calls the service as a
 * workload does; `role` reads one mapped proxy role with the service's own AWS role. It writes nothing.
 */
import { KubeConfig } from '@kubernetes/client-node';
import { awsRequestHandler } from './aws/forward-proxy.ts';
import { createIam } from './aws/iam.ts';
import { createKubernetes } from './kubernetes/client.ts';
import { createKubernetesApi } from './kubernetes/transport.ts';
import { systemClock as clock } from './lib/clock.ts';
import { loadConfig } from './lib/config.ts';
import { createLog } from './lib/log.ts';
import { mappingConfigMap, parseMappings } from './mappings/role-mappings.ts';

const longestMs = 20_000;
const say = (text: string) => process.stdout.write(`${text}\n`);

/** Checks the certificate with the CA in NODE_EXTRA_CA_CERTS. @param address `https://irsa-svc.domino-field` */
async function ready(address: string): Promise<void> {
  const response = await fetch(`${address}/readyz`, { signal: AbortSignal.timeout(longestMs) });
  say(`${address}/readyz answers ${response.status}: ${await response.text()}`);
  if (response.status !== 200) throw new Error('no replica is ready');
}

async function role(): Promise<void> {
  const config = loadConfig(process.env);
  const log = createLog('warn');
  const kubeConfig = new KubeConfig();
  kubeConfig.loadFromDefault();
  const api = createKubernetesApi(kubeConfig, clock);
  try {
    const requestHandler = awsRequestHandler(config.awsProxy);
    const iam = createIam({
      region: config.awsRegion,
      requestHandler,
      monotonic: () => clock.monotonic(),
      onCall: () => undefined,
    });
    const { arn } = await iam.identity(AbortSignal.timeout(longestMs));
    say(`AWS knows the service as ${arn}`);
    const found = await createKubernetes({ ...config, api, clock, log }).getConfigMap(mappingConfigMap);
    const [proxy] = parseMappings(found?.data ?? {}).managedProxies;
    if (proxy === undefined) {
      say('no organization is mapped yet, so no role was read');
      return;
    }
    const document = await iam.getTrustPolicy(proxy, AbortSignal.timeout(longestMs));
    say(`${proxy} was read: its trust policy has ${document.length} characters`);
  } finally {
    api.close();
  }
}

const [mode, address = ''] = process.argv.slice(2);
try {
  if (mode === 'ready') await ready(address);
  else if (mode === 'role') await role();
  else throw new Error('usage: helm-test.js ready <address> | helm-test.js role');
} catch (error) {
  const { message, cause } = error as Error;
  process.stderr.write(`${message}${cause instanceof Error ? `: ${cause.message}` : ''}\n`);
  process.exitCode = 1;
}
