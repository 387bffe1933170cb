/** Owns the calls that create and delete static service accounts in the compute namespace. */
import { Router } from 'express';
import { audit } from '../src/http/audit.ts';
import type { Kubernetes } from '../src/kubernetes/client.ts';
import { KubernetesError, kubernetesUnavailable } from '../src/kubernetes/transport.ts';
import type { Config } from '../src/lib/config.ts';
import { ApiError } from '../src/lib/errors.ts';
import type { Log } from '../src/lib/log.ts';

export interface ServiceAccountDeps {
  config: Config;
  kubernetes: Kubernetes;
  log: Log;
}

export function serviceAccountRoutes({ config, kubernetes, log }: ServiceAccountDeps): Router {
  const router = Router();
  const namespace = config.computeNamespace;

  router.post('/service_account', async (req, res) => {
    const { service_account_name: name } = req.body as { service_account_name: string };
    await orProblem(name, () => kubernetes.createServiceAccount(name));
    audit(log, res, 'service_account', { change: 'created', account: name }, 'service account created');
    res.json({ service_account_name: name, namespace });
  });

  router.delete('/service_account', async (req, res) => {
    const { service_account_name: name } = req.body as { service_account_name: string };
    await orProblem(name, async () => {
      const { ours, resourceVersion } = await kubernetes.getServiceAccount(name);
      if (!ours) {
        const detail = `${name} was not created by irsa-svc, and is not deleted by it.`;
        throw new ApiError('service_account_conflict', detail);
      }
      await kubernetes.deleteServiceAccount(name, resourceVersion);
    });
    audit(log, res, 'service_account', { change: 'deleted', account: name }, 'service account deleted');
    res.json({ service_account_name: name, namespace, deleted: true });
  });

  return router;
}

async function orProblem(name: string, action: () => Promise<unknown>): Promise<void> {
  try {
    await action();
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
