/** Owns the HTTP application: its middleware, its routes and its error handler. It never listens. */
import express, { type Express } from 'express';
import helmet from 'helmet';
import { type AccessDeps, accessRoutes } from '../routes/access.ts';
import { type ActivityDeps, activityRoutes } from '../routes/activity.ts';
import { consolePolicy, consoleRoutes, isConsole } from '../routes/console.ts';
import { consolePageRoutes } from '../routes/console-page.ts';
import { docsRoutes } from '../routes/docs.ts';
import { type GrantDeps, grantRoutes } from '../routes/grants.ts';
import { healthRoutes, type ReadinessChecks } from '../routes/health.ts';
import { myAccessRoutes } from '../routes/my-access.ts';
import { type OrganizationDeps, organizationRoutes } from '../routes/organizations.ts';
import { type PodIdentityDeps, podIdentityRoutes } from '../routes/pod-identities.ts';
import { type RevocationDeps, revocationRoutes } from '../routes/revocations.ts';
import { type RoleMappingDeps, roleMappingRoutes } from '../routes/role-mappings.ts';
import { type RoleTokenDeps, roleTokenRoutes } from '../routes/role-tokens.ts';
import { type ServiceAccountDeps, serviceAccountRoutes } from '../routes/service-accounts.ts';
import { type TrustStatusDeps, trustStatusRoutes } from '../routes/trust-status.ts';
import type { Callers } from './auth/caller.ts';
import type { SeenCallers } from './auth/seen-callers.ts';
import { readBody } from './http/body.ts';
import { readContract } from './http/contract.ts';
import { createContractCheck } from './http/contract-check.ts';
import { authenticate, authorize, callerOf, callOf, findCall, identify, isOpen, observe } from './http/middleware.ts';
import { problemHandler } from './http/problem.ts';
import { createRateLimits } from './http/rate-limits.ts';
import type { Config } from './lib/config.ts';
import { ApiError } from './lib/errors.ts';

/** What the routes need, and what the layers before them need. */
export type AppDeps = AccessDeps &
  ActivityDeps &
  GrantDeps &
  OrganizationDeps &
  PodIdentityDeps &
  RevocationDeps &
  RoleMappingDeps &
  RoleTokenDeps &
  ServiceAccountDeps &
  TrustStatusDeps & {
    config: Config;
    callers: Callers;
    seenCallers: SeenCallers;
    /** Whether the caches have been filled. */
    isSynced: () => boolean;
    readiness: () => ReadinessChecks;
  };

export interface App {
  app: Express;
  /** See `ContractCheck`. */
  prepare(): Promise<void>;
}

export function createApp(deps: AppDeps): App {
  const { config, callers, log } = deps;
  const contract = readContract();
  const { check, prepare } = createContractCheck(contract);
  const limits = createRateLimits(config.rateLimitPerMinute);
  const app = express();
  app.set('trust proxy', config.trustedProxies);
  app.disable('x-powered-by');
  app.set('etag', false);
  app.use(observe(log, deps.metrics, deps.clock));
  app.use(
    helmet({
      contentSecurityPolicy: {
        // Where a mesh does the TLS, a browser that upgrades to HTTPS would find no server here.
        directives: { upgradeInsecureRequests: config.sslOff ? null : [] },
      },
    }),
  );
  app.use(consolePolicy(config.dominoIssuer));
  app.use(findCall(contract));
  const open = express.Router();
  // The contract does not list the static files of these pages.
  const isFile = (path: string) => path.startsWith('/docs/') || (config.consoleEnabled && isConsole(path));
  open.use((req, res, next) => next(isOpen(res) || isFile(req.path) ? undefined : 'router'));
  open.use(check, healthRoutes(deps.readiness), docsRoutes(), consoleRoutes({ config, version: contract.version }));
  if (config.consoleEnabled) open.use(consolePageRoutes());
  app.use(open);

  // The caller is authenticated and authorized before any of the body is read.
  app.use((_req, res, next) => {
    res.set('Cache-Control', 'no-store');
    next();
  });
  app.use(identify(callers, config.allowDominoApiKey), ...limits.before);
  app.use(authenticate(callers, limits.passed), authorize);
  app.use((_req, res, next) => {
    deps.seenCallers.note(callerOf(res));
    next();
  });
  // Until its caches are filled, a replica would take every run for unknown and every organization for unmapped.
  app.use((_req, _res, next) => {
    const detail = 'This replica has just started and does not know the cluster yet. Try again.';
    next(deps.isSynced() ? undefined : new ApiError('kubernetes_unavailable', detail));
  });
  app.use(readBody(callOf), check);
  app.use(roleMappingRoutes(deps));
  app.use(organizationRoutes(deps));
  app.use(grantRoutes(deps));
  app.use(roleTokenRoutes(deps));
  app.use(serviceAccountRoutes(deps));
  app.use(trustStatusRoutes(deps));
  app.use(myAccessRoutes(deps));
  app.use(accessRoutes(deps));
  app.use(activityRoutes(deps));
  app.use(revocationRoutes(deps));
  app.use(podIdentityRoutes(deps));
  app.use((_req, _res, next) => next(new ApiError('not_found', 'There is no such call; /docs lists them.')));
  app.use(problemHandler(log));
  return { app, prepare: () => prepare(app) };
}
