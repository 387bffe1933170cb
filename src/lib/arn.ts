/** Owns IAM role ARNs: their form and their parts. Pure. */

export interface RoleArn {
  arn: string;
  /** `aws`, `aws-us-gov`, `aws-cn`, `aws-eusc`. */
  partition: string;
  /** Twelve digits. */
  account: string;
  /** Everything after `:role/`: path and name, as in `team/reader`. */
  pathAndName: string;
  /** The last segment, which IAM's API takes as RoleName. */
  name: string;
}

/** https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html, without what breaks an INI file. */
const roleArnForm =
  /^arn:(aws(?:-[a-z]+)*):iam::(\d{12}):role\/((?:[A-Za-z0-9+=,.@_-]+\/)*([A-Za-z0-9+=,.@_-]{1,64}))$/;

/** @returns the parts, or undefined where the text is not the ARN of an IAM role. */
export function parseRoleArn(text: string): RoleArn | undefined {
  if (text.length > 2048) return undefined;
  const match = roleArnForm.exec(text);
  if (!match) return undefined;
  const [arn, partition, account, pathAndName, name] = match as unknown as [string, string, string, string, string];
  return { arn, partition, account, pathAndName, name };
}

/** The audience of a role's tokens, `irsa/<role name>`. @returns undefined where the text is not the ARN of a role. */
export function roleTokenAudience(roleArn: string): string | undefined {
  const role = parseRoleArn(roleArn);
  return role && `irsa/${role.name}`;
}

/** The ARN of the cluster's OIDC provider in IAM. `issuer` comes without a scheme. */
export function oidcProviderArn(partition: string, account: string, issuer: string): string {
  return `arn:${partition}:iam::${account}:oidc-provider/${issuer}`;
}

/** The ARN of an EKS cluster, as EKS sends it in the session tag `eks-cluster-arn` and as `aws:SourceArn`. */
export function eksClusterArn(partition: string, region: string, account: string, name: string): string {
  return `arn:${partition}:eks:${region}:${account}:cluster/${name}`;
}
