/** Owns the EKS clusters and their Pod Identity associations: the stored state, and the older state that EKS Auth still sees. */
import { randomBytes } from 'node:crypto';
import type { JSONWebKeySet } from 'jose';
import type { Clock } from '../../src/lib/clock.ts';

export interface Cluster {
  readonly account: string;
  readonly name: string;
  readonly arn: string;
  /** The cluster's own issuer, without `https://`; undefined: any that the account has as an OIDC provider. */
  readonly issuer?: { readonly issuer: string; readonly jwks: JSONWebKeySet };
}

/** The fields of an association that a caller may set. */
export interface AssociationSettings {
  roleArn: string;
  targetRoleArn?: string;
  disableSessionTags: boolean;
  /** A session policy, as JSON text. */
  policy?: string;
}

export interface Association extends AssociationSettings {
  readonly account: string;
  readonly clusterName: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly associationArn: string;
  readonly associationId: string;
  readonly tags: Readonly<Record<string, string>>;
  /** Milliseconds since the epoch, by the stand-in's clock. */
  readonly createdAt: number;
  modifiedAt: number;
  /** Set when an EKS add-on made it. */
  readonly ownerArn?: string;
  /** Set only with a target role, whose trust policy may require it. */
  externalId?: string;
}

export interface NewAssociation {
  namespace: string;
  serviceAccount: string;
  roleArn: string;
  targetRoleArn?: string;
  disableSessionTags?: boolean;
  policy?: string;
  tags?: Readonly<Record<string, string>>;
  ownerArn?: string;
}

/** Fields that are left out stay; an empty `targetRoleArn` removes the target. */
export type AssociationChange = Partial<AssociationSettings>;

/** EKS Auth sees a change by `setup` at once, and a caller's change after the knob `associationDelayMs`. */
export type Origin = 'call' | 'setup';

export interface EksStore {
  addCluster(cluster: Omit<Cluster, 'arn'>): Cluster;
  cluster(account: string, name: string): Cluster | undefined;
  /** In the order of their ids, which are random. */
  inCluster(cluster: Cluster): Association[];
  find(cluster: Cluster, associationId: string): Association | undefined;
  /** Finds an association in any cluster, since ids are unique. */
  findId(associationId: string): Association | undefined;
  count(cluster: Cluster): number;
  ofSubject(cluster: Cluster, namespace: string, serviceAccount: string): Association | undefined;
  add(cluster: Cluster, wanted: NewAssociation, origin: Origin): Association;
  change(association: Association, change: AssociationChange, origin: Origin): Association;
  remove(association: Association, origin: Origin): void;
  /** The association that currently acts on pods of this account, `delayMs` behind the calls. */
  acting(cluster: Cluster, namespace: string, serviceAccount: string, delayMs: number): Association | undefined;
}

interface Version {
  readonly at: number;
  readonly origin: Origin;
  readonly association: Association | undefined;
}

export function createEksStore(clock: Clock, partition: string, region: string): EksStore {
  const clusters = new Map<string, Cluster>();
  const associations = new Map<string, Association>();
  /** By subject. */
  const current = new Map<string, Association>();
  /** Oldest first, by subject. */
  const versions = new Map<string, Version[]>();

  const subjectKey = (account: string, cluster: string, namespace: string, serviceAccount: string) =>
    `${account}/${cluster}/${namespace}/${serviceAccount}`;

  function record(subject: Association, origin: Origin, association: Association | undefined): void {
    const { account, clusterName, namespace, serviceAccount } = subject;
    const key = subjectKey(account, clusterName, namespace, serviceAccount);
    if (association) current.set(key, association);
    else current.delete(key);
    const version = { at: clock.now(), origin, association: association && { ...association } };
    versions.set(key, [...(versions.get(key) ?? []), version]);
  }

  const inCluster = ({ account, name }: Cluster): Association[] =>
    [...associations.values()]
      .filter((each) => each.account === account && each.clusterName === name)
      .sort((a, b) => (a.associationId < b.associationId ? -1 : 1));

  /** Clients must read it, not build it: AWS's reference gives no form, so this one is only a plausible one. */
  const externalIdOf = (
    { account, name }: Pick<Cluster, 'account' | 'name'>,
    namespace: string,
    serviceAccount: string,
  ) => [region, account, name, namespace, serviceAccount].join('/');

  return {
    addCluster(wanted) {
      const arn = `arn:${partition}:eks:${region}:${wanted.account}:cluster/${wanted.name}`;
      const cluster: Cluster = { ...wanted, arn };
      clusters.set(`${wanted.account}/${wanted.name}`, cluster);
      return cluster;
    },
    cluster: (account, name) => clusters.get(`${account}/${name}`),
    inCluster,
    find(cluster, associationId) {
      const association = associations.get(associationId);
      return association?.account === cluster.account && association.clusterName === cluster.name
        ? association
        : undefined;
    },
    findId: (associationId) => associations.get(associationId),
    ofSubject: ({ account, name }, namespace, serviceAccount) =>
      current.get(subjectKey(account, name, namespace, serviceAccount)),
    count: ({ account, name }) =>
      [...associations.values()].filter((each) => each.account === account && each.clusterName === name).length,
    add(cluster, wanted, origin) {
      const { account, name: clusterName } = cluster;
      const associationId = newId();
      const { namespace, serviceAccount, roleArn, targetRoleArn } = wanted;
      const association: Association = {
        account,
        clusterName,
        namespace,
        serviceAccount,
        roleArn,
        disableSessionTags: wanted.disableSessionTags ?? false,
        ...(wanted.policy === undefined ? {} : { policy: wanted.policy }),
        ...(targetRoleArn ? { targetRoleArn, externalId: externalIdOf(cluster, namespace, serviceAccount) } : {}),
        associationArn: `arn:${partition}:eks:${region}:${account}:podidentityassociation/${clusterName}/${associationId}`,
        associationId,
        tags: { ...wanted.tags },
        createdAt: clock.now(),
        modifiedAt: clock.now(),
        ...(wanted.ownerArn === undefined ? {} : { ownerArn: wanted.ownerArn }),
      };
      associations.set(associationId, association);
      record(association, origin, association);
      return association;
    },
    change(association, { roleArn, targetRoleArn, disableSessionTags, policy }, origin) {
      if (policy !== undefined) association.policy = policy;
      if (roleArn !== undefined) association.roleArn = roleArn;
      if (disableSessionTags !== undefined) association.disableSessionTags = disableSessionTags;
      if (targetRoleArn === '') {
        delete association.targetRoleArn;
        delete association.externalId;
      } else if (targetRoleArn !== undefined) {
        const { account, clusterName: name, namespace, serviceAccount } = association;
        association.targetRoleArn = targetRoleArn;
        association.externalId = externalIdOf({ account, name }, namespace, serviceAccount);
      }
      association.modifiedAt = clock.now();
      record(association, origin, association);
      return association;
    },
    remove(association, origin) {
      associations.delete(association.associationId);
      record(association, origin, undefined);
    },
    acting({ account, name }, namespace, serviceAccount, delayMs) {
      const all = versions.get(subjectKey(account, name, namespace, serviceAccount)) ?? [];
      return all.findLast(({ at, origin }) => origin === 'setup' || at + delayMs <= clock.now())?.association;
    },
  };
}

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz0123456789';

function newId(): string {
  return `a-${[...randomBytes(17)].map((byte) => ALPHABET[byte % ALPHABET.length]).join('')}`;
}
