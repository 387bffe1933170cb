/** Owns `npm run demo`: the walk through the main job, step by step; exit code 0 when every step held. */
import { newScene, type Scene } from './scene.ts';
import { type Screen, terminal } from './screen.ts';
import { steps } from './steps.ts';
import { type System, startSystem } from './system.ts';

/** The demo ends by then, whatever hangs. */
const limitMs = 120_000;

const screen = terminal();
setTimeout(() => {
  screen.failed(`the demo is not done after ${limitMs / 1000} s`);
  process.exit(1);
}, limitMs).unref();
process.exitCode = await demo(screen);

async function demo(shown: Screen): Promise<number> {
  const start = performance.now();
  shown.heading('irsa-svc: a run gets the AWS roles of the person who started it');
  shown.line('   The service and the side-car are the real ones, processes of their own over HTTPS. Domino,');
  shown.line('   Kubernetes and AWS are stand-ins on this machine that speak their protocols; nothing leaves it.');
  let system: System | undefined;
  let scene: Scene | undefined;
  let held = 0;
  try {
    system = await startSystem();
    shown.line(`   IRSA=${system.replica.url}  (CA: the service’s self-made certificate, verified)`);
    scene = newScene(system, shown);
    for (const [index, step] of steps.entries()) {
      shown.step(index + 1, step.title, step.why);
      await step.play(scene);
      held += 1;
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
  shown.heading(`${held} of ${steps.length} steps held, in ${seconds} s`);
  return held === steps.length ? 0 : 1;
}
