/** Owns the check that EKS gives new pods of a service account credentials, by dry runs of creating a Pod. */
import { KubernetesError } from '../kubernetes/transport.ts';
import { type PodIdentityOutcome, type PodIdentityReconcileDeps, wait } from './outcome.ts';
import type { PodIdentityRecord } from './record.ts';

/** Several API servers call several replicas of EKS's webhook: one that knows the association proves little. */
const neededInARow = 3;

/** The result of the check, published with the account's status. */
export interface CredentialsSeen {
  /** False: the check was not possible, and new workloads get the account without it. */
  seen: boolean;
  /** Why the check was not possible. */
  detail?: string | undefined;
}

/**
 * A Pod of the account for a dry run. It requests few resources and no privileges, so that the namespace's policies have
 * nothing to refuse, and has no label that domsed selects.
 */
function probePod(account: string): object {
  const few = { cpu: '10m', memory: '16Mi' };
  const securityContext = {
    allowPrivilegeEscalation: false,
    capabilities: { drop: ['ALL'] },
    runAsNonRoot: true,
    runAsUser: 65_534,
    seccompProfile: { type: 'RuntimeDefault' },
  };
  const container = { name: 'probe', image: 'irsa-svc/never-run', resources: { requests: few, limits: few } };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { generateName: 'irsa-svc-dry-run-', labels: { 'app.kubernetes.io/managed-by': 'irsa-svc' } },
    spec: {
      serviceAccountName: account,
      automountServiceAccountToken: false,
      restartPolicy: 'Never',
      containers: [{ ...container, securityContext }],
    },
  };
}

/** An association usually takes effect within seconds; each check costs a call to EKS, too. */
const soonMs = 1_000;
const manyLooks = 20;
const laterMs = 15_000;

/**
 * Waits until the association takes effect, seconds after EKS accepted it: pods created before that never get credentials.
 * @returns undefined when new pods get them.
 */
export async function ensureCredentials(
  deps: PodIdentityReconcileDeps,
  record: PodIdentityRecord,
): Promise<PodIdentityOutcome | undefined> {
  if (record.isReady) return undefined;
  if (await isInEffect(deps, record)) {
    record.looks = 0;
    return undefined;
  }
  record.credentials = undefined;
  record.looks += 1;
  const detail = 'EKS took the association, and does not give new pods credentials yet';
  return wait('waiting_for_credentials', detail, record.looks <= manyLooks ? soonMs : laterMs);
}

/**
 * Makes as many dry runs as it takes to be sure.
 * @returns whether new pods get credentials; where the API server refuses a dry run, that counts as yes, and the record
 * says why.
 * @throws KubernetesError where the API server does not answer.
 */
async function isInEffect({ kubernetes, log }: PodIdentityReconcileDeps, record: PodIdentityRecord): Promise<boolean> {
  const { account } = record;
  try {
    for (let seen = 0; seen < neededInARow; seen += 1) {
      if (!(await kubernetes.dryRunPod(probePod(account))).hasPodIdentity) return false;
    }
    record.credentials = { seen: true };
  } catch (error) {
    if (!isRefusal(error)) throw error;
    const detail = `whether new pods get credentials was not looked at, since the API server refuses a dry run: ${error.message}`;
    if (record.credentials?.detail !== detail) log.info({ service_account: account, err: error }, detail);
    record.credentials = { seen: false, detail: detail.slice(0, 500) };
  }
  return true;
}

/** A missing permission, or a policy of the namespace: a retry would get the same answer. */
function isRefusal(error: unknown): error is KubernetesError {
  if (!(error instanceof KubernetesError)) return false;
  return error.status !== undefined && [400, 403, 404, 405, 422].includes(error.status);
}
