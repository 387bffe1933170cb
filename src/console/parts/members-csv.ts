/** Owns the CSV file that lists the members of each proxy role. */
import type { ProxyRole } from '../types.ts';
import { csvOf } from './csv.ts';
import { save } from './save.ts';

export function saveMembers(roles: readonly ProxyRole[]): void {
  const header = ['proxy_iam_role_arn', 'service_account', 'run_id', 'user', 'domino_orgs', 'since'];
  const rows = roles.flatMap(({ proxy_iam_role_arn: arn, members }) =>
    members.map((one) => [
      arn,
      one.service_account,
      one.run_id ?? '',
      one.user ?? '',
      (one.domino_orgs ?? []).join(' '),
      one.since,
    ]),
  );
  save('proxy-role-members.csv', 'text/csv', csvOf(header, rows));
}
