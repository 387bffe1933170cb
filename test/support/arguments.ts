/** Owns the arguments of the project's own commands: a wrong one ends the command with one line, before it does anything. */
import { type ParseArgsConfig, parseArgs } from 'node:util';

/** Like Node's `parseArgs`, but a wrong argument ends the command. */
export function commandLine<T extends ParseArgsConfig>(config: T): ReturnType<typeof parseArgs<T>> {
  try {
    return parseArgs(config);
  } catch (error) {
    return refuse(String(error instanceof Error ? error.message : error));
  }
}

/** @param name the argument as people write it: `--rounds`. @returns a whole number of at least `least`. */
export function wholeNumber(name: string, text: string, least = 0): number {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  return value >= least ? value : refuse(`${name}: expected a whole number of at least ${least}, not "${text}"`);
}

/** Prints the message and ends the command with code 1. */
export function refuse(what: string): never {
  console.error(what);
  process.exit(1);
}
