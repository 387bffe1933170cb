/** Owns how a server binds its address: IPv4 and IPv6, where the kernel has both. */
import type { EventEmitter } from 'node:events';
import type { AddressInfo } from 'node:net';

export interface Address {
  host: string;
  port: number;
}

/** The part of a Node server that `bind` needs. */
interface Listener extends EventEmitter {
  listen(port: number, host: string, taken: () => void): unknown;
  address(): AddressInfo | string | null;
}

/** The errors of a kernel without IPv6. */
const withoutIpv6: readonly (string | undefined)[] = ['EAFNOSUPPORT', 'EADDRNOTAVAIL', 'EINVAL'];

/**
 * Listens. The address `::` accepts IPv4 connections too (libuv clears IPV6_V6ONLY). Where the kernel has no IPv6,
 * `0.0.0.0` takes its place.
 * @returns the address that it listens on.
 * @throws where the address cannot be used.
 */
export async function bind(server: Listener, at: Address) {
  try {
    return await bound(server, at);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (at.host !== '::' || !withoutIpv6.includes(code)) throw error;
    return await bound(server, { ...at, host: '0.0.0.0' });
  }
}

function bound(server: Listener, { host, port }: Address): Promise<AddressInfo> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve(server.address() as AddressInfo);
    });
  });
}
