/** Owns the check of requests against openapi.yaml, the only definition of what they may contain. */
import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { setImmediate as othersTurn } from 'node:timers/promises';
import express, { type Express, type Request, type RequestHandler, type Response } from 'express';
import { middleware as contractValidator } from 'express-openapi-validator';
import type { Contract } from './contract.ts';

export interface ContractCheck {
  check: RequestHandler;
  /**
   * Compiles the checks of the calls with a body that every user may make: otherwise the first requests would wait for it, half a
   * second each. The check of an administrator's call takes 20 ms once the first one is compiled.
   */
  prepare(app: Express): Promise<void>;
}

export function createContractCheck(contract: Contract): ContractCheck {
  const validator = express.Router().use(
    contractValidator({
      apiSpec: contract.document as Parameters<typeof contractValidator>[0]['apiSpec'],
      // `npm run lint:contract` checks the contract itself.
      validateApiSpec: false,
      // Reports all wrong fields at once. `readBody` has refused bodies larger than any valid one.
      validateRequests: { coerceTypes: false, allowUnknownQueryParameters: false, allErrors: true },
      validateResponses: false,
      // `authenticate` and `authorize` do this before the body is read.
      validateSecurity: false,
      fileUploader: false,
    }),
  );
  return {
    // A GET without a query contains nothing to check.
    check: (req, res, next) => {
      if (req.method === 'GET' && !req.originalUrl.includes('?')) next();
      else validator(req, res, next);
    },
    prepare: async (app) => {
      for (const [path, calls] of contract.calls) {
        for (const [method, { adminOnly, maxBodyBytes }] of calls) {
          if (adminOnly || maxBodyBytes === 0) continue;
          const { req, res } = emptyRequest(app, method, path);
          await new Promise<void>((resolve) => void validator(req, res, () => resolve()));
          await othersTurn();
        }
      }
    },
  };
}

/** A made-up request as it would be after `readBody`; its answer goes nowhere. */
function emptyRequest(app: Express, method: string, path: string): { req: Request; res: Response } {
  const req: Request = Object.setPrototypeOf(new IncomingMessage(new Socket()), app.request);
  const headers = { 'content-type': 'application/json' };
  Object.assign(req, { method, url: path, originalUrl: path, baseUrl: '', app, headers, body: {} });
  const res: Response = Object.setPrototypeOf(new ServerResponse(req), app.response);
  return { req, res };
}
