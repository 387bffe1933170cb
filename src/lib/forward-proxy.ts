/**
 * Owns the choice of forward proxy for a call to AWS: it reads `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` as curl and
 * Go do. Calls inside the cluster and in the pod do not use it.
 */
const net = process.getBuiltinModule('node:net');

export type ProxyEnvironment = Readonly<Record<string, string | undefined>>;

/** The settings of forward proxies in an environment, and nothing else of it. */
export function proxyEnvironment(env: ProxyEnvironment): ProxyEnvironment {
  return Object.fromEntries(Object.entries(env).filter(([name]) => /^(https?|no)_proxy$/i.test(name)));
}

/**
 * @param env a lower-case name takes precedence over its upper-case form, as with curl and Node.
 * @returns the proxy for this URL; undefined where the call goes direct. Its `username` and `password` are secrets.
 */
export function proxyFor(url: string | URL, env: ProxyEnvironment): URL | undefined {
  const { protocol, hostname, port } = new URL(url);
  const text = read(env, protocol === 'https:' ? 'https_proxy' : 'http_proxy');
  if (text === undefined || isLoopback(hostname)) return undefined;
  const target = { host: plainHost(hostname), port: port || (protocol === 'https:' ? '443' : '80') };
  const direct = (read(env, 'no_proxy') ?? '').split(/[\s,]+/).some((entry) => matches(entry, target));
  return direct ? undefined : parseProxy(text);
}

/** @returns a problem for each setting that is not a usable proxy, without its value, which may contain a password. */
export function proxyProblems(env: ProxyEnvironment): string[] {
  return ['https_proxy', 'http_proxy'].flatMap((name) => {
    const text = read(env, name);
    if (text === undefined || parseProxy(text)) return [];
    return [`${name.toUpperCase()}: expected the http(s) URL of a proxy: http://proxy.example:3128`];
  });
}

function read(env: ProxyEnvironment, name: string): string | undefined {
  return env[name]?.trim() || env[name.toUpperCase()]?.trim() || undefined;
}

/** Without a scheme, `proxy.example:3128` means http, as in curl. */
function parseProxy(text: string): URL | undefined {
  const url = /^[a-z][a-z\d+.-]*:\/\//i.test(text) ? text : `http://${text}`;
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  return parsed && /^https?:$/.test(parsed.protocol) ? parsed : undefined;
}

/** Whether an entry of `NO_PROXY` matches: `*`, a host and its subdomains, an address or a CIDR; it may have a port. */
function matches(entry: string, { host, port }: { host: string; port: string }): boolean {
  if (entry === '*') return true;
  const [, bracketed, name = '', wantedPort] = /^(?:\[([^\]]+)\]|([^:]*|.*:.*:.*?))(?::(\d+))?$/.exec(entry) ?? [];
  const wanted = plainHost(bracketed ?? name).replace(/^\*?\./, '');
  if (wanted === '' || (wantedPort !== undefined && wantedPort !== port)) return false;
  if (net.isIP(host) > 0) return holds(wanted, host);
  return host === wanted || host.endsWith(`.${wanted}`);
}

/** Whether an address or a CIDR contains an address. Names are not resolved. */
function holds(wanted: string, address: string): boolean {
  const [network = '', bits] = wanted.split('/');
  const family = net.isIP(network);
  const length = bits === undefined ? undefined : Number(bits);
  if (family === 0 || (length !== undefined && !(length <= (family === 4 ? 32 : 128)))) return false;
  const list = new net.BlockList();
  const type = family === 4 ? 'ipv4' : 'ipv6';
  if (length === undefined) list.addAddress(network, type);
  else list.addSubnet(network, length, type);
  return list.check(address, net.isIP(address) === 4 ? 'ipv4' : 'ipv6');
}

function isLoopback(hostname: string): boolean {
  return /^(localhost|.+\.localhost|127(\.\d+){3}|\[::1\])\.?$/.test(hostname);
}

/** The host without the brackets of IPv6 and without a final dot. */
function plainHost(host: string): string {
  return host
    .toLowerCase()
    .replace(/^\[(.*)\]$/, '$1')
    .replace(/\.$/, '');
}
