/** Proves the proof: the sidecar calls STS until it succeeds or a minute has passed, and reports problems. */
import assert from 'node:assert/strict';
import { parseConfig } from '../../src/sidecar/profiles.ts';
import { type Proof, prove } from '../../src/sidecar/proof.ts';
import { podToken, stsEndpoint } from '../../src/sidecar/sts.ts';
import { type AwsStandIn, startAws } from '../stack/aws.ts';
import { type ClusterIssuer, createIssuer } from '../stack/issuer.ts';
import { FakeClock, until } from '../support/clock.ts';
import { clusterAccount, proxyTrust, targetTrust } from '../support/roles.ts';
import {
  account,
  configText,
  type Pod,
  problem,
  runId,
  type Scripted,
  sessionXml,
  startPod,
  startScripted,
  tokenFile,
} from './support.ts';

/** Distinguishes waits from deadlines of calls: while a call is under way, the test awaits its answer. */
class CallClock extends FakeClock {
  calls = 0;

  override async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    const deadline = ms === 5_000 || ms === 60_000 ? 1 : 0;
    this.calls += deadline;
    await super.sleep(ms, signal);
    this.calls -= deadline;
  }
}

describe('the proof', () => {
  let pod: Pod;
  let aws: AwsStandIn;
  let issuer: ClusterIssuer;
  let clock: CallClock;
  let sts: Scripted | undefined;

  beforeEach(async () => {
    clock = new CallClock();
    pod = await startPod(undefined, clock);
    aws = await startAws({ clock });
    issuer = await createIssuer();
    aws.trustIssuer(issuer.issuer, issuer.jwks);
    aws.addRole({ name: 'acme-read', trust: trust('run-nobody') });
    aws.addRole({ account: '222222222222', name: 'acme-read', trust: trustOfTarget('acme-read') });
    await putToken();
  });
  afterEach(async () => {
    await Promise.all([pod.stop(), aws.close(), sts?.close()]);
    sts = undefined;
  });

  const putToken = async (more = {}) =>
    pod.put('token', `${await issuer.podToken({ serviceAccount: account, now: clock.now(), ...more })}\n`);
  const trust = (subject: string) => proxyTrust(issuer.issuer, `*:domino-compute:${subject}`);
  const trustOfTarget = (proxy: string) => targetTrust(`arn:aws:iam::${clusterAccount}:role/${proxy}`);
  /** Admits the run with a write like the service's, which takes time to propagate. */
  const letIn = () => aws.setTrust('111111111111', 'acme-read', trust(account));
  const tries = () => aws.calls.AssumeRoleWithWebIdentity ?? 0;
  const targetTries = () => aws.calls.AssumeRole ?? 0;

  function proveIt(endpoint: string | undefined = aws.url, text = configText(['acme-read'])): Promise<Proof[]> {
    const signal = new AbortController().signal;
    const options = {
      webIdentity: podToken(tokenFile),
      region: undefined,
      endpoint,
      proxyEnv: {},
      clock,
      random: () => 1,
      signal,
    };
    return prove(parseConfig(text), options);
  }

  /** Advances the clock in small steps while no call is under way, until `over`. */
  async function pass(over: () => boolean): Promise<void> {
    while (!over()) {
      await until(() => over() || (clock.calls === 0 && clock.sleeping > 0));
      if (!over()) await clock.advance(100);
    }
  }

  async function passing<T>(proof: Promise<T>): Promise<T> {
    let over = false;
    void proof.finally(() => {
      over = true;
    });
    await pass(() => over);
    return proof;
  }

  it('succeeds on the first try when IAM is consistent at once', async () => {
    letIn();
    assert.deepEqual(await proveIt(), [{ profile: 'acme-read', seconds: 0, tries: 2, problem: undefined }]);
    assert.deepEqual([tries(), targetTries()], [1, 1]);
  });

  it('waits while IAM propagates the change, and reports how long that took', async () => {
    aws.knobs.propagationMs = 7_000;
    letIn();
    const [proof] = await passing(proveIt());
    assert.equal(proof?.problem, undefined);
    assert.ok((proof?.tries ?? 0) > 2);
    assert.ok((proof?.seconds ?? 0) >= 7 && (proof?.seconds ?? 0) <= 11, String(proof?.seconds));
  });

  it('gives up after a minute with source_refused and a message', async () => {
    const [proof] = await passing(proveIt());
    assert.deepEqual([proof?.problem?.hop, proof?.problem?.code], ['source', 'source_refused']);
    assert.match(proof?.problem?.text ?? '', /trust policy does not let this run in \(yet\).*\(AccessDenied: Not auth/);
    assert.ok((proof?.seconds ?? 0) >= 60 && (proof?.seconds ?? 0) < 66, String(proof?.seconds));
    // One try after 0.2, 0.4, 0.8, 1.6 s and each 3 s after that.
    assert.ok(tries() <= 26, String(tries()));
  });

  it('reads the pod’s token again for each try', async () => {
    letIn();
    await putToken({ expiresInSeconds: -10 });
    const proof = proveIt();
    await until(() => tries() === 1);
    await putToken();
    const [proved] = await passing(proof);
    assert.deepEqual([proved?.problem, (proved?.tries ?? 0) > 1], [undefined, true]);
  });

  it('retries after throttling, failures and a lost answer of STS', async () => {
    letIn();
    aws.knobs.throttleNext = { AssumeRoleWithWebIdentity: 2 };
    aws.knobs.failNext = { AssumeRoleWithWebIdentity: { code: 'ServiceUnavailable', times: 1 } };
    aws.knobs.loseAnswerNext = { AssumeRoleWithWebIdentity: 1 };
    const [proof] = await passing(proveIt());
    // The first try fails, and its answer is lost as well.
    assert.deepEqual([proof?.problem, proof?.tries], [undefined, 5]);
  });

  it('reports problems other than the trust policy: audience, STS failing or unreachable, no token', async () => {
    const told = async (endpoint?: string) => {
      const problem = (await passing(proveIt(endpoint)))[0]?.problem;
      return `${problem?.hop} ${problem?.code}: ${problem?.text}`;
    };
    aws.trustIssuer(issuer.issuer, issuer.jwks, { accounts: ['111111111111'], clientIds: ['somebody-else'] });
    assert.match(await told(), /^source token_audience: .*\(InvalidIdentityToken: Incorrect token audience\)$/);
    sts = await startScripted({ status: 500, text: 'no XML' });
    assert.match(await told(sts.url), /^source sts_failed: .*\(HTTP 500\)/);
    sts.always = 'cut';
    assert.match(
      await told(sts.url),
      /^source sts_unreachable: STS cannot be reached \(127\.0\.0\.1:\d+: ECONNRESET\)/,
    );
    pod.put('token', '\n');
    assert.match(await told(), /^source no_token: there is no web identity token \(\//);
  });

  describe('at the second hop', () => {
    const target = (document: object) => aws.setTrust('222222222222', 'acme-read', document);
    const refusals: [what: string, does: () => void][] = [
      ['that does not trust the proxy role', () => target(trustOfTarget('another'))],
      ['that does not exist', () => aws.removeRole('222222222222', 'acme-read')],
    ];
    for (const [what, does] of refusals) {
      it(`fails with target_refused for a role ${what}`, async () => {
        letIn();
        does();
        const [proof] = await passing(proveIt());
        assert.deepEqual([proof?.problem?.hop, proof?.problem?.code], ['target', 'target_refused']);
        assert.match(
          proof?.problem?.text ?? '',
          /does not exist, does not trust.*not authorized to perform: sts:Assume/,
        );
        assert.match(proof?.problem?.advice ?? '', /trust policy/);
        // All tries of the second hop use the first session.
        assert.deepEqual([tries(), targetTries() > 10, targetTries() <= 26], [1, true, true]);
      });
    }

    it('waits while IAM propagates the target role’s trust policy', async () => {
      letIn();
      target(trustOfTarget('another'));
      const proof = proveIt();
      await until(() => targetTries() === 1);
      target(trustOfTarget('acme-read'));
      const [proved] = await passing(proof);
      assert.deepEqual([proved?.problem, (proved?.tries ?? 0) > 2], [undefined, true]);
    });

    it('makes no call for a role that the run assumes directly with the pod’s token', async () => {
      letIn();
      const [, direct = ''] = configText(['acme-read']).split(/(?=\[profile src_)/);
      assert.deepEqual(await proveIt(aws.url, direct), [
        { profile: 'src_acme-read', seconds: 0, tries: 1, problem: undefined },
      ]);
      assert.equal(targetTries(), 0);
    });

    it('makes no call without a session of the first hop, and reports an unexpected answer', async () => {
      sts = await startScripted({ text: '<html>Sign in</html>' });
      const [proof] = await passing(proveIt(sts.url));
      assert.deepEqual([proof?.problem?.hop, proof?.problem?.code], ['source', 'sts_odd_answer']);
      assert.ok(sts.asked.every(({ authorization }) => authorization === undefined));
    });
  });

  it('refuses an answer of more than 64 KB', async () => {
    sts = await startScripted({ text: `${sessionXml}${' '.repeat(500_000)}` });
    const [proof] = await passing(proveIt(sts.url));
    assert.match(proof?.problem?.text ?? '', /more than 65536 bytes/);
  });

  it('makes at most eight calls at once for many profiles', async () => {
    sts = await startScripted('hang');
    const names = Array.from({ length: 20 }, (_, index) => `role-${index}`);
    const proof = proveIt(sts.url, configText(names));
    await until(() => sts?.asked.length === 8);
    assert.equal(clock.calls, 8);
    sts.always = { text: sessionXml };
    await clock.advance(5_000);
    assert.deepEqual(
      (await passing(proof)).map(({ problem }) => problem),
      names.map(() => undefined),
    );
  });

  it('calls the regional STS of the partition', () => {
    const arn = (partition: string) => `arn:${partition}:iam::111111111111:role/acme-read`;
    assert.equal(stsEndpoint(arn('aws'), 'us-west-2'), 'https://sts.us-west-2.amazonaws.com/');
    assert.equal(stsEndpoint(arn('aws-us-gov'), 'us-gov-west-1'), 'https://sts.us-gov-west-1.amazonaws.com/');
    assert.equal(stsEndpoint(arn('aws-cn'), 'cn-north-1'), 'https://sts.cn-north-1.amazonaws.com.cn/');
    assert.equal(stsEndpoint(arn('aws-eusc'), 'eusc-de-east-1'), 'https://sts.eusc-de-east-1.amazonaws.eu/');
    assert.equal(stsEndpoint(arn('aws'), undefined), undefined);
  });

  it('signs the second hop only, and requests the shortest sessions', async () => {
    sts = await startScripted({ text: sessionXml });
    await proveIt(sts.url);
    const [asked, second] = sts.asked;
    assert.deepEqual([asked?.method, asked?.authorization], ['POST', undefined]);
    const { WebIdentityToken: token, ...form } = Object.fromEntries(new URLSearchParams(asked?.body));
    assert.deepEqual(form, {
      Action: 'AssumeRoleWithWebIdentity',
      Version: '2011-06-15',
      RoleArn: 'arn:aws:iam::111111111111:role/acme-read',
      RoleSessionName: `alice-${runId}`,
      DurationSeconds: '900',
    });
    assert.match(token ?? '', /^[\w-]+\.[\w-]+\.[\w-]+$/);
    assert.deepEqual(Object.fromEntries(new URLSearchParams(second?.body)), {
      Action: 'AssumeRole',
      Version: '2011-06-15',
      RoleArn: 'arn:aws:iam::222222222222:role/acme-read',
      RoleSessionName: `alice-${runId}`,
      DurationSeconds: '900',
    });
    assert.match(second?.authorization ?? '', /^AWS4-HMAC-SHA256 Credential=ASIAEXAMPLE\/\d{8}\/us-west-2\/sts\//);
  });

  describe('in a round', () => {
    const settings = () => ({ IRSA_PROVE: 'true', IRSA_RECHECK_SECONDS: '0', AWS_ENDPOINT_URL_STS: aws.url });

    it('makes the sidecar ready, with its duration in /status, and no credentials in status or log', async () => {
      aws.knobs.propagationMs = 1_000;
      letIn();
      const sidecar = await pod.start(settings());
      await until(() => tries() === 1);
      assert.equal(sidecar.status().state, 'starting');
      assert.equal((await fetch(`${sidecar.url}/readyz`)).status, 503);
      await pass(() => sidecar.status().state === 'ready');
      const [profile] = sidecar.status().profiles;
      assert.equal(profile?.proved, true);
      assert.ok((profile?.proof_seconds ?? 0) >= 1);
      const everything = JSON.stringify([sidecar.status(), pod.lines]);
      assert.ok(!/ASIA|AccessKey|SecretAccess|SessionToken|eyJ/.test(everything));
    });

    it('that fails is an error that names the profile, and the round is retried', async () => {
      const sidecar = await pod.start(settings());
      await pass(() => sidecar.status().last_round !== null);
      const status = sidecar.status();
      assert.deepEqual([status.state, status.last_error?.code], ['retrying', 'not_proved']);
      assert.match(status.last_error?.message ?? '', /acme-read: at the source hop, the proxy role's trust policy/);
      assert.deepEqual([status.profiles[0]?.proved, (await fetch(`${sidecar.url}/readyz`)).status], [false, 503]);
      letIn();
      await pass(() => sidecar.status().state === 'ready');
      assert.equal(pod.service.asked.length, 2);
    });

    it('reports the failed hop, its code and advice with the profile', async () => {
      letIn();
      aws.removeRole('222222222222', 'acme-read');
      const sidecar = await pod.start(settings());
      await pass(() => sidecar.status().last_round !== null);
      const { profiles, last_error: error } = sidecar.status();
      const { problem_code: code, hop, what_to_do: advice, proved } = profiles[0] ?? {};
      assert.deepEqual([proved, hop, code], [false, 'target', 'target_refused']);
      assert.match(advice ?? '', /trust policy/);
      assert.match(error?.message ?? '', /acme-read: at the target hop, the role does not exist, does not trust/);
    });

    it('is withdrawn within 90 s after a revocation in AWS', async () => {
      letIn();
      const sidecar = await pod.start({ ...settings(), IRSA_RECHECK_SECONDS: '40' });
      await sidecar.ready;
      const start = clock.monotonic();
      await pass(() => tries() === 2);
      assert.equal(pod.service.asked.length, 1);
      aws.setTrust('111111111111', 'acme-read', trust('run-nobody'));
      pod.service.always = problem(403, 'run_revoked');
      await pass(() => sidecar.status().state === 'revoked');
      assert.ok(clock.monotonic() - start < 90_000);
      assert.deepEqual([sidecar.status().last_round?.cause, sidecar.status().profiles[0]?.proved], ['recheck', false]);
    });

    it('calls STS no more once the run is revoked', async () => {
      letIn();
      const sidecar = await pod.start({ ...settings(), IRSA_RECHECK_SECONDS: '40' });
      await sidecar.ready;
      pod.service.always = problem(403, 'run_revoked');
      await passing(sidecar.refresh());
      assert.equal(sidecar.status().state, 'revoked');
      const before = tries();
      const start = clock.monotonic();
      // Several rounds, and the time of several checks between rounds.
      await pass(() => clock.monotonic() - start >= 200_000);
      assert.ok(pod.service.asked.length > 3);
      assert.deepEqual([tries(), targetTries()], [before, 1]);
    });

    it('is withdrawn also when the service is unavailable', async () => {
      letIn();
      const sidecar = await pod.start({ ...settings(), IRSA_RECHECK_SECONDS: '40' });
      await sidecar.ready;
      aws.setTrust('111111111111', 'acme-read', trust('run-nobody'));
      pod.service.always = problem(503, 'domino_unavailable');
      await pass(() => sidecar.status().state === 'stale');
      const [profile] = sidecar.status().profiles;
      assert.deepEqual([profile?.proved, profile?.problem_code], [false, 'source_refused']);
    });

    it('stays while STS throttles or is unreachable between rounds', async () => {
      letIn();
      const sidecar = await pod.start({ ...settings(), IRSA_RECHECK_SECONDS: '40' });
      await sidecar.ready;
      aws.knobs.throttleNext = { AssumeRoleWithWebIdentity: 1 };
      await pass(() => tries() === 2);
      aws.knobs.down = true;
      const start = clock.monotonic();
      await pass(() => clock.monotonic() - start >= 100_000);
      assert.deepEqual([sidecar.status().profiles[0]?.proved, pod.service.asked.length], [true, 1]);
    });

    it('is repeated when the token file is replaced, and not otherwise', async () => {
      letIn();
      const sidecar = await pod.start({ ...settings(), IRSA_REFRESH_SECONDS: '0' });
      await sidecar.ready;
      await clock.advance(300_000);
      assert.equal(tries(), 1);
      await putToken({ pod: 'another' });
      await clock.advance(30_000);
      await until(() => sidecar.status().last_round?.cause === 'token');
      assert.deepEqual([tries(), sidecar.status().state], [2, 'ready']);
    });
  });
});
