/** Owns `npm run dev`: keeps the demo's system running until Ctrl-C, and prints addresses and lines to try; `--watch` follows changes. */
import { openPlayground, type Playground, usableLines } from './playground.ts';
import { type Screen, terminal } from './screen.ts';
import { rebuildOnChange } from './watch.ts';

const screen = terminal();
let asked = false;
const ending = new Promise<string>((resolve) => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      asked = true;
      resolve(signal);
    });
  }
});
process.exit(await dev(screen));

async function dev(shown: Screen): Promise<number> {
  shown.line('starting Domino, Kubernetes and AWS stand-ins, the service, and a sidecar');
  const playground = await openPlayground();
  const { system, sidecar } = playground;
  const { stack, replica } = system;
  print(shown, playground);
  const isWatching = process.argv.includes('--watch');
  if (isWatching) rebuildOnChange(system, shown);
  const died = Promise.race([
    stack.child.exited.then((code) => `the stack ended with ${code}`),
    // With --watch, the service ends at each change, and an error in the change may end it too.
    ...(isWatching ? [] : [replica.child.exited.then((code) => `the service ended with ${code}`)]),
    sidecar.child.exited.then((code) => `the sidecar ended with ${code}`),
  ]);
  const why = await Promise.race([ending, died]);
  shown.line();
  // Ctrl-C reaches the children too, and one of them may end first.
  if (!asked) {
    shown.failed(why);
    for (const { child } of [stack, replica, sidecar]) for (const line of child.output.slice(-10)) shown.line(line);
  }
  await system.stop();
  shown.line('all ended');
  return asked ? 0 : 1;
}

function print(shown: Screen, { system, sidecar, variables }: Playground): void {
  const { stack, replica, files } = system;
  const addresses = {
    console: `${replica.url}/console`,
    service: replica.url,
    'its calls': `${replica.url}/docs`,
    metrics: replica.metricsUrl,
    sidecar: sidecar.url,
    Domino: stack.dominoUrl,
    Kubernetes: stack.kubernetesUrl,
    'IAM, STS, EKS': stack.awsUrl,
    'EKS agent': system.agentUrl,
    'runs and users': stack.controlUrl,
    files: files.folder,
  };
  shown.line();
  for (const [name, address] of Object.entries(addresses)) shown.line(`   ${name.padEnd(16)}${address}`);
  shown.line();
  shown.line(
    '   Alice (data-science), bob (finance), carol (nothing) and admin; alice has a run going, with a sidecar.',
  );
  shown.line('   Domino service accounts svc-user-1, which has a role by EKS Pod Identity, svc-user-2 and svc-user-3.');
  shown.line();
  shown.line(
    '   In the console, log in as admin, or as alice, who sees herself alone; the realm asks for no password, and the',
  );
  shown.line(
    '   browser has to be told to take the certificate, which was made for this system. There are thirty runs, a',
  );
  shown.line('   full pool, a role in error, one that comes by tokens, an external change, and a revoked run.');
  shown.line();
  shown.line('   In another terminal, first this:');
  shown.heading(`. ${variables}`);
  for (const { about, typed } of usableLines()) {
    shown.line();
    shown.line(`   # ${about}`);
    // Not wrapped, so that a copied line is complete.
    shown.heading(typed);
  }
  shown.line();
  shown.line('   Ctrl-C ends it all.');
}
