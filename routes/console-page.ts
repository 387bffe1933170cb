/** Owns `GET /console`: the console's page and its static files, which are public. The page gets its data by the API. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { type Response, Router } from 'express';
import { ApiError } from '../src/lib/errors.ts';
import { projectFile } from '../src/lib/project-file.ts';

interface PageFile {
  readonly type: string;
  readonly plain: Buffer;
  readonly zipped: Buffer;
  readonly etag: string;
}

const folder = 'dist/console';

export function consolePageRoutes(): Router {
  const files = readFiles();
  const router = Router({ strict: true });
  const send = (res: Response, name: string) => {
    const file = files.get(name);
    if (!file) throw new ApiError('not_found', `The console has no file ${name}, or was not built: npm run build.`);
    // The next release has the same file names, so a browser asks each time, and gets 304 where nothing has changed.
    res.set({ 'Cache-Control': 'no-cache', ETag: file.etag, Vary: 'Accept-Encoding' }).type(file.type);
    if (res.req.fresh) {
      res.status(304).end();
    } else if (res.req.acceptsEncodings('gzip') === 'gzip') {
      res.set('Content-Encoding', 'gzip').send(file.zipped);
    } else res.send(file.plain);
  };
  router.get('/console', (_req, res) => send(res, 'index.html'));
  // The page's links are relative: from /console/ the browser would look for its files and the API in the wrong place.
  router.get('/console/', (_req, res) => res.redirect('../console'));
  for (const name of files.keys()) router.get(`/console/${name}`, (_req, res) => send(res, name));
  return router;
}

/** Empty where the service runs from its sources and the console was not built. */
function readFiles(): Map<string, PageFile> {
  let path: string;
  try {
    path = projectFile(folder);
  } catch {
    return new Map();
  }
  return new Map(
    readdirSync(path).map((name) => {
      const plain = readFileSync(join(path, name));
      const etag = `"${createHash('sha256').update(plain).digest('base64url').slice(0, 22)}"`;
      const type = name.slice(name.lastIndexOf('.') + 1);
      return [name, { type, plain, zipped: gzipSync(plain, { level: 9 }), etag }];
    }),
  );
}
