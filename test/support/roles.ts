/** Owns the AWS side of a test: proxy and target roles as Terraform makes them, and checks of who may assume a proxy role. */
import { AssumeRoleWithWebIdentityCommand, STSClient } from '@aws-sdk/client-sts';
import type { AwsStandIn } from '../stack/aws.ts';

export const clusterAccount = '111111111111';
export const assetAccount = '222222222222';

/** A proxy role's trust policy, in Terraform's form. @param subject the subject of the tokens that it accepts. */
export function proxyTrust(issuer: string, subject: string) {
  return {
    Version: '2012-10-17',
    Statement: [
      {
        Effect: 'Allow',
        Principal: { Federated: `arn:aws:iam::${clusterAccount}:oidc-provider/${issuer}` },
        Action: 'sts:AssumeRoleWithWebIdentity',
        Condition: { StringLike: { [`${issuer}:aud`]: 'sts.amazonaws.com', [`${issuer}:sub`]: subject } },
      },
    ],
  };
}

/** A target role's trust policy. @param principal the ARN of the role or account that may assume it. */
export function targetTrust(principal: string) {
  return {
    Version: '2012-10-17',
    Statement: [{ Effect: 'Allow', Principal: { AWS: principal }, Action: 'sts:AssumeRole' }],
  };
}

/** Creates a target role, and a proxy role in the cluster's account with a trust policy as Terraform makes it. */
export function addRolePair(aws: AwsStandIn, issuer: string, name: string, proxies: readonly string[] = [name]) {
  const trust = proxyTrust(issuer, '');
  const arns = proxies.map((proxy) => aws.addRole({ account: clusterAccount, name: proxy, trust }).arn);
  const target = aws.addRole({
    account: assetAccount,
    name,
    trust: targetTrust(`arn:aws:iam::${clusterAccount}:root`),
  });
  return { target: target.arn, proxies: arns };
}

/** The subjects in a proxy role's trust policy. */
export function subjectsOf(aws: AwsStandIn, issuer: string, proxy: string): string[] {
  const document = aws.role(clusterAccount, proxy).document as {
    Statement: { Condition?: Record<string, Record<string, string | string[]>> }[];
  };
  return document.Statement.flatMap((statement) =>
    Object.values(statement.Condition ?? {}).flatMap((keys) => keys[`${issuer}:sub`] ?? []),
  );
}

/** Whether STS gives the proxy role for the token of a pod with this service account. */
export async function assumes(token: string, proxyArn: string): Promise<boolean> {
  const sts = new STSClient({ region: 'us-west-2', maxAttempts: 1 });
  const input = { RoleArn: proxyArn, RoleSessionName: 'test', WebIdentityToken: token };
  try {
    await sts.send(new AssumeRoleWithWebIdentityCommand(input));
    return true;
  } catch (error) {
    if ((error as Error).name.startsWith('AccessDenied')) return false;
    throw error;
  } finally {
    sts.destroy();
  }
}

/** Points the AWS clients of this process at the stand-in. @returns a function that restores the environment. */
export function reachAws(aws: AwsStandIn): () => void {
  const variables = { ...aws.environment(), ...aws.credentials };
  const before = Object.keys(variables).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, variables);
  return () => {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  };
}
