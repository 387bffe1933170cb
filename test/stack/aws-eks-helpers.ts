/** Owns changes to EKS that tests make without a call: clusters, and associations that another tool makes, changes or removes. */
import type { JSONWebKeySet } from 'jose';
import type { Association, AssociationChange, EksStore, NewAssociation } from './aws-eks-store.ts';
import type { AwsKnobs } from './aws-knobs.ts';

export type AssociationView = Readonly<Association>;

export interface ClusterOptions {
  account?: string;
  /** The cluster's own issuer, without `https://`; by default any issuer that `trustIssuer` added to its account. */
  issuer?: string;
  jwks?: JSONWebKeySet;
}

export interface EksHelpers {
  /** Creates a cluster in the cluster account; a second call replaces its issuer. `acme` exists from the start. */
  addCluster(name: string, options?: ClusterOptions): { readonly name: string; readonly arn: string };
  /** Copies of the associations, in the order of their ids; of all clusters where no name is given. */
  associations(cluster?: string): AssociationView[];
  /** Creates another tool's association: it checks only the subject, makes no call and no entry in `eksWrites`, and acts at once. */
  addAssociation(association: NewAssociation & { cluster?: string }): AssociationView;
  /** Changes it; an empty `targetRoleArn` removes the target. */
  changeAssociation(associationId: string, change: AssociationChange): AssociationView;
  removeAssociation(associationId: string): void;
  /** Whether an association acts on new pods of the account; the knob `associationDelayMs` delays that. */
  associationActs(namespace: string, serviceAccount: string, cluster?: string): boolean;
}

export function createEksHelpers(
  store: EksStore,
  homeAccount: string,
  knobs: Pick<AwsKnobs, 'associationDelayMs'>,
): EksHelpers {
  const names = new Map<string, string>();

  const clusterOf = (name: string) => {
    const cluster = store.cluster(names.get(name) ?? homeAccount, name);
    if (!cluster) throw new Error(`no cluster ${name}`);
    return cluster;
  };
  const associationOf = (associationId: string) => {
    const association = store.findId(associationId);
    if (!association) throw new Error(`no association ${associationId}`);
    return association;
  };

  const helpers: EksHelpers = {
    addCluster(name, { account = homeAccount, issuer, jwks } = {}) {
      names.set(name, account);
      const own = issuer === undefined || jwks === undefined ? {} : { issuer: { issuer, jwks } };
      return store.addCluster({ account, name, ...own });
    },
    associations: (cluster) =>
      (cluster === undefined ? [...names.keys()] : [cluster])
        .flatMap((name) => store.inCluster(clusterOf(name)))
        .map((association) => ({ ...association })),
    addAssociation({ cluster = DEFAULT_CLUSTER, ...wanted }) {
      const found = clusterOf(cluster);
      if (store.ofSubject(found, wanted.namespace, wanted.serviceAccount)) {
        throw new Error(`${wanted.namespace}/${wanted.serviceAccount} has an association in ${cluster}`);
      }
      return { ...store.add(found, wanted, 'setup') };
    },
    changeAssociation: (associationId, change) => ({ ...store.change(associationOf(associationId), change, 'setup') }),
    associationActs: (namespace, serviceAccount, cluster = DEFAULT_CLUSTER) =>
      store.acting(clusterOf(cluster), namespace, serviceAccount, knobs.associationDelayMs) !== undefined,
    removeAssociation: (associationId) => store.remove(associationOf(associationId), 'setup'),
  };
  helpers.addCluster(DEFAULT_CLUSTER);
  return helpers;
}

export const DEFAULT_CLUSTER = 'acme';
