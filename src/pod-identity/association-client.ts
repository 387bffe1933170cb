/** Owns the calls to EKS for associations: finds, creates, updates and removes them, within the rate limit and the lease. */
import { callDeadline, type HeldLease } from '../aws/call.ts';
import type { Association, AssociationContent, AssociationSummary, Eks } from '../aws/eks.ts';
import { AwsError } from '../aws/error.ts';
import type { RateLimiter } from '../aws/rate-limiter.ts';
import type { Clock } from '../lib/clock.ts';

/** Say that irsa-svc made an association, and for which Domino user. */
const managedByTag = 'app.kubernetes.io/managed-by';
const userTag = 'irsa.dominodatalab.com/domino-user';
/** Says which installation made it: several may share one cluster, and even one compute namespace. */
const installationTag = 'irsa.dominodatalab.com/installation';
const managedBy = 'irsa-svc';

export interface AssociationsOptions {
  eks: Eks;
  /** Identifies this installation among others in the cluster: its field namespace. */
  installation: string;
  reads: RateLimiter;
  writes: RateLimiter;
  lease: HeldLease;
  clock: Clock;
  signal: AbortSignal;
}

/** All calls may throw AwsError. */
export interface Associations {
  /** @param id its last known id, which saves a listing. */
  find(account: string, id: string | undefined): Promise<Association | undefined>;
  /** All associations of the namespace. */
  list(): Promise<AssociationSummary[]>;
  describe(id: string): Promise<Association | undefined>;
  create(account: string, user: string, content: AssociationContent, token: string): Promise<Association>;
  update(found: Association, content: AssociationContent): Promise<Association>;
  remove(found: Association): Promise<void>;
  /** Whether we may change it: we made it, or a person gave it our tags. Another installation's is not ours. */
  isOurs(found: Association): boolean;
  /** Whether this installation made it, so that it may be removed although no mapping and no status names it. */
  isMadeHere(found: Association): boolean;
}

function isManaged({ tags }: Association): boolean {
  return tags[managedByTag] === managedBy;
}

/** The Domino user that the association was made for. */
export function userOf({ tags }: Association): string | undefined {
  return tags[userTag];
}

export function createAssociations(options: AssociationsOptions): Associations {
  const { eks, installation, lease, signal } = options;
  const mayWrite = () => lease.holds();

  async function within<T>(budget: RateLimiter, call: (deadline: AbortSignal) => Promise<T>): Promise<T> {
    if (!(await budget.take(false, signal))) throw new AwsError('not_holder', 'the term ended');
    // Throttling by EKS delays the next try of this call. It does not lower the rate of calls to IAM.
    return call(callDeadline(options));
  }

  const read = <T>(call: (deadline: AbortSignal) => Promise<T>) => within(options.reads, call);
  const write = <T>(call: (deadline: AbortSignal) => Promise<T>) => within(options.writes, call);

  async function list(serviceAccount?: string): Promise<AssociationSummary[]> {
    const all: AssociationSummary[] = [];
    let next: string | undefined;
    do {
      const page = await read((deadline) => eks.list({ serviceAccount, next }, deadline));
      all.push(...page.found);
      next = page.next;
    } while (next !== undefined);
    return all;
  }

  const describe = (id: string) => read((deadline) => eks.describe(id, deadline));

  return {
    find: async (account, id) => {
      const known = id === undefined ? undefined : await describe(id);
      if (known?.serviceAccount === account) return known;
      const summary = (await list(account)).find(({ serviceAccount }) => serviceAccount === account);
      return summary && (await describe(summary.id));
    },
    list,
    describe,
    create: (account, user, content, token) => {
      const tags = { [managedByTag]: managedBy, [installationTag]: installation, [userTag]: user };
      return write((deadline) => eks.create(account, content, tags, token, deadline, mayWrite));
    },
    update: ({ id, serviceAccount }, content) =>
      write((deadline) => eks.update(id, serviceAccount, content, deadline, mayWrite)),
    remove: ({ id, serviceAccount }) => write((deadline) => eks.remove(id, serviceAccount, deadline, mayWrite)),
    isOurs: (found) => isManaged(found) && (found.tags[installationTag] ?? installation) === installation,
    isMadeHere: (found) => isManaged(found) && found.tags[installationTag] === installation,
  };
}
