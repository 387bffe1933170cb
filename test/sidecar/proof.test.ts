/** Proves the proof: STS is asked until it agrees or a minute has passed, with the token of that moment, and told in words. */
import assert from 'node:assert/strict';
import { type Proof, prove, stsEndpoint } from '../../src/sidecar/proof.ts';
import { type AwsStandIn, startAws } from '../stack/aws.ts';
import { type ClusterIssuer, createIssuer } from '../stack/issuer.ts';
import { FakeClock, until } from '../support/clock.ts';
import { account, type Pod, type Scripted, startPod, startScripted } from './support.ts';

/** Tells the waits from the deadlines of calls: while a call is under way, its answer is waited for and not time. */
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
    await putToken();
  });
  afterEach(async () => {
    await Promise.all([pod.stop(), aws.close(), sts?.close()]);
    sts = undefined;
  });

  const putToken = async (more = {}) =>
    pod.put('token', `${await issuer.podToken({ serviceAccount: account, now: clock.now(), ...more })}\n`);
  const trust = (subject: string) => ({
    Version: '2012-10-17',
    Statement: [
      {
        Effect: 'Allow',
        Principal: { Federated: `arn:aws:iam::111111111111:oidc-provider/${issuer.issuer}` },
        Action: 'sts:AssumeRoleWithWebIdentity',
        Condition: {
          StringLike: {
            [`${issuer.issuer}:aud`]: 'sts.amazonaws.com',
            [`${issuer.issuer}:sub`]: `*:domino-compute:${subject}`,
          },
        },
      },
    ],
  });
  /** As the service writes it, so that it takes time to spread. */
  const letIn = () => aws.setTrust('111111111111', 'acme-read', trust(account));
  const tries = () => aws.calls.AssumeRoleWithWebIdentity ?? 0;

  function proveIt(endpoint: string | undefined = aws.url, more = {}): Promise<Proof[]> {
    const roleArn = 'arn:aws:iam::111111111111:role/acme-read';
    const source = { name: 'src_acme-read', roleArn, sessionName: 'alice', region: undefined, ...more };
    const signal = new AbortController().signal;
    const tokenFile = pod.environment.AWS_WEB_IDENTITY_TOKEN_FILE ?? '';
    return prove([source], { tokenFile, region: 'us-west-2', endpoint, clock, random: () => 1, signal });
  }

  /** Lets time pass while nothing but time is waited for, a little at a time, and no further than `over`. */
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

  it('is had at the first try where IAM needs no time', async () => {
    letIn();
    assert.deepEqual(await proveIt(), [{ profile: 'src_acme-read', seconds: 0, tries: 1, problem: undefined }]);
    assert.equal(tries(), 1);
  });

  it('waits while IAM spreads the change, and says how long that took', async () => {
    aws.knobs.propagationMs = 7_000;
    letIn();
    const [proof] = await passing(proveIt());
    assert.equal(proof?.problem, undefined);
    assert.ok((proof?.tries ?? 0) > 2);
    assert.ok((proof?.seconds ?? 0) >= 7 && (proof?.seconds ?? 0) <= 11, String(proof?.seconds));
  });

  it('gives up after a minute, in words', async () => {
    const [proof] = await passing(proveIt());
    assert.match(proof?.problem ?? '', /trust policy does not let this run in \(yet\) \(AccessDenied\)/);
    assert.ok((proof?.seconds ?? 0) >= 60 && (proof?.seconds ?? 0) < 66, String(proof?.seconds));
    // One try after 0.2, 0.4, 0.8, 1.6 s and each 3 s after that.
    assert.ok(tries() <= 26, String(tries()));
  });

  it('takes the token anew for each try', async () => {
    letIn();
    await putToken({ expiresInSeconds: -10 });
    const proof = proveIt();
    await until(() => tries() === 1);
    await putToken();
    const [proved] = await passing(proof);
    assert.deepEqual([proved?.problem, (proved?.tries ?? 0) > 1], [undefined, true]);
  });

  it('outlasts throttling, failures and an outage of STS', async () => {
    letIn();
    aws.knobs.throttleNext = { AssumeRoleWithWebIdentity: 2 };
    aws.knobs.failNext = { AssumeRoleWithWebIdentity: { code: 'ServiceUnavailable', times: 1 } };
    aws.knobs.loseAnswerNext = { AssumeRoleWithWebIdentity: 1 };
    const [proof] = await passing(proveIt());
    // The first try fails, and its answer is lost on top of it.
    assert.deepEqual([proof?.problem, proof?.tries], [undefined, 4]);
  });

  it('tells what is wrong where it is not the trust policy', async () => {
    const told = async (endpoint?: string, more = {}) => (await passing(proveIt(endpoint, more)))[0]?.problem ?? '';
    aws.trustIssuer(issuer.issuer, issuer.jwks, { accounts: ['111111111111'], clientIds: ['somebody-else'] });
    assert.match(await told(), /OIDC provider is missing.*InvalidIdentityToken/);
    sts = await startScripted({ status: 500, text: 'no XML' });
    assert.match(await told(sts.url), /^HTTP 500/);
    sts.always = 'cut';
    assert.match(await told(sts.url), /STS cannot be reached at 127\.0\.0\.1:\d+ \(ECONNRESET\)/);
    pod.put('token', '\n');
    assert.match(await told(), /there is no web identity token in \//);
  });

  it('asks the regional STS of the partition', () => {
    const arn = (partition: string) => `arn:${partition}:iam::111111111111:role/acme-read`;
    assert.equal(stsEndpoint(arn('aws'), 'us-west-2'), 'https://sts.us-west-2.amazonaws.com/');
    assert.equal(stsEndpoint(arn('aws-us-gov'), 'us-gov-west-1'), 'https://sts.us-gov-west-1.amazonaws.com/');
    assert.equal(stsEndpoint(arn('aws-cn'), 'cn-north-1'), 'https://sts.cn-north-1.amazonaws.com.cn/');
    assert.equal(stsEndpoint(arn('aws-eusc'), 'eusc-de-east-1'), 'https://sts.eusc-de-east-1.amazonaws.eu/');
    assert.equal(stsEndpoint(arn('aws'), undefined), undefined);
  });

  it('sends what STS needs, without a signature, for the shortest session', async () => {
    sts = await startScripted({ text: '<ok/>' });
    await proveIt(sts.url);
    const [asked] = sts.asked;
    assert.deepEqual([asked?.method, asked?.authorization], ['POST', undefined]);
    const { WebIdentityToken: token, ...form } = Object.fromEntries(new URLSearchParams(asked?.body));
    assert.deepEqual(form, {
      Action: 'AssumeRoleWithWebIdentity',
      Version: '2011-06-15',
      RoleArn: 'arn:aws:iam::111111111111:role/acme-read',
      RoleSessionName: 'alice',
      DurationSeconds: '900',
    });
    assert.match(token ?? '', /^[\w-]+\.[\w-]+\.[\w-]+$/);
  });

  describe('in a round', () => {
    const settings = () => ({ IRSA_PROVE: 'true', AWS_ENDPOINT_URL_STS: aws.url });

    it('makes the side-car ready, with its time in /status, and no credentials anywhere', async () => {
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

    it('that does not come is an error that names the profile, and the round is tried again', async () => {
      const sidecar = await pod.start(settings());
      await pass(() => sidecar.status().last_round !== null);
      const status = sidecar.status();
      assert.deepEqual([status.state, status.last_error?.code], ['retrying', 'not_proved']);
      assert.match(status.last_error?.message ?? '', /acme-read: the role's trust policy/);
      assert.deepEqual([status.profiles[0]?.proved, (await fetch(`${sidecar.url}/readyz`)).status], [false, 503]);
      letIn();
      await pass(() => sidecar.status().state === 'ready');
      assert.equal(pod.service.asked.length, 2);
    });

    it('comes again when the token file is replaced, and not otherwise', async () => {
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
