/** Owns the HTTP application: its layers, its routes and its one error answer. It never listens. */
import express, { type Express, type RequestHandler } from 'express';
import { middleware as contractValidator } from 'express-openapi-validator';
import helmet from 'helmet';
import { docsRoutes } from '../routes/docs.ts';
import { grantRoutes } from '../routes/grants.ts';
import { healthRoutes, type ReadinessChecks } from '../routes/health.ts';
import { myAccessRoutes } from '../routes/my-access.ts';
import { podIdentityRoutes } from '../routes/pod-identities.ts';
import { revocationRoutes } from '../routes/revocations.ts';
import { roleMappingRoutes } from '../routes/role-mappings.ts';
import { serviceAccountRoutes } from '../routes/service-accounts.ts';
import { trustStatusRoutes } from '../routes/trust-status.ts';
import type { Callers } from './caller.ts';
import type { Clock } from './clock.ts';
import type { Config } from './config.ts';
import { ApiError } from './errors.ts';
import type { Grants } from './grants.ts';
import type { AwsIdentity } from './iam.ts';
import type { Kubernetes, ServiceAccount } from './kubernetes.ts';
import type { Watched } from './kubernetes-watch.ts';
import type { Log } from './log.ts';
import type { MappingStore } from './mapping-store.ts';
import type { Metrics } from './metrics.ts';
import { authenticate, identify, limitRate, observe } from './middleware.ts';
import type { PodIdentity } from './pod-identity.ts';
import { problemHandler } from './problem.ts';
import { projectFile } from './project.ts';
import type { Revocations } from './revocations.ts';
import type { PodIndex } from './runs.ts';
import type { TrustStatuses } from './trust-status.ts';

export interface AppDeps {
  config: Config;
  callers: Callers;
  mappings: MappingStore;
  grants: Grants;
  kubernetes: Kubernetes;
  accounts: Watched<ServiceAccount>;
  pods: PodIndex;
  statuses: TrustStatuses;
  revocations: Revocations;
  /** Left out where no EKS cluster is named. */
  podIdentity: PodIdentity | undefined;
  /** Who holds the writer's lease as far as this replica knows; '' for nobody. */
  leaseHolder: () => string;
  /** Who we are in AWS, once that is known. */
  awsIdentity: () => AwsIdentity | undefined;
  readiness: () => ReadinessChecks;
  clock: Clock;
  log: Log;
  metrics: Metrics;
}

/** The largest body: a hundred mappings of the longest ARNs. */
const maxBody = '512kb';

export function createApp(deps: AppDeps): Express {
  const { config, callers, log } = deps;
  const app = express();
  app.disable('x-powered-by');
  app.set('etag', false);
  app.use(observe(log, deps.metrics, deps.clock));
  app.use(
    helmet({
      contentSecurityPolicy: {
        // A browser told to upgrade to HTTPS finds nothing there when a mesh does the TLS.
        directives: { upgradeInsecureRequests: config.sslOff ? null : [] },
      },
    }),
  );
  app.use(healthRoutes(deps.readiness));
  app.use(docsRoutes());

  app.use(identify(callers, config.allowDominoApiKey));
  app.use(limitRate(config.rateLimitPerMinute));
  app.use(authenticate(callers));
  // Before its caches are filled a replica would take every run for unknown and every organization for not mapped.
  app.use((_req, _res, next) => {
    const detail = 'This replica has just started and does not know the cluster yet. Try again.';
    next(deps.readiness().kubernetes ? undefined : new ApiError('kubernetes_unavailable', detail));
  });
  // Any content type is taken for JSON only where it says so; another one is refused by the contract.
  app.use(express.json({ limit: maxBody, strict: false }));
  const check = contractCheck();
  // A GET with no query has nothing in it to check.
  app.use((req, res, next) => {
    if (req.method === 'GET' && !req.originalUrl.includes('?')) next();
    else check(req, res, next);
  });
  app.use(roleMappingRoutes(deps));
  app.use(grantRoutes(deps));
  app.use(serviceAccountRoutes(deps));
  app.use(trustStatusRoutes(deps));
  app.use(myAccessRoutes(deps));
  app.use(revocationRoutes(deps));
  app.use(podIdentityRoutes(deps));
  // Whatever comes here is no call of ours; the contract tells a wrong method from a wrong path.
  app.use(check);
  app.use((_req, _res, next) => next(new ApiError('not_found', 'There is no such call; /docs lists them.')));
  app.use(problemHandler(log));
  return app;
}

/** Checks requests against openapi.yaml, the one source of what they may hold. */
function contractCheck(): RequestHandler {
  return express.Router().use(
    contractValidator({
      apiSpec: projectFile('openapi.yaml'),
      // The contract is linted where it is changed.
      validateApiSpec: false,
      // All wrong fields are named at once; bodies and lists are bounded.
      validateRequests: { coerceTypes: false, allowUnknownQueryParameters: false, allErrors: true },
      validateResponses: false,
      // Done before anything of a body is read.
      validateSecurity: false,
    }),
  );
}
