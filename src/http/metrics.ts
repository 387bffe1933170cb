/** Owns `GET /metrics` on the metrics port. */
import type { RequestListener } from 'node:http';
import type { Metrics } from '../lib/metrics.ts';
import { closeIfUnread } from './body.ts';

export function metricsHandler({ registry }: Metrics): RequestListener {
  return async (req, res) => {
    closeIfUnread(req, res);
    if (!['GET', 'HEAD'].includes(req.method ?? '') || req.url !== '/metrics') {
      res.writeHead(404).end();
      return;
    }
    res.setHeader('Content-Type', registry.contentType);
    res.end(await registry.metrics());
  };
}
