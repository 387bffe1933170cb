/** Owns the fetching of tools: each once, or the reason why it is unavailable on this machine. */

import { join } from 'node:path';
import { pythonTool, Unavailable } from '../tools.ts';

export type Fetched = { program: string } | { why: string };

/** The program that `make` returns, or the reason why it is unavailable on this machine. */
export function fetched(make: () => string): Fetched {
  try {
    return { program: make() };
  } catch (error) {
    if (error instanceof Unavailable) return { why: error.message };
    throw error;
  }
}

export const whyNot = (make: () => string) => async () => {
  const found = fetched(make);
  return 'why' in found ? found.why : undefined;
};

/** A Python with these packages. */
export const pythonWith = (name: string, requirements: readonly string[]) => () =>
  fetched(() => join(pythonTool(name, requirements), 'python'));

/** The Python that has moto, else the machine's. */
export function moto(): string {
  const found = pythonWith('moto', ['moto[server]==5.2.1'])();
  return 'program' in found ? found.program : 'python3';
}
