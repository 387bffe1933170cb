/** Owns how a server takes its address: both families of IP addresses, where the kernel has both. */
import type { EventEmitter } from 'node:events';
import type { AddressInfo } from 'node:net';

export interface Address {
  host: string;
  port: number;
}

/** What a server of node's can do, as far as this needs it. */
interface Listener extends EventEmitter {
  listen(port: number, host: string, taken: () => void): unknown;
  address(): AddressInfo | string | null;
}

/** What a kernel says that has no IPv6. */
const withoutIpv6: readonly (string | undefined)[] = ['EAFNOSUPPORT', 'EADDRNOTAVAIL', 'EINVAL'];

/**
 * Listens. The address `::` takes IPv4's connections as well (libuv clears IPV6_V6ONLY); where the kernel has no IPv6, it
 * stands for `0.0.0.0`.
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
