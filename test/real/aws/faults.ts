/** Owns the faults that calls of IAM meet on their way to an emulator: refusals, broken answers, and answers that come late. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Exchange, Fault } from './faulty-way.ts';

interface Kind {
  readonly fault: Fault;
  readonly actions: readonly string[];
}

const read = 'GetRole';
const write = 'UpdateAssumeRolePolicy';
const both = [read, write];

/** As IAM says it: https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html */
function refusal(status: number, code: string, message: string): Fault {
  const type = status < 500 ? 'Sender' : 'Receiver';
  const error = `<Error><Type>${type}</Type><Code>${code}</Code><Message>${message}</Message></Error>`;
  const space = 'https://iam.amazonaws.com/doc/2010-05-08/';
  const body = `<ErrorResponse xmlns="${space}">${error}<RequestId>0</RequestId></ErrorResponse>`;
  return ({ send }) => send({ status, body });
}

async function slowly({ send, forward }: Exchange): Promise<void> {
  const answer = await forward();
  await delay(1_500);
  send(answer);
}

export const faults: Readonly<Record<string, Kind>> = {
  Throttling: { actions: both, fault: refusal(400, 'Throttling', 'Rate exceeded') },
  ServiceFailure: { actions: both, fault: refusal(500, 'ServiceFailure', 'The request processing has failed') },
  InternalFailure: { actions: both, fault: refusal(500, 'InternalFailure', 'An unknown error') },
  ServiceUnavailable: { actions: both, fault: refusal(503, 'ServiceUnavailable', 'A temporary failure') },
  ExpiredToken: { actions: both, fault: refusal(403, 'ExpiredToken', 'The security token is expired') },
  InvalidClientTokenId: { actions: both, fault: refusal(403, 'InvalidClientTokenId', 'The token is invalid') },
  SignatureDoesNotMatch: { actions: both, fault: refusal(403, 'SignatureDoesNotMatch', 'Signature expired') },
  AccessDenied: { actions: both, fault: refusal(403, 'AccessDenied', 'User is not authorized to perform this') },
  'a role that is reported missing': {
    actions: [read],
    fault: refusal(404, 'NoSuchEntity', 'The role cannot be found.'),
  },
  ConcurrentModification: { actions: [write], fault: refusal(409, 'ConcurrentModification', 'Another change') },
  UnmodifiableEntity: { actions: [write], fault: refusal(400, 'UnmodifiableEntity', 'Cannot be changed now') },
  MalformedPolicyDocument: { actions: [write], fault: refusal(400, 'MalformedPolicyDocument', 'Invalid principal') },
  'a 502 page of a proxy': {
    actions: both,
    fault: ({ send }) =>
      send({ status: 502, body: '<html>Bad Gateway</html>', headers: { 'content-type': 'text/html' } }),
  },
  'an empty 504': { actions: both, fault: ({ send }) => send({ status: 504, body: '' }) },
  'a 200 without XML': { actions: [read], fault: ({ send }) => send({ status: 200, body: 'all is well' }) },
  'a 200 without a body': { actions: [read], fault: ({ send }) => send({ status: 200, body: '' }) },
  'a connection that breaks': { actions: both, fault: ({ drop }) => drop() },
  'a lost answer': {
    actions: both,
    fault: async ({ forward, drop }) => {
      await forward();
      drop();
    },
  },
  'half an answer': { actions: both, fault: async ({ forward, sendHalf }) => sendHalf(await forward()) },
  'a late answer': { actions: both, fault: slowly },
  'an answer that never comes': { actions: both, fault: () => undefined },
  'stale reads': {
    actions: [read],
    fault: async ({ before, forward, send }) => send(before ?? (await forward())),
  },
};
