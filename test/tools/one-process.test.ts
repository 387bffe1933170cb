/** Proves that a long-running process, such as a notebook's kernel, gets a new session when its session expires. */
import assert from 'node:assert/strict';
import { devNull } from 'node:os';
import { type AwsPod, startAwsPod } from '../sidecar/aws-pod.ts';
import { hasBoto3 } from '../stack/clients.ts';
import { type Child, startChild } from '../stack/process.ts';
import { until } from '../support/clock.ts';

const role = 'acme-read';
const hour = 3_600_000;

/** Each program uses one client for its whole life. A line of stdin moves its clock; it answers with its ARN. */
const boto3 = `import datetime, json, sys, types
import boto3, botocore.credentials
shift = datetime.timedelta()
class Moved(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.now(tz) + shift
botocore.credentials.datetime = types.SimpleNamespace(**{**vars(datetime), 'datetime': Moved})
sts = boto3.client('sts')
print(json.dumps({'ready': True}), flush=True)
for line in sys.stdin:
    shift = datetime.timedelta(milliseconds=float(line))
    try:
        print(json.dumps({'said': sts.get_caller_identity()['Arn']}), flush=True)
    except Exception as error:
        print(json.dumps({'said': str(error)}), flush=True)
`;
const javascript = `import { createInterface } from 'node:readline';
import { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
const Real = Date;
let shift = 0;
globalThis.Date = class extends Real {
  constructor(...given) { super(...(given.length > 0 ? given : [Real.now() + shift])); }
  static now() { return Real.now() + shift; }
};
const sts = new STSClient({});
console.log(JSON.stringify({ ready: true }));
for await (const line of createInterface(process.stdin)) {
  shift = Number(line);
  const said = await sts.send(new GetCallerIdentityCommand({})).then(({ Arn }) => Arn, String);
  console.log(JSON.stringify({ said }));
}
`;

const programs = [
  { name: 'boto3', command: 'python3', args: ['-c', boto3], isHere: hasBoto3 },
  {
    name: 'the AWS SDK for JavaScript',
    command: process.execPath,
    args: ['--input-type=module', '-e', javascript],
    isHere: async () => true,
  },
];

describe('a long-running process', function () {
  this.timeout(120_000);
  let world: AwsPod;

  before(async () => {
    world = await startAwsPod([role]);
  });
  after(() => world?.stop());

  for (const { name, command, args, isHere } of programs) {
    it(`keeps its role when its session expires: ${name}`, async function () {
      if (!(await isHere())) {
        process.stderr.write(`\nSKIPPED: ${this.test?.fullTitle()}: this machine has no ${name}\n`);
        return this.skip();
      }
      const sidecar = await world.start();
      let child: Child | undefined;
      try {
        await sidecar.ready;
        child = startChild(command, args, { environment: environment() });
        await child.line(({ ready }) => ready === true);
        const whoAmI = async () => {
          const answer = child?.line<{ said: string }>(({ said }) => typeof said === 'string');
          child?.write(`${world.clock.now() - Date.now()}\n`);
          return (await answer)?.said;
        };
        const expected = /:assumed-role\/acme-read\/alice-/;
        assert.match((await whoAmI()) ?? '', expected);
        // The session that it holds has expired after this; the sidecar has renewed it meanwhile.
        for (const part of [0.6, 0.6]) {
          const before = world.session(role)?.AccessKeyId;
          world.clock.skip(part * hour);
          await until(() => world.session(role)?.AccessKeyId !== before);
        }
        assert.match((await whoAmI()) ?? '', expected);
      } finally {
        await child?.stop();
        await sidecar.stop();
      }
    });
  }

  const environment = () => ({
    AWS_CONFIG_FILE: world.pod.configFile,
    AWS_SHARED_CREDENTIALS_FILE: devNull,
    AWS_EC2_METADATA_DISABLED: 'true',
    AWS_PROFILE: role,
    AWS_REGION: 'us-west-2',
    AWS_DEFAULT_REGION: 'us-west-2',
    AWS_ENDPOINT_URL_STS: world.aws.url,
  });
});
