/** Owns `npm run dev`: the demo's system kept up, with its addresses and lines to try, until Ctrl-C. */
import { openPlayground, type Playground, usableLines } from './playground.ts';
import { type Screen, terminal } from './screen.ts';

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
  shown.line('starting Domino, Kubernetes and AWS stand-ins, the service, and a side-car');
  const playground = await openPlayground();
  const { system, sidecar } = playground;
  const { stack, replica } = system;
  print(shown, playground);
  const died = Promise.race([
    stack.child.exited.then((code) => `the stack ended with ${code}`),
    replica.child.exited.then((code) => `the service ended with ${code}`),
    sidecar.child.exited.then((code) => `the side-car ended with ${code}`),
  ]);
  const why = await Promise.race([ending, died]);
  shown.line();
  // Ctrl-C reaches the children too, and one of them may be gone first.
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
    service: replica.url,
    'its page': `${replica.url}/docs`,
    metrics: replica.metricsUrl,
    'side-car': sidecar.url,
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
    '   Alice (data-science), bob (finance), carol (nothing) and admin; alice has a run going, with a side-car.',
  );
  shown.line('   Domino service accounts svc-user-1, which has a role by EKS Pod Identity, svc-user-2 and svc-user-3.');
  shown.line();
  shown.line('   In another terminal, first this:');
  shown.heading(`. ${variables}`);
  for (const { about, typed } of usableLines()) {
    shown.line();
    shown.line(`   # ${about}`);
    // Unbroken, so that a line that is copied is whole.
    shown.heading(typed);
  }
  shown.line();
  shown.line('   Ctrl-C ends it all.');
}
