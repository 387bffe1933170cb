/** Owns the lines about EKS Pod Identity that `npm run dev` offers. */
import type { Line } from './playground.ts';

const json = '-H Content-Type:application/json';
const admin = '-H "Authorization: Bearer $ADMIN"';
const two = `'{"domino_user":"svc-user-2","iam_role_arn":"arn:aws:iam::111111111111:role/example-eks-pod-identity2-role"}'`;
const update = (query = '') =>
  `curl --cacert $CA -X POST "$IRSA/update_pod_identity_mapping${query}" ${json} ${admin} -d ${two}`;
const run = '6650c1d2e3f4a5b6c7d8e9f2';
const token = `$(curl -s -X POST $CONTROL/pod-token -d '{"serviceAccount":"svc-user-1-sa","pod":"run-${run}","audience":"pods.eks.amazonaws.com"}' | tr -d '"')`;

/** The playground has svc-user-1 mapped. */
export const podIdentityLines: readonly Line[] = [
  {
    about: 'EKS Pod Identity: the state of svc-user-1’s role',
    typed: 'curl --cacert $CA $IRSA/my_pod_identity -H "Authorization: Bearer $SVC_USER_1"',
    shows: /"state":"in_place"/,
  },
  { about: 'what a mapping of svc-user-2 would change', typed: update('?dry_run=true'), shows: /"dry_run":true/ },
  { about: 'map svc-user-2', typed: update(), shows: /"service_account":"svc-user-2-sa"/ },
  {
    about: 'all Pod Identity mappings',
    typed: `curl --cacert $CA $IRSA/pod_identity_mappings ${admin}`,
    shows: /svc-user-1-sa[\s\S]*svc-user-2-sa/,
  },
  {
    about: 'the Mutation that gives users their service accounts',
    typed: 'kubectl -n domino-platform get mutation irsa-pod-identity -o yaml',
    shows: /svc-user-1: svc-user-1-sa/,
    needs: 'kubectl',
  },
  {
    about: 'start a run of svc-user-1: its pod, as domsed and EKS changed it',
    typed: `curl -s -X POST $CONTROL/start-workload -d '{"user":"svc-user-1","run":"${run}"}'`,
    shows:
      /AWS_CONTAINER_CREDENTIALS_FULL_URI[\s\S]*"serviceAccountName":"svc-user-1-sa"|"serviceAccountName":"svc-user-1-sa"[\s\S]*AWS_CONTAINER_CREDENTIALS_FULL_URI/,
  },
  {
    about: 'the identity of that pod in AWS, without a config file',
    typed: `HOME=$FOLDER AWS_CONFIG_FILE=/dev/null AWS_CONTAINER_CREDENTIALS_FULL_URI=$AGENT AWS_CONTAINER_AUTHORIZATION_TOKEN=${token} aws sts get-caller-identity`,
    shows: /assumed-role\/example-eks-pod-identity1-role\/eks-acme-/,
    needs: 'aws',
  },
  {
    about: 'delete the mapping of svc-user-2',
    typed: `curl --cacert $CA -X DELETE $IRSA/delete_pod_identity_mapping ${json} ${admin} -d '{"domino_user":"svc-user-2"}'`,
    shows: /"deleted":true/,
  },
];
