/** Owns `npm run dev -- --watch`: builds and restarts the service when one of its sources changes. */
import { watch } from 'node:fs';
import { join } from 'node:path';
import { root } from '../support/pages.ts';
import type { Screen } from './screen.ts';
import type { System } from './system.ts';

/** The wait after a change, since editors write a file in several steps. */
const settleMs = 200;

/** Watches until the process ends. When a build fails, the running service stays. */
export function rebuildOnChange(system: System, screen: Screen): void {
  let timer: NodeJS.Timeout | undefined;
  let work = Promise.resolve();
  const rebuild = async (name: string) => {
    const start = performance.now();
    try {
      await system.rebuild();
      screen.held(`${name} changed: the service runs anew after ${((performance.now() - start) / 1000).toFixed(1)} s`);
    } catch (error) {
      screen.failed(error instanceof Error ? error.message : String(error));
    }
  };
  for (const folder of ['src', 'routes']) {
    watch(join(root, folder), { recursive: true }, (_event, name) => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        work = work.then(() => rebuild(join(folder, name ?? '')));
      }, settleMs);
    });
  }
  screen.line('   Watching src and routes.');
}
