/** Proves which calls go through a forward proxy, for each form of entry in `NO_PROXY`. */
import assert from 'node:assert/strict';
import { type ProxyEnvironment, proxyFor, proxyProblems } from '../../src/lib/forward-proxy.ts';

const proxy = 'http://proxy.example:3128';
const sts = 'https://sts.us-west-2.amazonaws.com/';
const goesBy = (url: string, env: ProxyEnvironment) => proxyFor(url, env)?.host;

describe('the forward proxy', () => {
  it('is read from the variable of the scheme, in either case, and lower case takes precedence', () => {
    assert.equal(goesBy(sts, {}), undefined);
    assert.equal(goesBy(sts, { HTTPS_PROXY: proxy }), 'proxy.example:3128');
    assert.equal(goesBy(sts, { https_proxy: proxy, HTTPS_PROXY: 'http://other:1' }), 'proxy.example:3128');
    assert.equal(goesBy(sts, { https_proxy: '', HTTPS_PROXY: proxy }), 'proxy.example:3128');
    assert.equal(goesBy(sts, { HTTP_PROXY: proxy }), undefined);
    assert.equal(goesBy('http://sts.example:4566/', { HTTP_PROXY: proxy }), 'proxy.example:3128');
    assert.equal(goesBy(sts, { HTTPS_PROXY: 'proxy.example:3128' }), 'proxy.example:3128');
  });

  it('is not used for loopback addresses', () => {
    const both = { HTTPS_PROXY: proxy, HTTP_PROXY: proxy };
    for (const host of ['localhost', 'LOCALHOST', 'sts.localhost', '127.0.0.1', '127.8.9.1', '[::1]']) {
      assert.equal(goesBy(`http://${host}:4566/`, both), undefined, host);
      assert.equal(goesBy(`https://${host}/`, both), undefined, host);
    }
  });

  const cases: [entry: string, url: string, direct: boolean][] = [
    ['*', sts, true],
    ['amazonaws.com', sts, true],
    ['.amazonaws.com', sts, true],
    ['*.amazonaws.com', sts, true],
    ['AMAZONAWS.COM.', sts, true],
    ['sts.us-west-2.amazonaws.com', sts, true],
    ['zonaws.com', sts, false],
    ['sts.us-west-2', sts, false],
    ['amazonaws.com:443', sts, true],
    ['amazonaws.com:8443', sts, false],
    ['amazonaws.com:8443', 'https://sts.us-west-2.amazonaws.com:8443/', true],
    ['10.1.2.3', 'https://10.1.2.3/', true],
    ['10.1.2.3:443', 'https://10.1.2.3/', true],
    ['10.1.2.3:80', 'https://10.1.2.3/', false],
    ['10.0.0.0/8', 'https://10.1.2.3/', true],
    ['10.0.0.0/16', 'https://10.1.2.3/', false],
    ['10.0.0.0/99', 'https://10.1.2.3/', false],
    ['1.2.3', 'https://10.1.2.3/', false],
    ['fd00::/8', 'https://[fd00::1]/', true],
    ['fd00::1', 'https://[fd00::1]/', true],
    ['[fd00::1]:443', 'https://[fd00::1]/', true],
    ['[fd00::1]:80', 'https://[fd00::1]/', false],
    ['fe80::/16', 'https://[fd00::1]/', false],
    ['10.0.0.0/8', sts, false],
    ['', sts, false],
    ['.', sts, false],
  ];
  for (const [entry, url, direct] of cases) {
    it(`with NO_PROXY=${entry || "''"} calls to ${new URL(url).host} go ${direct ? 'directly' : 'by proxy'}`, () => {
      for (const list of [entry, `svc.cluster.local, ${entry}`, `169.254.169.254 ${entry},`]) {
        assert.equal(goesBy(url, { HTTPS_PROXY: proxy, NO_PROXY: list }) === undefined, direct, list);
        assert.equal(goesBy(url, { HTTPS_PROXY: proxy, no_proxy: list }) === undefined, direct, list);
      }
    });
  }

  it('is reported without its value when it is invalid', () => {
    assert.deepEqual(proxyProblems({ HTTPS_PROXY: 'http://u:p@proxy.example:3128', NO_PROXY: 'x' }), []);
    const [problem, more] = proxyProblems({ HTTPS_PROXY: 'socks5://u:hunter2@proxy.example:1080' });
    assert.match(problem ?? '', /^HTTPS_PROXY: expected the http\(s\) URL of a proxy/);
    assert.deepEqual([more, problem?.includes('hunter2')], [undefined, false]);
  });
});
