/** Owns the orders of other processes to the Kubernetes stand-in, under /__stack/: knobs never delay or fail them. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { KubernetesStandIn } from './kubernetes.ts';
import { sendJson } from './kubernetes-api.ts';
import type { Knobs } from './kubernetes-knobs.ts';
import { StatusError } from './kubernetes-status.ts';
import { readBody } from './server.ts';

type Ordered = Pick<KubernetesStandIn, 'knobs' | 'calls' | 'cutWatches' | 'expire' | 'openWatches'>;

/** Carries out one order. Throws 400 for an unknown knob and 404 for an unknown order. */
export async function answerOrder(
  standIn: Ordered,
  turnKnobs: (wanted: Partial<Knobs>) => void,
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  switch (`${request.method} ${path}`) {
    case 'GET /__stack/knobs':
      break;
    case 'POST /__stack/knobs': {
      const text = await readBody(request);
      try {
        turnKnobs(JSON.parse(text || '{}') as Partial<Knobs>);
      } catch (error) {
        throw new StatusError(400, String(error));
      }
      break;
    }
    case 'POST /__stack/cut-watches':
      standIn.cutWatches();
      break;
    case 'POST /__stack/expire':
      standIn.expire();
      break;
    case 'GET /__stack/calls':
      return sendJson(response, 200, Object.fromEntries(standIn.calls));
    case 'DELETE /__stack/calls':
      standIn.calls.clear();
      return sendJson(response, 200, {});
    case 'GET /__stack/watches':
      return sendJson(response, 200, { open: standIn.openWatches() });
    default:
      throw new StatusError(404, `no ${request.method} ${path}`);
  }
  sendJson(response, 200, standIn.knobs);
}
