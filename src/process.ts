/** Owns the service's process: it loads the settings, listens, and shuts down in order. */
import { KubeConfig } from '@kubernetes/client-node';
import { keepOtherCallsDirect } from './aws/forward-proxy.ts';
import { metricsHandler } from './http/metrics.ts';
import { listen } from './http/server.ts';
import { systemClock } from './lib/clock.ts';
import { loadConfig } from './lib/config.ts';
import { configOrExit } from './lib/config-error.ts';
import { createLog } from './lib/log.ts';
import { createMetrics } from './lib/metrics.ts';
import { onSignal } from './lib/signals.ts';
import { startService } from './service.ts';

/** Enough for Prometheus and for people who look by hand. */
const maxMetricsConnections = 50;
/** How long requests in flight may take to finish. Kubernetes kills the pod after 30 s by default. */
const drainMs = 20_000;

const config = configOrExit(loadConfig, 'irsa-svc');
const log = createLog(config.logLevel);
const metrics = createMetrics();
if (keepOtherCallsDirect(process.env, process.execArgv)) {
  log.warn('NODE_USE_ENV_PROXY is ignored: only calls to AWS use the proxy, and calls inside the cluster go direct');
}
const kubeConfig = new KubeConfig();
kubeConfig.loadFromDefault();

const service = startService({ config, kubeConfig, clock: systemClock, log, metrics });
const tls = config.sslOff
  ? undefined
  : {
      certFile: config.tlsCertFile,
      keyFile: config.tlsKeyFile,
      onReload: (outcome: string) => metrics.certificateReloads.inc({ outcome }),
    };
const { host, port, metricsPort, maxConnections } = config;
const scraped = { host, port: metricsPort, maxConnections: maxMetricsConnections };
const listening = Promise.all([
  service.prepare().then(() => listen(service.app, { host, port, maxConnections }, tls, log)),
  listen(metricsHandler(metrics), scraped, undefined, log),
]);

let ending = false;
async function end(signal: string): Promise<void> {
  if (ending) return;
  ending = true;
  log.info({ signal }, 'shutting down: releasing the lease, finishing requests in flight');
  // The lease is released first, so that another replica writes what the requests here still wait for.
  const released = service.drain();
  const [server, metricsServer] = await listening;
  await Promise.all([server.drain(drainMs), released]);
  await service.stop();
  await metricsServer.drain(0);
  log.info('ended');
  process.exit(0);
}
onSignal((signal) => void end(signal));
process.on('unhandledRejection', (error) => {
  log.fatal({ err: error }, 'an error that the service does not handle');
  process.exit(1);
});

const [server, metricsServer] = await listening.catch((error: unknown) => {
  log.fatal({ err: error }, 'cannot listen');
  process.exit(1);
});
log.info(
  { host: server.address, port: server.port, metrics_port: metricsServer.port, tls: !config.sslOff },
  'listening',
);
void service.ready.then(() => log.info({ seconds: process.uptime() }, 'ready'));
