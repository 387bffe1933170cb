/** Owns the choice of a free port for a program that needs the number before it starts. */
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

/** Below the range from which Linux (32768 on) and others assign ports, so no program that asks for any port gets one of these. */
const from = 20_000;
const below = 32_000;
const chosen = new Set<number>();

/** @returns a port of this machine on which no program listens; each call of this process returns another one. */
export async function freePort(): Promise<number> {
  for (let tried = 0; tried < 1000; tried++) {
    const port = randomInt(from, below);
    if (chosen.has(port) || !(await isFree(port))) continue;
    chosen.add(port);
    return port;
  }
  throw new Error(`no port between ${from} and ${below} is free`);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer().once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
