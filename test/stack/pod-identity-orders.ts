/** Owns the stack's orders about EKS Pod Identity: manual changes, and queries of the current state and its history. */
import type { V1Pod } from '@kubernetes/client-node';
import { clusterAccount, type World } from '../support/world.ts';
import type { AssociationChange } from './aws.ts';
import type { KubernetesObject } from './kubernetes.ts';
import { computeNamespace } from './pods.ts';

const mutationName = 'irsa-pod-identity';
const platformNamespace = 'domino-platform';
const statusLabel = 'irsa.dominodatalab.com/pod-identity-status';

type Rules = { cloudWorkloadIdentity?: { user_mappings?: Record<string, string> } }[];

/** The Mutation's state from a point in time on; without users where it was deleted. */
export interface MutationVersion {
  at: number;
  byHand: boolean;
  users: [user: string, account: string][];
  /** Service accounts that had an association of the service at that time. */
  associated: string[];
}

export interface PodIdentityPast {
  mutations: MutationVersion[];
  /** Identities of the lease's holders. */
  leases: { at: number; holder: string }[];
  /** Idempotency tokens that were in a status before their use. */
  tokens: { at: number; token: string }[];
  deletedAccounts: { at: number; byHand: boolean; account: string; livePods: number }[];
  /** Service accounts whose association was made, changed or removed by hand. */
  handled: string[];
  /** Ids of the associations that another tool made. */
  foreign: string[];
}

export function createPodIdentityOrders(world: World) {
  const { aws, kubernetes } = world;
  const past: PodIdentityPast = {
    mutations: [],
    leases: [],
    tokens: [],
    deletedAccounts: [],
    handled: [],
    foreign: [],
  };
  let byHand = false;
  const hand = <T>(act: () => T): T => {
    byHand = true;
    try {
      return act();
    } finally {
      byHand = false;
    }
  };
  const isOurs = ({ tags }: { tags: Readonly<Record<string, string>> }) =>
    tags['app.kubernetes.io/managed-by'] === 'irsa-svc';
  const associationOf = (account: string) => {
    const found = aws
      .associations()
      .find(({ namespace, serviceAccount }) => namespace === computeNamespace && serviceAccount === account);
    if (!found) throw new Error(`service account ${account} has no association`);
    return found;
  };
  const usersIn = (object: KubernetesObject | undefined) =>
    ((object?.rules ?? []) as Rules).flatMap((rule) => Object.entries(rule.cloudWorkloadIdentity?.user_mappings ?? {}));
  const pods = () => kubernetes.list<V1Pod>('pods', computeNamespace);

  kubernetes.onChange('mutations', (type, object) => {
    if (object.metadata?.name !== mutationName) return;
    const users = type === 'DELETED' ? [] : usersIn(object);
    const associated = aws.associations().filter(isOurs);
    const names = associated.map(({ serviceAccount }) => serviceAccount);
    past.mutations.push({ at: Date.now(), byHand, users, associated: names });
  });
  kubernetes.onChange('leases', (_type, object) => {
    const holder = String((object.spec as { holderIdentity?: string } | undefined)?.holderIdentity ?? '');
    if (past.leases.at(-1)?.holder !== holder) past.leases.push({ at: Date.now(), holder });
  });
  kubernetes.onChange('configmaps', (_type, object) => {
    if (object.metadata?.labels?.[statusLabel] === undefined) return;
    const { creating } = statusIn(object);
    if (creating !== undefined) past.tokens.push({ at: Date.now(), token: creating });
  });
  kubernetes.onChange('serviceaccounts', (type, object) => {
    if (type !== 'DELETED') return;
    const account = object.metadata?.name ?? '';
    const livePods = pods().filter(({ spec }) => spec?.serviceAccountName === account).length;
    past.deletedAccounts.push({ at: Date.now(), byHand, account, livePods });
  });

  return {
    'remove-by-hand': ({ kind, namespace, name }: { kind: string; namespace: string; name: string }) =>
      hand(() => kubernetes.remove(kind, namespace, name)),
    /** `kubectl apply` of a Mutation of the service's name. */
    'apply-mutation': (users: Record<string, string>) => {
      const mapping = { cloud_type: 'aws', default_sa: '', assume_sa_mapping: false, user_mappings: users };
      const metadata = { name: mutationName, namespace: platformNamespace, labels: { team: 'platform' } };
      hand(() => kubernetes.put('mutations', { metadata, rules: [{ cloudWorkloadIdentity: mapping }] }));
      return {};
    },
    'add-association': ({ account, role }: { account: string; role: string }) => {
      past.handled.push(account);
      const wanted = {
        namespace: computeNamespace,
        serviceAccount: account,
        roleArn: role,
        tags: { team: 'platform' },
      };
      past.foreign.push(aws.addAssociation(wanted).associationId);
      return {};
    },
    'change-association': ({ account, change }: { account: string; change: AssociationChange }) => {
      past.handled.push(account);
      aws.changeAssociation(associationOf(account).associationId, change);
      return {};
    },
    'remove-association': (account: string) => {
      past.handled.push(account);
      aws.removeAssociation(associationOf(account).associationId);
      return {};
    },
    'remove-role': (name: string) => {
      aws.removeRole(clusterAccount, name);
      return {};
    },
    'pod-identity-state': ({ roles }: { roles: string[] }) => ({
      associations: aws.associations().map((one) => ({ ...one, ours: isOurs(one) })),
      /** The service accounts of the compute namespace, and whether the service made each for a user. */
      accounts: kubernetes.list('serviceaccounts', computeNamespace).map(({ metadata }) => ({
        name: metadata?.name ?? '',
        made: metadata?.annotations?.['irsa.dominodatalab.com/pod-identity-of'] !== undefined,
      })),
      rules: (kubernetes.get('mutations', platformNamespace, mutationName)?.rules ?? []) as object[],
      users: usersIn(kubernetes.get('mutations', platformNamespace, mutationName)),
      pods: pods().map(({ metadata, spec }) => ({
        name: metadata?.name ?? '',
        account: spec?.serviceAccountName ?? '',
        user: metadata?.labels?.['dominodatalab.com/starting-user-username'] ?? '',
      })),
      statuses: kubernetes
        .list('configmaps', 'domino-field')
        .filter(({ metadata }) => metadata?.labels?.[statusLabel] !== undefined)
        .map((object) => ({ configMap: object.metadata?.name ?? '', ...statusIn(object) })),
      /** The newest trust policies; undefined where there is no such role. */
      documents: roles.map((name) => roleDocument(world, name)),
    }),
    'pod-identity-past': ({ roles }: { roles: string[] }) => ({
      ...past,
      eksWrites: aws.eksWrites,
      /** The writes of the roles' trust policies that took effect. */
      trustWrites: aws.writes
        .filter(({ role, outcome }) => roles.includes(role) && (outcome === 'ok' || outcome === 'answer-lost'))
        .map(({ role, by, startedAt, endedAt, document }) => ({
          role,
          by,
          at: endedAt ?? startedAt,
          document: JSON.parse(document) as Record<string, unknown>,
        })),
    }),
  };
}

interface StatusFacts {
  service_account: string;
  state: string;
  creating?: string;
  reason?: { code: string };
}

function statusIn(object: KubernetesObject): StatusFacts {
  const { 'status.json': text = '{}' } = (object.data ?? {}) as Record<string, string>;
  return JSON.parse(text) as StatusFacts;
}

function roleDocument({ aws }: World, name: string): Record<string, unknown> | undefined {
  try {
    return aws.role(clusterAccount, name).document;
  } catch {
    return undefined;
  }
}
