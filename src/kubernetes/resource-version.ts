/** Owns the order of Kubernetes' resource versions. Pure. */

/** https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions: decimal numbers, so longer is later. */
export function isAtLeast(version: string, other: string): boolean {
  return version.length === other.length ? version >= other : version.length > other.length;
}
