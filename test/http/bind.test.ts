/** Proves that the service listens on IPv6 and IPv4 by default, and on IPv4 where the kernel has no IPv6. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { networkInterfaces } from 'node:os';
import { bind } from '../../src/http/bind.ts';
import { loadConfig } from '../../src/lib/config.ts';

const { host } = loadConfig({
  OIDC_PROVIDER: 'oidc.eks.us-west-2.amazonaws.com/id/A',
  DOMINO_ISSUER: 'https://domino.acme.example/auth/realms/DominoRealm',
  AWS_REGION: 'us-west-2',
});

const hasIpv6 = () =>
  Object.values(networkInterfaces()).some((found) => found?.some(({ address }) => address === '::1'));

describe('the address that the service listens on', () => {
  it('is every IPv4 and IPv6 address by default, as an IPv6 cluster needs', async function () {
    if (!hasIpv6()) {
      process.stdout.write('SKIPPED, listening on both families: this machine has no ::1\n');
      this.skip();
    }
    const server = createServer((_request, response) => void response.end('ok'));
    const { port } = await bind(server, { host, port: 0 });
    try {
      for (const address of ['127.0.0.1', '[::1]']) {
        assert.equal(await (await fetch(`http://${address}:${port}/`)).text(), 'ok', address);
      }
    } finally {
      server.close();
    }
  });

  for (const code of ['EAFNOSUPPORT', 'EADDRNOTAVAIL', 'EINVAL']) {
    it(`is 0.0.0.0 where the kernel answers ${code}`, async () => {
      const kernel = new Kernel(code);
      assert.equal((await bind(kernel, { host, port: 7 })).address, '0.0.0.0');
      assert.deepEqual(kernel.tried, ['::', '0.0.0.0']);
      assert.equal(kernel.listenerCount('error'), 0, 'no error listener is left that would hide a later error');
    });
  }

  it('does not fall back to 0.0.0.0 where the port is taken, or where the operator chose the address', async () => {
    const taken = new Kernel('EADDRINUSE');
    await assert.rejects(bind(taken, { host, port: 7 }), { code: 'EADDRINUSE' });
    const chosen = new Kernel('EADDRNOTAVAIL');
    await assert.rejects(bind(chosen, { host: 'fd00::1', port: 7 }), { code: 'EADDRNOTAVAIL' });
    assert.deepEqual([taken.tried, chosen.tried], [['::'], ['fd00::1']]);
  });
});

/** A server on a kernel that refuses every address but 0.0.0.0 with one code. */
class Kernel extends EventEmitter {
  readonly tried: string[] = [];
  readonly #code: string;

  constructor(code: string) {
    super();
    this.#code = code;
  }

  listen(...[, host, taken]: [number, string, () => void]): this {
    this.tried.push(host);
    if (host === '0.0.0.0') setImmediate(taken);
    else setImmediate(() => this.emit('error', Object.assign(new Error(this.#code), { code: this.#code })));
    return this;
  }

  address(): AddressInfo {
    return { address: this.tried.at(-1) ?? '', family: 'IPv4', port: 7 };
  }
}
