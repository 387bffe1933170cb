/** Owns `POST /role_tokens`: it issues the tokens with which a run's pod assumes its roles. */
import { Router } from 'express';
import type { RoleTokens } from '../src/grants/role-tokens.ts';
import { audit } from '../src/http/audit.ts';
import { callerOf } from '../src/http/middleware.ts';
import type { Clock } from '../src/lib/clock.ts';
import { ApiError } from '../src/lib/errors.ts';
import type { Log } from '../src/lib/log.ts';
import type { Metrics } from '../src/lib/metrics.ts';
import { requireRunId } from '../src/runs/runs.ts';

export interface RoleTokenDeps {
  roleTokens: RoleTokens;
  clock: Clock;
  log: Log;
  metrics: Metrics;
}

export function roleTokenRoutes({ roleTokens, clock, log, metrics }: RoleTokenDeps): Router {
  const router = Router();

  router.post('/role_tokens', async (req, res) => {
    const { run_id, pod, profiles } = req.body as { run_id: string; pod: string; profiles?: string[] };
    const startedAt = clock.monotonic();
    const about = { run: run_id, pod };
    let given: Awaited<ReturnType<RoleTokens['give']>>;
    try {
      given = await roleTokens.give({ caller: callerOf(res), run: requireRunId(run_id), pod, profiles });
    } catch (error) {
      const code = error instanceof ApiError ? error.code : 'internal';
      metrics.roleTokens.inc({ outcome: code });
      audit(log, res, 'role_token', { ...about, decision: 'refused', code }, 'role tokens refused');
      throw error;
    }
    metrics.roleTokenSeconds.observe((clock.monotonic() - startedAt) / 1000);
    for (const { target, proxy, expiresAt, jti } of given.tokens) {
      metrics.roleTokens.inc({ outcome: 'given' });
      const token = { account: given.account, role: target, proxy, jti, expires_at: expiresAt };
      audit(log, res, 'role_token', { ...about, decision: 'given', ...token }, 'role token given');
    }
    for (const { code } of given.refused) metrics.roleTokens.inc({ outcome: code });
    // One line for all, since a caller may name as many profiles as the contract allows.
    const [first] = given.refused;
    if (first) {
      const reason = given.refused.map(({ profile, code }) => `${profile}: ${code}`).join(', ');
      audit(log, res, 'role_token', { ...about, decision: 'refused', code: first.code, reason }, 'role tokens refused');
    }
    const tokens = given.tokens.map(({ profile, target: iam_role_arn, token, expiresAt: expires_at }) => ({
      profile,
      iam_role_arn,
      token,
      expires_at,
    }));
    res.json({ tokens, refused: given.refused });
  });

  return router;
}
