/** Owns the handling of calls to EKS and EKS Auth: finds the action of a REST path, applies faults, answers, and records writes. */
import type { IncomingMessage } from 'node:http';
import { EKS_ACTIONS } from './aws-eks.ts';
import { assumeRoleForPodIdentity } from './aws-eks-auth.ts';
import { jsonBody, type RestCall, restError } from './aws-eks-rest.ts';
import { beginEksWrite, type EksWrite } from './aws-eks-writes.ts';
import type { Exchange } from './aws-exchange.ts';
import { accountOf } from './aws-keys.ts';
import type { AwsWorld } from './aws-world.ts';
import { AwsError } from './aws-xml.ts';

export function restExchange(world: AwsWorld, request: IncomingMessage, call: RestCall, text: string): Exchange {
  const json = { 'content-type': 'application/json' };
  const write = /^(?:Create|Update|Delete)/.test(call.action) ? beginWrite(world, request, call, text) : undefined;
  return {
    action: call.action,
    write,
    run: async () => {
      const result = await run(world, request, call, text);
      const made = result.association as { associationId?: string } | undefined;
      if (write && made?.associationId) write.associationId = made.associationId;
      return { status: 200, headers: json, body: JSON.stringify(result) };
    },
    named: (error) => restError(call.service, error),
    failed: (error) => ({
      status: error.status,
      headers: { ...json, 'x-amzn-errortype': error.code },
      body: JSON.stringify({ message: error.message }),
    }),
  };
}

async function run(
  world: AwsWorld,
  { headers }: IncomingMessage,
  { action, cluster, associationId, query }: RestCall,
  text: string,
): Promise<Record<string, unknown>> {
  const known = action === 'AssumeRoleForPodIdentity' ? assumeRoleForPodIdentity : EKS_ACTIONS[action];
  if (!known) throw new AwsError('UnknownOperationException', 'No such operation', 404);
  const caller = world.keys.authenticate(headers).principal;
  world.faults.check(action, caller.account);
  return await known(world, { caller, cluster, associationId, query, body: jsonBody(text) });
}

function beginWrite(world: AwsWorld, { headers }: IncomingMessage, call: RestCall, text: string): EksWrite {
  const { action, cluster, associationId } = call;
  const body = readable(text);
  const { namespace = body.namespace, serviceAccount = body.serviceAccount } = world.eks.findId(associationId) ?? {};
  return beginEksWrite(world.eksWrites, world.clock, headers, {
    action,
    account: accountOf(world.keys, headers),
    cluster,
    namespace: typeof namespace === 'string' ? namespace : '',
    serviceAccount: typeof serviceAccount === 'string' ? serviceAccount : '',
    associationId,
    body,
  });
}

/** The record also has a body that the action will refuse, as an empty one. */
function readable(text: string): Record<string, unknown> {
  try {
    return jsonBody(text);
  } catch {
    return {};
  }
}
