/**
 * Owns the exec probe of a container: exits 0 when the side-car is ready, 1 when it is not. The kubelet's own HTTP probes
 * come from the node and do not reach the loopback that the side-car listens on, and its image need not have curl.
 */
const http = process.getBuiltinModule('node:http');

const port = process.env.IRSA_SIDECAR_PORT || '6003';
const path = process.argv[2] ?? '/readyz';

http
  .get({ host: '127.0.0.1', port, path, timeout: 2_000 }, (response) => {
    response.pipe(process.stdout);
    response.on('end', () => {
      process.exitCode = response.statusCode === 200 ? 0 : 1;
    });
  })
  .on('timeout', function (this: import('node:http').ClientRequest) {
    this.destroy(new Error('no answer'));
  })
  .on('error', ({ message }) => {
    process.stdout.write(`${message}\n`);
    process.exitCode = 1;
  });
