/**
 * Owns what every tool has to do with the profiles that the sidecar writes: assume the role, continue after an expiry,
 * and show the documented error once the run is revoked.
 */
import assert from 'node:assert/strict';
import { type AwsPod, startAwsPod } from '../sidecar/aws-pod.ts';
import { configText, problem } from '../sidecar/support.ts';
import type { ProgramResult } from '../stack/clients.ts';
import { until } from '../support/clock.ts';
import { hasMoto, type S3, startS3 } from './s3.ts';

export interface Tool {
  readonly name: string;
  /** Why this machine does not have it; undefined where it has. */
  missing(): Promise<string | undefined>;
  /** Uses the profile of the environment, and prints `expected`. */
  run(environment: Record<string, string>): Promise<ProgramResult>;
  readonly expected: RegExp;
  /** The tool's own error when it gets no credentials, as in docs/tools.md. */
  readonly refused: RegExp;
  /** Whether the tool hides what the script prints. */
  readonly silent?: boolean;
  /** How a silent tool can be made to show more, as in docs/tools.md. */
  readonly louder?: Louder;
}

export interface Louder {
  run(environment: Record<string, string>): Promise<ProgramResult>;
  /** Its output then, with white space folded. */
  readonly shows: RegExp;
}

/** What the profile's script prints for a revoked run. */
export const sentence = /irsa-svc: AWS profile acme-read: An administrator has shut this run out of its AWS roles/;

const role = 'acme-read';
const hour = 3_600_000;

/** @param python a Python that has moto. */
export function describeTools(title: string, tools: readonly Tool[], python: () => string = () => 'python3'): void {
  describe(title, function () {
    // Interpreters start cold, and a JVM does so on a busy machine.
    this.timeout(180_000);
    let world: AwsPod;
    let s3: S3;

    before(async function () {
      this.timeout(20 * 60_000);
      if (!(await hasMoto(python()))) return skip(this, 'python3 with moto[server]');
      world = await startAwsPod([role]);
      s3 = await startS3(world.aws, role, python());
    });
    after(async () => {
      await s3?.close();
      await world?.stop();
    });

    for (const tool of tools) {
      it(`${tool.name} assumes the role, also after an expiry, and fails as documented for a revoked run`, async function () {
        // At its first use, a tool is fetched and built.
        this.timeout(20 * 60_000);
        const why = await tool.missing();
        if (why !== undefined) return skip(this, why);
        const sidecar = await world.start();
        try {
          await sidecar.ready;
          const first = world.session(role)?.AccessKeyId;
          await works(tool);
          // After this the first session has expired for AWS, and the sidecar has renewed it long before.
          for (const part of [0.6, 0.6]) {
            const before = world.session(role)?.AccessKeyId;
            world.clock.skip(part * hour);
            await until(() => world.session(role)?.AccessKeyId !== before);
          }
          assert.notEqual(world.session(role)?.AccessKeyId, first);
          await works(tool);
          world.pod.service.always = problem(403, 'run_revoked');
          await until(async () => (await sidecar.refresh()).error?.code === 'run_revoked');
          await isRefused(tool);
        } finally {
          world.pod.service.always = { text: configText([role]) };
          await sidecar.stop();
        }
      });
    }

    const environment = () => ({
      AWS_CONFIG_FILE: world.pod.configFile,
      AWS_PROFILE: role,
      AWS_REGION: 'us-west-2',
      AWS_DEFAULT_REGION: 'us-west-2',
      AWS_ENDPOINT_URL_S3: s3.url,
      AWS_ENDPOINT_URL_STS: world.aws.url,
    });

    async function works(tool: Tool): Promise<void> {
      const { stdout, stderr, code } = await tool.run(environment());
      assert.equal(code, 0, stderr);
      assert.match(stdout, tool.expected);
      for (const { arn, path } of s3.asked.splice(0)) assert.ok(arn, `${path} came without a session`);
    }

    async function isRefused(tool: Tool): Promise<void> {
      const { stdout, stderr, code } = await tool.run(environment());
      assert.notEqual(code, 0, stdout);
      assert.match(stdout + stderr, tool.refused);
      const shown = folded(stdout + stderr);
      if (!tool.silent) assert.match(shown, sentence);
      else assert.doesNotMatch(shown, sentence, 'the tool now shows the reason: docs/tools.md says that it does not');
      if (tool.louder) {
        const louder = await tool.louder.run(environment());
        assert.notEqual(louder.code, 0, louder.stdout);
        assert.match(folded(louder.stdout + louder.stderr), tool.louder.shows);
      }
      s3.asked.splice(0);
    }
  });
}

/** Some tools fold lines. */
const folded = (text: string) => text.replace(/\s+/g, ' ');

function skip(test: Mocha.Context, what: string): void {
  process.stderr.write(`\nSKIPPED: ${test.test?.fullTitle()}: this machine has no ${what}\n`);
  test.skip();
}
