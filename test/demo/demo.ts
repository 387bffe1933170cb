/**
 * Owns `npm run demo`: shows the main job step by step; the exit code is 0 when every step succeeded.
 *
 * `--short` plays the steps from a mapping to the end of the run, and `--step` waits for Enter after each.
 */
import { createInterface } from 'node:readline/promises';
import { commandLine } from '../support/arguments.ts';
import { newScene, type Scene } from './scene.ts';
import { type Screen, terminal } from './screen.ts';
import { shortSteps, steps } from './steps.ts';
import { type System, startSystem } from './system.ts';

/** The demo's time limit, in case a step hangs. */
const limitMs = 120_000;

const { values: wanted } = commandLine({ options: { short: { type: 'boolean' }, step: { type: 'boolean' } } });
const screen = terminal();
if (!wanted.step) {
  setTimeout(() => {
    screen.failed(`the demo is not done after ${limitMs / 1000} s`);
    process.exit(1);
  }, limitMs).unref();
}
process.exitCode = await demo(screen, wanted.short ? shortSteps : steps);

/** Waits for Enter; returns at once where stdin is no terminal. */
async function enter(): Promise<void> {
  if (!process.stdin.isTTY) return;
  const terminalLines = createInterface({ input: process.stdin, output: process.stdout });
  await terminalLines.question('   Press Enter to continue ');
  terminalLines.close();
}

async function demo(shown: Screen, played: typeof steps): Promise<number> {
  const start = performance.now();
  shown.heading('irsa-svc: a run gets the AWS roles of the person who started it');
  shown.line('   The service and the sidecar are the real ones, processes of their own over HTTPS. Domino,');
  shown.line('   Kubernetes and AWS are stand-ins on this machine that speak their protocols; nothing leaves it.');
  let system: System | undefined;
  let scene: Scene | undefined;
  let held = 0;
  try {
    system = await startSystem();
    shown.line(`   IRSA=${system.replica.url}  (CA: the service’s self-made certificate, verified)`);
    scene = newScene(system, shown);
    for (const [index, step] of played.entries()) {
      shown.step(index + 1, step.title, step.why);
      await step.play(scene);
      held += 1;
      if (wanted.step && held < played.length) await enter();
    }
  } catch (error) {
    shown.failed(error instanceof Error ? (error.stack ?? error.message) : String(error));
    for (const child of [system?.replica.child, scene?.sidecar?.child]) {
      for (const line of child?.output.slice(-10) ?? []) shown.line(`   log  ${line}`);
    }
  } finally {
    await system?.stop();
  }
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  shown.line();
  shown.heading(`${held} of ${played.length} steps held, in ${seconds} s`);
  if (wanted.short) shown.line('   npm run demo shows them all; npm run demo -- --step waits for Enter after each.');
  return held === played.length ? 0 : 1;
}
