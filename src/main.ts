/** Owns the process of the service: settings, listening, signals, and an orderly end. */
import { createServer } from 'node:http';
import { KubeConfig } from '@kubernetes/client-node';
import { systemClock } from './clock.ts';
import { type Config, ConfigError, loadConfig } from './config.ts';
import { createLog } from './log.ts';
import { createMetrics } from './metrics.ts';
import { listen } from './server.ts';
import { startService } from './service.ts';

/** How long requests under way may take to end; Kubernetes kills after 30 s unless told otherwise. */
const drainMs = 20_000;

const config = configOrExit();
const log = createLog(config.logLevel);
const metrics = createMetrics();
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
const metricsServer = createServer(async (req, res) => {
  if (req.method !== 'GET' || req.url !== '/metrics') {
    res.writeHead(404).end();
    return;
  }
  res.setHeader('Content-Type', metrics.registry.contentType);
  res.end(await metrics.registry.metrics());
});
const listening = await Promise.all([
  listen(service.app, { host: config.host, port: config.port }, tls, log),
  new Promise<void>((resolve, reject) => {
    metricsServer.once('error', reject);
    metricsServer.listen(config.metricsPort, config.host, resolve);
  }),
]).catch((error: unknown) => {
  log.fatal({ err: error }, 'cannot listen');
  process.exit(1);
});
const [server] = listening;
const address = metricsServer.address();
const metricsPort = typeof address === 'object' && address ? address.port : config.metricsPort;
log.info({ host: config.host, port: server.port, metrics_port: metricsPort, tls: !config.sslOff }, 'listening');
void service.ready.then(() => log.info({ seconds: process.uptime() }, 'ready'));

let ending = false;
async function end(signal: string): Promise<void> {
  if (ending) return;
  ending = true;
  log.info({ signal }, 'ending: giving up the lease, letting requests end');
  // The lease at once, so that another replica settles what the requests here still wait for.
  const released = service.drain();
  await Promise.all([server.drain(drainMs), released]);
  await service.stop();
  metricsServer.close();
  metricsServer.closeAllConnections();
  log.info('ended');
  process.exit(0);
}
process.on('SIGTERM', () => void end('SIGTERM'));
process.on('SIGINT', () => void end('SIGINT'));
process.on('unhandledRejection', (error) => {
  log.fatal({ err: error }, 'a failure that nobody took care of');
  process.exit(1);
});

function configOrExit(): Config {
  try {
    return loadConfig(process.env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`irsa-svc cannot start: ${error.message}\n`);
    process.exit(1);
  }
}
