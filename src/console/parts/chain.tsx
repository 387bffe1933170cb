/** Owns the picture of a chain: from the organization through the run and the proxy role or token to the role, with the broken link. */
import { Fragment } from 'preact';
import { audienceOf, chainOf, isWhole, type LinkState, type Chain as Links, worstOf } from '../chain.ts';
import type { LiveRun, RoleAccess } from '../types.ts';
import { Mark, Role, Since, type Tone } from './bits.tsx';

const tones: Readonly<Record<LinkState, Tone>> = { good: 'good', broken: 'bad', waiting: 'warn', unknown: 'plain' };
const signs: Readonly<Record<LinkState, string>> = { good: '→', broken: '✕', waiting: '…', unknown: '?' };
const words: Readonly<Record<LinkState, string>> = {
  good: 'leads to',
  broken: 'does not lead to',
  waiting: 'will lead to, later,',
  unknown: 'leads, perhaps, to',
};

interface ChainProps {
  readonly access: RoleAccess;
  readonly run: LiveRun | undefined;
  readonly user: string;
}

type Node = readonly [name: string, shown: preact.ComponentChild, link: LinkState];

/** Whether the target role trusts the proxy role: its own trust policy says that, which the service does not read. */
function nodesOf(access: RoleAccess, run: string, [organization, asking, carried]: Links): Node[] {
  const { iam_role_arn: target, proxy_iam_role_arn: proxy } = access;
  const proxyNode: Node = ['proxy role', <Role key="proxy" arn={proxy} />, carried === 'good' ? 'good' : 'unknown'];
  const byToken: Node[] = [
    ['token', <code key="token">{audienceOf(proxy)}</code>, carried],
    ...(proxy === target ? [] : [proxyNode]),
  ];
  const byEntry: Node[] = [['proxy role', <Role key="proxy" arn={proxy} />, carried]];
  return [
    ['organization', access.domino_org, organization],
    ['run', run, asking],
    ...(access.carrier === 'token' ? byToken : byEntry),
    ['role', <Role key="role" arn={target} />, 'good'],
  ];
}

export function Chain({ access, run, user }: ChainProps) {
  const chain = chainOf(access);
  const nodes = nodesOf(access, run ? run.run_id : `a run of ${user}`, chain);
  const tone = tones[worstOf(chain)];
  const since = access.service_accounts?.flatMap((one) => one.since ?? [])[0];
  return (
    <li class={`chain ${tone}`}>
      <ol>
        {nodes.map(([name, shown, state], index) => (
          <Fragment key={name}>
            <li class="node">
              <small>{name}</small>
              <span>{shown}</span>
            </li>
            {index < nodes.length - 1 && (
              <li class={`link ${tones[state]}`}>
                <span aria-hidden="true">{signs[state]}</span>
                <span class="spoken">{words[state]}</span>
              </li>
            )}
          </Fragment>
        ))}
      </ol>
      <p>
        <Mark tone={tone}>{access.code}</Mark> {access.reason} {since !== undefined && <Since at={since} />}
      </p>
      {!isWhole(access) && (
        <p class="advice">
          <b>What to do:</b> {access.advice}
        </p>
      )}
    </li>
  );
}
