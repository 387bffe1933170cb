/** Owns requests through a forward proxy: a CONNECT tunnel for https (RFC 9110 section 9.3.6), the whole URL for http. */
import type { RequestOptions } from 'node:http';
import type { Socket } from 'node:net';
import type { ConnectionOptions } from 'node:tls';
import { Broken, broken } from './broken.ts';
import { http, https } from './builtins.ts';

/** @param tls for a proxy that itself uses https. @throws Broken `proxy`, without a password. */
export function openTunnel(
  proxy: URL,
  target: URL,
  tls: ConnectionOptions | undefined,
  signal: AbortSignal,
): Promise<Socket> {
  const path = `${target.hostname}:${target.port || 443}`;
  const options = { ...towards(proxy), method: 'CONNECT', path, agent: false, signal };
  return new Promise((resolve, reject) => {
    const request =
      proxy.protocol === 'https:'
        ? https.request({ ...options, ...tls, headers: { ...headers(proxy), host: path } })
        : http.request({ ...options, headers: { ...headers(proxy), host: path } });
    request.on('connect', ({ statusCode }, socket) => {
      if (statusCode === 200) return resolve(socket);
      socket.destroy();
      reject(new Broken('proxy', `the proxy ${proxy.host} says HTTP ${statusCode}`));
    });
    request.on('error', (error) => reject(proxyBroken(proxy, error)));
    request.end();
  });
}

/** The options for a call without TLS through the proxy. */
export function throughProxy(proxy: URL, target: URL): RequestOptions {
  return { ...towards(proxy), path: target.href, headers: { ...headers(proxy), host: target.host } };
}

/** A refused certificate stays as it is, so that the caller can try other anchors. */
export function proxyBroken(proxy: URL, error: unknown): Broken {
  const known = broken(error);
  return known.kind === 'certificate' ? known : new Broken('proxy', `the proxy ${proxy.host}: ${known.code}`, error);
}

function towards({ protocol, hostname, port }: URL): RequestOptions {
  return { hostname: hostname.replace(/^\[|\]$/g, ''), port: port || (protocol === 'https:' ? 443 : 80) };
}

function headers({ username, password }: URL): Record<string, string> {
  if (username === '') return {};
  const pair = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return { 'proxy-authorization': `Basic ${Buffer.from(pair).toString('base64')}` };
}
