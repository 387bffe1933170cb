/** Owns the calls that create and delete static service accounts in the compute namespace. */
import { Router } from 'express';
import type { Config } from '../src/config.ts';
import { ApiError } from '../src/errors.ts';
import type { Kubernetes } from '../src/kubernetes.ts';
import { KubernetesError, kubernetesUnavailable } from '../src/kubernetes-api.ts';
import type { Log } from '../src/log.ts';
import { adminOnly, callerOf, requestIdOf } from '../src/middleware.ts';

export interface ServiceAccountDeps {
  config: Config;
  kubernetes: Kubernetes;
  log: Log;
}

export function serviceAccountRoutes({ config, kubernetes, log }: ServiceAccountDeps): Router {
  const router = Router();
  const namespace = config.computeNamespace;

  router.post('/service_account', adminOnly, async (req, res) => {
    const { service_account_name: name } = req.body as { service_account_name: string };
    await orProblem(name, () => kubernetes.createServiceAccount(name));
    audit(res, 'created', name);
    res.json({ service_account_name: name, namespace });
  });

  router.delete('/service_account', adminOnly, async (req, res) => {
    const { service_account_name: name } = req.body as { service_account_name: string };
    await orProblem(name, async () => {
      const { ours, resourceVersion } = await kubernetes.getServiceAccount(name);
      if (!ours) {
        throw new ApiError(
          'service_account_conflict',
          `${name} was not created by irsa-svc, and is not deleted by it.`,
        );
      }
      await kubernetes.deleteServiceAccount(name, resourceVersion);
    });
    audit(res, 'deleted', name);
    res.json({ service_account_name: name, namespace, deleted: true });
  });

  function audit(res: Parameters<typeof callerOf>[0], change: string, name: string) {
    const { id, name: user } = callerOf(res);
    const about = { audit: 'service_account', request_id: requestIdOf(res), user, user_id: id, change, account: name };
    log.info(about, `service account ${change}`);
  }

  return router;
}

async function orProblem<T>(name: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof KubernetesError)) throw error;
    if (error.kind === 'not_found') {
      throw new ApiError('service_account_not_found', `There is no service account ${name}.`);
    }
    if (error.kind === 'conflict') {
      const detail = `The service account ${name} exists already, or was changed at the same moment; nothing was done.`;
      throw new ApiError('service_account_conflict', detail, { cause: error });
    }
    throw kubernetesUnavailable(error);
  }
}
