/** Owns a TCP relay in front of a stand-in. Its connections can go silent: they are neither answered nor closed. */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export interface TcpGate {
  readonly port: number;
  /** How many connections were opened since the start. */
  readonly opened: number;
  /**
   * Makes the open connections silent permanently, as when a router has forgotten them.
   * @param newOnesToo until `speak`.
   */
  silence(newOnesToo: boolean): void;
  /** New connections work again. */
  speak(): void;
  close(): Promise<void>;
}

/** @param target the port on loopback that connections lead to. */
export async function startTcpGate(target: number, port = 0): Promise<TcpGate> {
  const silencers = new Map<Socket, () => void>();
  let opened = 0;
  let isSilent = false;

  const server = createServer({ allowHalfOpen: false }, (outer) => {
    opened += 1;
    outer.on('error', () => undefined);
    outer.once('close', () => silencers.delete(outer));
    if (isSilent) {
      silencers.set(outer, () => undefined);
      return;
    }
    const inner = connect(target, '127.0.0.1');
    outer.setNoDelay(true);
    inner.setNoDelay(true);
    outer.pipe(inner).pipe(outer);
    const closeOuter = () => outer.destroy();
    inner.on('error', closeOuter);
    inner.once('close', closeOuter);
    outer.once('close', () => inner.destroy());
    silencers.set(outer, () => {
      inner
        .off('error', closeOuter)
        .off('close', closeOuter)
        .on('error', () => undefined);
      inner.unpipe(outer).resume();
      outer.unpipe(inner).pause();
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });

  return {
    port: (server.address() as AddressInfo).port,
    get opened() {
      return opened;
    },
    silence: (newOnesToo) => {
      isSilent = newOnesToo;
      for (const silence of silencers.values()) silence();
    },
    speak: () => {
      isSilent = false;
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of silencers.keys()) socket.destroy();
      }),
  };
}
