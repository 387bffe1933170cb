/** Owns what the project's own commands make of their arguments: a wrong one ends the command with one line, before it does anything. */
import { type ParseArgsConfig, parseArgs } from 'node:util';

/** As `parseArgs` of Node. */
export function commandLine<T extends ParseArgsConfig>(config: T): ReturnType<typeof parseArgs<T>> {
  try {
    return parseArgs(config);
  } catch (error) {
    return refuse(String(error instanceof Error ? error.message : error));
  }
}

/** @param name as people write it: `--rounds`. @returns the whole number from `least` on. */
export function wholeNumber(name: string, text: string, least = 0): number {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  return value >= least ? value : refuse(`${name}: expected a whole number of at least ${least}, not "${text}"`);
}

/** Ends the command. */
export function refuse(what: string): never {
  console.error(what);
  process.exit(1);
}
