/** Owns `GET /healthz` and `GET /readyz`. */
import { Router } from 'express';

/** All must be true before requests are sent to this replica. */
export interface ReadinessChecks {
  /** The caches are filled, and the API server answers. */
  kubernetes: boolean;
  domino_keys: boolean;
  /** False where the realm of these keys issues tokens with another issuer than the configured one. */
  domino_issuer: boolean;
  aws_identity: boolean;
  /** False while the process shuts down. */
  accepting_requests: boolean;
}

export function healthRoutes(readiness: () => ReadinessChecks): Router {
  const router = Router();
  router.get('/healthz', (_req, res) => {
    res.json({ status: 'Healthy' });
  });
  router.get('/readyz', (_req, res) => {
    const checks = readiness();
    if (Object.values(checks).every(Boolean)) res.json({ status: 'Ready', checks });
    else res.status(503).set('Retry-After', '2').json({ status: 'NotReady', checks });
  });
  return router;
}
