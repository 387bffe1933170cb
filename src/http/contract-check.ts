/** Owns the check of requests against openapi.yaml, the one source of what they may hold. */
import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { setImmediate as othersTurn } from 'node:timers/promises';
import express, { type Express, type Request, type RequestHandler, type Response } from 'express';
import { middleware as contractValidator } from 'express-openapi-validator';
import type { Contract } from './contract.ts';

export interface ContractCheck {
  check: RequestHandler;
  /** Compiles the check of each call, which takes a second in all: else the first requests would wait for it. */
  prepare(app: Express): Promise<void>;
}

export function createContractCheck(contract: Contract): ContractCheck {
  const validator = express.Router().use(
    contractValidator({
      apiSpec: contract.document as Parameters<typeof contractValidator>[0]['apiSpec'],
      // The contract is linted where it is changed.
      validateApiSpec: false,
      // All wrong fields are named at once: bodies that are larger than any valid one do not come this far.
      validateRequests: { coerceTypes: false, allowUnknownQueryParameters: false, allErrors: true },
      validateResponses: false,
      // Done before anything of a body is read.
      validateSecurity: false,
      fileUploader: false,
    }),
  );
  return {
    // A GET with no query has nothing in it to check.
    check: (req, res, next) => {
      if (req.method === 'GET' && !req.originalUrl.includes('?')) next();
      else validator(req, res, next);
    },
    prepare: async (app) => {
      for (const path of contract.paths()) {
        for (const [method, { maxBodyBytes }] of contract.at(path) ?? []) {
          const { req, res } = emptyRequest(app, method, path, maxBodyBytes > 0);
          await new Promise<void>((resolve) => void validator(req, res, () => resolve()));
          await othersTurn();
        }
      }
    },
  };
}

/** As it would be after `readBody`; nobody sent it, and nobody gets an answer. */
function emptyRequest(app: Express, method: string, path: string, hasBody: boolean): { req: Request; res: Response } {
  const req: Request = Object.setPrototypeOf(new IncomingMessage(new Socket()), app.request);
  Object.assign(req, { method, url: path, originalUrl: path, baseUrl: '', app });
  if (hasBody) Object.assign(req, { headers: { 'content-type': 'application/json' }, body: {} });
  const res: Response = Object.setPrototypeOf(new ServerResponse(req), app.response);
  return { req, res };
}
