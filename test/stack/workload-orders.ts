/** Owns the stack's orders that start workloads whose pods domsed and EKS Pod Identity change at creation. */
import type { V1Pod } from '@kubernetes/client-node';
import type { World } from '../support/world.ts';
import { type PodIdentityAgent, startPodIdentityAgent } from './pod-identity-agent.ts';
import { podWebhooks } from './pod-webhooks.ts';
import { computeNamespace, dominoPod, dominoServiceAccount } from './pods.ts';

export function createWorkloadOrders({ aws, domino, kubernetes }: World) {
  let agent: Promise<PodIdentityAgent> | undefined;
  return {
    /** Switches on the changes of pods at creation, as in a cluster. @returns the address of EKS's agent for them. */
    'admit-pods': async () => {
      agent ??= startPodIdentityAgent({ aws });
      kubernetes.admit(podWebhooks({ associationOf: (namespace, account) => aws.associationActs(namespace, account) }));
      return { credentialsUrl: (await agent).credentialsUrl };
    },
    /** Starts a run as Domino does, with an account of its own. @returns its pod after admission. */
    'start-workload': ({ user, run }: { user: string; run: string }): V1Pod => {
      const { id, name } = domino.user(user);
      kubernetes.put('serviceaccounts', dominoServiceAccount(`run-${run}`));
      return kubernetes.put('pods', dominoPod({ runId: run, userId: id, userName: name, plain: true }));
    },
    'end-workload': ({ pod, run }: { pod: string; run: string }) => {
      kubernetes.remove('pods', computeNamespace, pod);
      kubernetes.remove('serviceaccounts', computeNamespace, `run-${run}`);
      return {};
    },
  };
}
