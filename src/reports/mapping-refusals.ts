/** Owns the checks that refuse an administrator's mapping, beyond the patterns of the contract. Pure. */

import type { AwsIdentity } from '../aws/iam.ts';
import { parseRoleArn } from '../lib/arn.ts';
import type { FieldError } from '../lib/errors.ts';
import { isByToken, isManaged, type RoleMapping } from '../mappings/role-mappings.ts';
import { maxRoleRequestBytes, roleRequestBytes } from '../runs/role-request.ts';

/** @param path of the list in the request, or of the body where that is the one mapping. */
export function mappingRefusals(
  org: string,
  list: readonly RoleMapping[],
  path: string,
  identity: AwsIdentity,
): FieldError[] {
  const errors: FieldError[] = [];
  // Kubernetes would accept this key, but a JavaScript object would lose it.
  if (org === '__proto__') errors.push({ path: '/body/domino_org', message: 'not a name that can be stored' });
  for (const [index, mapping] of list.entries()) {
    const at = path === '/body' ? path : `${path}/${index}`;
    errors.push(...arnRefusals(mapping, at, identity), ...contradictions(org, list, index, path));
  }
  const bytes = roleRequestBytes(org, list);
  if (bytes > maxRoleRequestBytes) {
    const message = `a run of its members would carry ${bytes} bytes of roles, and Kubernetes keeps at most ${maxRoleRequestBytes} on a service account: map fewer roles, or roles with shorter ARNs`;
    errors.push({ path, message });
  }
  return errors;
}

/** @returns why the text is not the ARN of a role in the cluster's partition; undefined where it is. */
export function roleArnProblem(text: string, { partition }: Pick<AwsIdentity, 'partition'>): string | undefined {
  const arn = parseRoleArn(text);
  if (!arn) return 'not the ARN of an IAM role';
  if (arn.partition === partition) return undefined;
  return `in partition ${arn.partition}; this cluster is in ${partition}, and roles cannot be assumed across`;
}

/** Checks the accounts and the partitions of the ARNs. */
function arnRefusals(mapping: RoleMapping, at: string, identity: AwsIdentity): FieldError[] {
  const errors: FieldError[] = [];
  for (const field of ['iam_role_arn', 'proxy_iam_role_arn'] as const) {
    const message = roleArnProblem(mapping[field], identity);
    if (message !== undefined) errors.push({ path: `${at}/${field}`, message });
  }
  const proxy = parseRoleArn(mapping.proxy_iam_role_arn);
  if (!proxy || proxy.account === identity.account) return errors;
  if (isByToken(mapping)) {
    const message = `in account ${proxy.account}; a token names the role alone, so roles that are reached by tokens are in the cluster's own account, ${identity.account}`;
    errors.push({ path: `${at}/proxy_iam_role_arn`, message });
  } else if (isManaged(mapping)) {
    const message = `in account ${proxy.account}; its trust policy can only be written in the cluster's own, ${identity.account}`;
    errors.push({ path: `${at}/proxy_iam_role_arn`, message });
  }
  return errors;
}

/** Finds where an entry contradicts the call, or an entry before it. */
function contradictions(org: string, list: readonly RoleMapping[], index: number, path: string): FieldError[] {
  const mapping = list[index] as RoleMapping;
  const at = `${path}/${index}`;
  const errors: FieldError[] = [];
  if (mapping.domino_org !== org) {
    errors.push({ path: `${at}/domino_org`, message: `another organization than the call's own, ${org}` });
  }
  const before = list.slice(0, index);
  const { iam_role_arn: target, proxy_iam_role_arn: proxy } = mapping;
  const isSame = (one: RoleMapping) => one.iam_role_arn === target && one.proxy_iam_role_arn === proxy;
  // Both carriers of one pair serve clients that keep token files and those that do not.
  const same = before.findIndex((one) => isSame(one) && isByToken(one) === isByToken(mapping));
  if (same >= 0) errors.push({ path: at, message: `the same pair of roles as entry ${same}` });
  const other = before.findIndex((one) => one.proxy_iam_role_arn === proxy && isManaged(one) !== isManaged(mapping));
  if (other >= 0) {
    const message = `contradicts entry ${other}, which has another update_iam_role_trust_policy for ${proxy}`;
    errors.push({ path: `${at}/update_iam_role_trust_policy`, message });
  }
  const proposal = before.findIndex((one) => one.default_profile && one.iam_role_arn !== target);
  if (mapping.default_profile && proposal >= 0) {
    const message = `entry ${proposal} proposes ${before[proposal]?.iam_role_arn} already, and an organization proposes one role`;
    errors.push({ path: `${at}/default_profile`, message });
  }
  return errors;
}
