/** Owns the subjects that this service writes into trust policies: their form, and how to tell them from unmanaged ones. Pure. */

/** A subject that no token can have, for a list that must not be empty. */
export const placeholderSubject = 'irsa-svc:no-live-runs';

const dns1123Label = '[a-z0-9](?:[a-z0-9-]*[a-z0-9])?';
const serviceAccountForm = new RegExp(`^${dns1123Label}(?:\\.${dns1123Label})*$`);

/**
 * Whether a name has the form of a Kubernetes service account's (DNS-1123 subdomain, at most 253 characters), so that
 * it can stand in a StringLike pattern: no `*`, `?` or `${`.
 */
export function isServiceAccountName(name: string): boolean {
  return name.length <= 253 && serviceAccountForm.test(name);
}

/**
 * The subject pattern for a service account.
 * @throws RangeError where the name is not a service account's, which the caller had to check.
 */
export function subjectOf(namespace: string, account: string): string {
  if (!isServiceAccountName(account)) throw new RangeError('not the name of a service account');
  return `*:${namespace}:${account}`;
}

/** The characters that one more member adds to a document: its quoted subject and a comma. */
export function memberCost(namespace: string, account: string): number {
  return subjectOf(namespace, account).length + 3;
}

/**
 * The service account that a subject of ours names: `*:<namespace>:<account>`, or the older `*<24 hex>`.
 * @returns the account; '' for the placeholder and for Terraform's ""; undefined where the subject is not ours.
 */
export function managedAccount(namespace: string, subject: string): string | undefined {
  if (subject === '' || subject === placeholderSubject) return '';
  const prefix = `*:${namespace}:`;
  if (subject.startsWith(prefix)) {
    const account = subject.slice(prefix.length);
    return isServiceAccountName(account) ? account : undefined;
  }
  const older = /^\*([0-9a-f]{24})$/.exec(subject);
  return older ? `run-${older[1]}` : undefined;
}
