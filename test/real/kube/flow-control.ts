/**
 * Owns API Priority and Fairness against one caller: a level without a seat, which may borrow none and lets nothing wait.
 * The API server serves one call of such a level at a time, and refuses those beside it.
 */
import type { RealCluster } from './cluster.ts';

const flow = '/apis/flowcontrol.apiserver.k8s.io/v1';
const level = 'no-seats';

/**
 * From a moment later on the API server answers the subject's calls with 429 while another one is under way.
 * @param subject as a FlowSchema has it: https://kubernetes.io/docs/concepts/cluster-administration/flow-control/
 * @returns what ends that.
 */
export async function leaveNoSeat(cluster: RealCluster, subject: object): Promise<() => Promise<void>> {
  const limited = { nominalConcurrencyShares: 0, borrowingLimitPercent: 0, limitResponse: { type: 'Reject' } };
  const metadata = { name: level };
  const spec = { type: 'Limited', limited };
  await cluster.must('POST', `${flow}/prioritylevelconfigurations`, { metadata, spec });
  const everything = { verbs: ['*'], apiGroups: ['*'], resources: ['*'], namespaces: ['*'], clusterScope: true };
  const rules = [{ subjects: [subject], resourceRules: [everything] }];
  await cluster.must('POST', `${flow}/flowschemas`, {
    metadata,
    spec: { priorityLevelConfiguration: metadata, matchingPrecedence: 2, rules },
  });
  return async () => {
    await cluster.must('DELETE', `${flow}/flowschemas/${level}`);
    await cluster.must('DELETE', `${flow}/prioritylevelconfigurations/${level}`);
  };
}

/** How many calls that level has refused. */
export async function refusedCalls(cluster: RealCluster): Promise<number> {
  const metrics = await (await fetch(`${cluster.url}/metrics`)).text();
  const series = metrics.matchAll(/^apiserver_flowcontrol_rejected_requests_total{[^}]*"no-seats"[^}]*} (\S+)$/gm);
  return [...series].reduce((sum, [, value]) => sum + Number(value), 0);
}
