/** Proves that both programs handle SIGTERM while they still load. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { startChild } from '../stack/process.ts';
import { buildService } from '../stack/processes.ts';

/** Sends SIGTERM to the process when it begins to load a package: what is neither a file nor Node's own. */
const hook = `
  import { registerHooks } from 'node:module';
  let isSent = false;
  registerHooks({
    resolve(specifier, context, next) {
      if (!isSent && /^[a-z@]/.test(specifier) && !/^(node|file|data):/.test(specifier)) {
        isSent = true;
        const handlers = process.listenerCount('SIGTERM');
        process.stdout.write(JSON.stringify({ loads: specifier, handlers }) + '\\n');
        process.kill(process.pid, 'SIGTERM');
      }
      return next(specifier, context);
    },
  });
`;

describe('SIGTERM while a process loads', function () {
  this.timeout(60_000);
  before(buildService);

  const required = {
    OIDC_PROVIDER: 'oidc.eks.us-west-2.amazonaws.com/id/A',
    DOMINO_ISSUER: 'http://127.0.0.1:9/auth/realms/DominoRealm',
    DOMINO_USER_HOST: 'http://127.0.0.1:9',
    AWS_REGION: 'us-west-2',
    HOST: '127.0.0.1',
    SSL_OFF: 'true',
    PORT: '0',
    PROMETHEUS_METRICS_PORT: '0',
    IRSA_SIDECAR_PORT: '0',
  };
  const programs: [string, string, Record<string, string>, number][] = [
    ['the service', 'dist/src/main.js', required, 0],
    ['the sidecar', 'dist/src/sidecar/main.js', required, 0],
    // It should have finished one round, and has not.
    ['the sidecar with IRSA_ONCE', 'dist/src/sidecar/main.js', { ...required, IRSA_ONCE: 'true' }, 1],
  ];
  for (const [what, file, environment, code] of programs) {
    it(`ends ${what} with exit code ${code}`, async () => {
      const preload = `data:text/javascript,${encodeURIComponent(hook)}`;
      const cwd = join(import.meta.dirname, '..', '..');
      const child = startChild(process.execPath, ['--import', preload, file], { cwd, environment });
      assert.equal(await child.exited, code, child.output.join('\n'));
      assert.match(child.output[0] ?? '', /^\{"loads":"[^"]+","handlers":1\}$/);
    });
  }
});
