/** Owns the handling of calls to IAM and STS: finds the action of the Query protocol, applies faults and answers. */
import type { IncomingMessage } from 'node:http';
import type { Exchange } from './aws-exchange.ts';
import { IAM_ACTIONS } from './aws-iam.ts';
import { accountOf } from './aws-keys.ts';
import { STS_ACTIONS } from './aws-sts.ts';
import type { AwsWorld } from './aws-world.ts';
import { beginWrite, callerName } from './aws-writes.ts';
import { AwsError, errorXml, resultXml, type XmlValue } from './aws-xml.ts';

export function queryExchange(world: AwsWorld, request: IncomingMessage, params: URLSearchParams): Exchange {
  const action = params.get('Action') ?? '';
  const protocol = action in STS_ACTIONS ? 'sts' : 'iam';
  const headers = { 'content-type': 'text/xml' };
  return {
    action,
    write:
      action === 'UpdateAssumeRolePolicy'
        ? beginWrite(world.writes, world.clock, request.headers, params, accountOf(world.keys, request.headers))
        : undefined,
    run: async (requestId) => {
      const result = await run(world, action, request, params);
      return { status: 200, headers, body: resultXml(protocol, action, result, requestId) };
    },
    named: (error) => error,
    failed: (error, requestId) => ({ status: error.status, headers, body: errorXml(protocol, error, requestId) }),
  };
}

async function run(
  world: AwsWorld,
  action: string,
  { headers }: IncomingMessage,
  params: URLSearchParams,
): Promise<XmlValue | undefined> {
  const sts = STS_ACTIONS[action];
  if (sts) {
    world.faults.check(action, '');
    return await sts(world, { headers, params });
  }
  const iam = IAM_ACTIONS[action];
  if (!iam) throw new AwsError('InvalidAction', `Could not find operation ${action}`);
  const caller = world.keys.authenticate(headers).principal;
  world.faults.check(action, caller.account);
  return iam(world, { account: caller.account, params, by: callerName(headers) });
}
