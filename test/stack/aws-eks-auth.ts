/** Owns EKS Auth: gives a pod credentials, based on its token, its service account's association and the role's trust policy. */
import { randomUUID } from 'node:crypto';
import type { JSONWebKeySet, JWTPayload } from 'jose';
import { isRecord } from './aws-conditions.ts';
import { clusterOf, type EksCall, POD_IDENTITY_SERVICE } from './aws-eks.ts';
import type { Association, Cluster, EksStore } from './aws-eks-store.ts';
import { assumeRole, openSession, refusedAction, type Session, type SessionTags } from './aws-sessions.ts';
import type { StsWorld } from './aws-sts.ts';
import { audiencesOf, issuerOf, verifyToken } from './aws-tokens.ts';
import { AwsError } from './aws-xml.ts';

export interface EksAuthWorld extends StsWorld {
  readonly eks: EksStore;
}

interface Pod {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly name: string;
  readonly uid: string;
}

/** As AWS's trails show it: EKS asks STS for 21600 seconds, whatever the role's own longest session. */
const SESSION_SECONDS = 6 * 3600;
const CHAINED_SECONDS = 3600;

export async function assumeRoleForPodIdentity(world: EksAuthWorld, call: EksCall): Promise<Record<string, unknown>> {
  const cluster = clusterOf(world, call);
  if (typeof call.body.token !== 'string') throw new AwsError('InvalidParameterException', 'No token in the request.');
  const pod = await podOf(world, cluster, call.body.token);
  const { namespace, serviceAccount } = pod;
  const association = world.eks.acting(cluster, namespace, serviceAccount, world.knobs.associationDelayMs);
  if (!association) {
    const message = `No association for service account ${namespace}/${serviceAccount} in cluster ${cluster.name}.`;
    throw new AwsError('AccessDeniedException', message);
  }
  const { principal, key } = sessionOf(world, cluster, association, pod);
  return {
    subject: { namespace, serviceAccount },
    audience: POD_IDENTITY_SERVICE,
    podIdentityAssociation: {
      associationArn: association.associationArn,
      associationId: association.associationId,
    },
    assumedRoleUser: { arn: principal.arn, assumeRoleId: principal.userId },
    credentials: {
      accessKeyId: key.accessKeyId,
      secretAccessKey: key.secretAccessKey,
      sessionToken: key.sessionToken,
      expiration: Math.floor((key.expiresAt ?? 0) / 1000),
    },
  };
}

function sessionOf(world: EksAuthWorld, cluster: Cluster, association: Association, pod: Pod): Session {
  const sessionName = sessionNameOf(cluster, pod);
  const tags = association.disableSessionTags ? {} : tagsOf(cluster, pod);
  const role = world.roles.findArn(association.roleArn);
  const values = {
    'aws:SourceArn': cluster.arn,
    'aws:SourceAccount': cluster.account,
    'sts:RoleSessionName': sessionName,
  };
  const refused = refusedAction(world, role, { kind: 'service', name: POD_IDENTITY_SERVICE }, values, tags);
  if (!role || refused) throw notPermitted();
  const transitive = Object.keys(tags);
  const { targetRoleArn, externalId, policy } = association;
  const limits = targetRoleArn === undefined ? { policy } : {};
  const first = openSession(world, role, sessionName, SESSION_SECONDS, { tags, transitive, ...limits });
  if (targetRoleArn === undefined) return first;
  try {
    return assumeRole(world, first.principal, {
      roleArn: targetRoleArn,
      sessionName,
      externalId,
      policy,
      seconds: () => CHAINED_SECONDS,
    });
  } catch (error) {
    // The answer does not reveal which of the two roles refused.
    throw error instanceof AwsError && error.code === 'AccessDenied' ? notPermitted() : error;
  }
}

/** The error in the words that pods get from their agents. */
function notPermitted(): AwsError {
  return new AwsError(
    'AccessDeniedException',
    'Unauthorized Exception! EKS does not have permissions to assume the associated role.',
  );
}

/** Sessions seen in public trails have ten characters of the cluster's name and ten of the pod's at most. */
function sessionNameOf(cluster: Cluster, pod: Pod): string {
  return `eks-${cluster.name.slice(0, 10)}-${pod.name.slice(0, 10)}-${randomUUID()}`;
}

function tagsOf(cluster: Cluster, pod: Pod): SessionTags {
  return {
    'eks-cluster-arn': cluster.arn,
    'eks-cluster-name': cluster.name,
    'kubernetes-namespace': pod.namespace,
    'kubernetes-service-account': pod.serviceAccount,
    'kubernetes-pod-name': pod.name,
    'kubernetes-pod-uid': pod.uid,
  };
}

async function podOf(world: EksAuthWorld, cluster: Cluster, token: string): Promise<Pod> {
  const claims = await verifyToken(token, keysOf(world, cluster, issuerOf(token)), world.clock.now());
  if (!audiencesOf(claims).includes(POD_IDENTITY_SERVICE)) throw invalidToken('Incorrect token audience');
  return boundPod(claims);
}

function keysOf({ providers }: EksAuthWorld, cluster: Cluster, issuer: string): JSONWebKeySet {
  const own = cluster.issuer ? [cluster.issuer] : providers.filter((each) => each.account === cluster.account);
  const known = own.find((each) => `https://${each.issuer}` === issuer);
  if (!known) throw invalidToken(`${issuer} is not the issuer of cluster ${cluster.name}`);
  return known.jwks;
}

function boundPod(claims: JWTPayload): Pod {
  const bound = claims['kubernetes.io'];
  const { namespace, pod, serviceaccount } = isRecord(bound) ? bound : {};
  const name = isRecord(pod) ? pod.name : undefined;
  const uid = isRecord(pod) ? pod.uid : undefined;
  const serviceAccount = isRecord(serviceaccount) ? serviceaccount.name : undefined;
  if (
    typeof namespace !== 'string' ||
    typeof name !== 'string' ||
    typeof uid !== 'string' ||
    typeof serviceAccount !== 'string'
  ) {
    throw invalidToken('The token is bound to no pod');
  }
  return { namespace, serviceAccount, name, uid };
}

function invalidToken(message: string): AwsError {
  return new AwsError('InvalidTokenException', message);
}
