/** Owns IAM role ARNs: their form and their parts. Pure. */

export interface RoleArn {
  arn: string;
  /** `aws`, `aws-us-gov`, `aws-cn`, `aws-eusc`. */
  partition: string;
  /** Twelve digits. */
  account: string;
  /** All after `:role/`: path and name, as in `team/reader`. */
  pathAndName: string;
  /** The last segment: what IAM's API takes as RoleName. */
  name: string;
}

/** https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html, less what an INI file cannot hold. */
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

/** The ARN of the cluster's OIDC provider in IAM. `issuer` comes without a scheme. */
export function oidcProviderArn(partition: string, account: string, issuer: string): string {
  return `arn:${partition}:iam::${account}:oidc-provider/${issuer}`;
}
