/** Owns the second look before many are dropped: what the API server says, past every cache. Invariant 3. */
import type { Kubernetes, Pod, ServiceAccount } from './kubernetes.ts';
import { KubernetesError } from './kubernetes-api.ts';
import type { Log } from './log.ts';
import { type Mappings, mappingConfigMap, parseMappings } from './mappings.ts';
import { allStartedBy } from './runs.ts';
import { askersOf, parseWant } from './wants.ts';

type Reader = Pick<Kubernetes, 'listPods' | 'listServiceAccounts' | 'getServiceAccount' | 'getConfigMap'>;

/**
 * Whether a list without a single pod or service account can be believed is not known: accounts are then asked for one by
 * one, and one that still exists is taken to be in use.
 * @returns which of these accounts belong in the role after all; all of them where the API server cannot be asked.
 */
export async function stillWanted(
  kubernetes: Reader,
  role: string,
  names: readonly string[],
  log: Log,
): Promise<ReadonlySet<string>> {
  let world: [Pod[], ServiceAccount[], Mappings];
  try {
    const configMap = kubernetes.getConfigMap(mappingConfigMap).then((found) => parseMappings(found?.data ?? {}));
    world = await Promise.all([kubernetes.listPods(), kubernetes.listServiceAccounts(), configMap]);
  } catch (error) {
    log.warn({ err: error, role }, 'the API server could not be asked: dropping nobody');
    return new Set(names);
  }
  const [pods, accounts, mappings] = world;
  if (pods.length === 0 || accounts.length === 0) return stillThere(kubernetes, names);
  const asked = new Set(names);
  const live = Map.groupBy(
    pods.filter((pod) => pod.live && asked.has(pod.account)),
    (pod) => pod.account,
  );
  const belongs = accounts.filter(({ name, wanted }) => {
    if (!asked.has(name)) return false;
    const own = live.get(name) ?? [];
    // An earlier release put it there, and its run lives.
    if (wanted === undefined) return allStartedBy(own, own[0]?.user ?? '');
    const want = parseWant(wanted);
    if (!want || !allStartedBy(own, want.user.id)) return false;
    // A later run of the same user on the same account has to ask itself.
    const askers = askersOf(want);
    if (!own.some(({ run }) => run !== undefined && askers.has(run))) return false;
    return want.roles.some(({ target, proxies }) =>
      proxies.some(({ arn, org }) => arn === role && mappings.allows(org, target, arn)),
    );
  });
  return new Set(belongs.map(({ name }) => name));
}

async function stillThere(kubernetes: Reader, names: readonly string[]): Promise<ReadonlySet<string>> {
  const found = await Promise.all(
    names.map((name) =>
      kubernetes.getServiceAccount(name).then(
        () => true,
        (error: unknown) => !(error instanceof KubernetesError && error.kind === 'not_found'),
      ),
    ),
  );
  return new Set(names.filter((_, index) => found[index]));
}
