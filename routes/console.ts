/** Owns `GET /` and `GET /console/config`: the link to the console, and the settings its page needs before login. */
import { type RequestHandler, Router } from 'express';
import type { Config } from '../src/lib/config.ts';

export interface ConsoleDeps {
  config: Pick<Config, 'consoleEnabled' | 'consoleClientId' | 'dominoIssuer' | 'runbookUrl'>;
  /** The contract's version. */
  version: string;
}

export function consoleRoutes({ config, version }: ConsoleDeps): Router {
  const router = Router({ strict: true });
  const { consoleEnabled, consoleClientId: client = null, dominoIssuer: issuer, runbookUrl = null } = config;
  // Relative, so that they work behind a proxy that adds a prefix.
  const places = { console: consoleEnabled ? 'console' : undefined, docs: 'docs', contract: 'openapi.yaml' };

  router.get('/', (req, res) => {
    res.vary('Accept').set('Cache-Control', 'no-cache');
    if (req.accepts(['json', 'html']) === 'html')
      res
        .status(302)
        .location(consoleEnabled ? 'console' : 'docs')
        .end();
    else res.json({ service: 'irsa-svc', version, ...places });
  });

  router.get('/console/config', (_req, res) => {
    res.set('Cache-Control', 'no-cache');
    res.json({ issuer, client_id: client, version, runbook_url: runbookUrl });
  });

  return router;
}

/**
 * The Content-Security-Policy of the console: it loads nothing from other origins, and calls only this service and the
 * issuer, where the page fetches its token. @param issuer the realm's URL.
 */
export function consolePolicy(issuer: string): RequestHandler {
  const policy = [
    "default-src 'self'",
    `connect-src 'self' ${new URL(issuer).origin}`,
    "object-src 'none'",
    "base-uri 'none'",
    "form-action 'self'",
    "frame-ancestors 'none'",
  ].join('; ');
  return (req, res, next) => {
    if (isConsole(req.path)) res.set('Content-Security-Policy', policy);
    next();
  };
}

/** Whether a path is the console's page, or one of its files. */
export function isConsole(path: string): boolean {
  const lower = path.toLowerCase();
  return lower === '/console' || lower.startsWith('/console/');
}
