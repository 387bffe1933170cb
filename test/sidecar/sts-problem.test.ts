/** Proves that each refusal of STS gets a code of its own by its code and message, in one line. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Hop, refusedBySts } from '../../src/sidecar/sts-problem.ts';

const xml = (code: string, message: string) =>
  `<ErrorResponse><Error><Type>Sender</Type><Code>${code}</Code><Message>${message}</Message></Error></ErrorResponse>`;
const told = (hop: Hop, code: string, message: string, status = 400) => refusedBySts(hop, status, xml(code, message));

describe("STS's refusals", () => {
  const invalid = 'InvalidIdentityToken';
  const denied =
    'User: arn:aws:sts::1:assumed-role/p/alice is not authorized to perform: sts:AssumeRole on resource: r';
  const cases: [hop: Hop, code: string, message: string, problem: string][] = [
    ['source', invalid, 'Incorrect token audience', 'token_audience'],
    [
      'source',
      invalid,
      "OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint",
      'provider_thumbprint',
    ],
    [
      'source',
      invalid,
      'OpenIDConnect provider&apos;s HTTPS certificate doesn&#39;t match configured thumbprint',
      'provider_thumbprint',
    ],
    [
      'source',
      invalid,
      "Couldn't retrieve verification key from your identity provider, please reference documentation for requirements",
      'provider_keys_unreachable',
    ],
    ['source', invalid, 'The ID Token provided is not a valid JWT.', 'token_damaged'],
    ['source', invalid, 'No OpenIDConnect provider found in your account for https://...', 'provider_missing'],
    ['source', invalid, 'Token is expired', 'token_expired'],
    ['source', invalid, 'Something new', 'token_not_accepted'],
    ['source', 'ExpiredTokenException', 'Token expired: current date/time 1', 'token_expired'],
    ['source', 'IDPCommunicationError', 'Error contacting the IDP', 'provider_keys_unreachable'],
    ['source', 'AccessDenied', 'Not authorized to perform sts:AssumeRoleWithWebIdentity', 'source_refused'],
    ['target', 'AccessDenied', denied, 'target_refused'],
    [
      'target',
      'AccessDenied',
      `${denied} because no identity-based policy allows the sts:AssumeRole action`,
      'target_not_allowed',
    ],
    ['target', 'AccessDenied', `${denied} with an explicit deny in a service control policy`, 'target_denied'],
    ['target', 'SignatureDoesNotMatch', 'Signature expired: 20261128T1 is now earlier than 2', 'clock_wrong'],
    ['target', 'RegionDisabledException', 'STS is not activated in this region', 'region_disabled'],
    ['source', 'Throttling', 'Rate exceeded', 'sts_throttled'],
    ['source', 'ValidationError', 'role is invalid', 'sts_refused'],
  ];
  for (const [hop, code, message, problem] of cases) {
    it(`${code} at the ${hop} hop, ${message.slice(0, 60)}: ${problem}`, () => {
      const found = told(hop, code, message);
      assert.deepEqual([found.hop, found.code], [hop, problem]);
      const plain = message.replace(/&apos;|&#39;/g, "'");
      assert.ok(found.text.endsWith(`(${code}: ${plain})`), found.text);
      assert.ok(found.advice.length > 15);
    });
  }

  it('have a distinct sentence for each code', () => {
    const texts = cases.map(([hop, code, message]) => [told(hop, code, message)].map(({ code: c, text }) => [c, text]));
    const words = new Map(texts.flat().map(([code = '', text = '']) => [code, text.split(' (')[0]]));
    assert.equal(new Set(words.values()).size, words.size);
  });

  it('are one line of limited length, without tokens', () => {
    const token = `eyJhbGciOiJSUzI1NiJ9.${'x'.repeat(200)}.y`;
    const long = told('source', invalid, `one\ntwo\u001b[31m ${token} ${'z'.repeat(5_000)}`);
    assert.match(long.text, /^[\x20-\x7e]{20,400}$/);
    assert.ok(!long.text.includes('eyJ'));
    assert.match(told('source', invalid, `bad ${token}`).text, /bad \(token\)\)$/);
  });

  it('are listed in docs/sidecar.md, exactly', () => {
    const root = join(import.meta.dirname, '..', '..');
    const source = readFileSync(join(root, 'src/sidecar/sts-problem.ts'), 'utf8');
    const [, words = ''] = /const words = \{\n([\s\S]*?)\n\} as const/.exec(source) ?? [];
    const codes = [...words.matchAll(/^ {2}(\w+): \[/gm)].map(([, code]) => code);
    assert.ok(codes.length > 20);
    const page = readFileSync(join(root, 'docs/sidecar.md'), 'utf8');
    const [, section = ''] = /### What AWS refuses\n([\s\S]*?)\n##/.exec(page) ?? [];
    const cells = [...section.matchAll(/^\| (?:`\w+`|both) \| ([^|]+) \|/gm)].map(([, cell = '']) => cell).join();
    const told = [...cells.matchAll(/`(\w+)`/g)].map(([, code]) => code);
    assert.deepEqual(told.sort(), codes.sort());
  });

  it('without a code are classified by the HTTP status', () => {
    assert.equal(refusedBySts('source', 500, 'no XML').code, 'sts_failed');
    assert.equal(refusedBySts('source', 404, '<html>').code, 'sts_odd_answer');
    assert.match(refusedBySts('source', 404, '<html>').text, /\(HTTP 404\)$/);
  });
});
