/** Owns the end of a program whose settings cannot be used. */

/** The settings cannot be used. `message` lists every problem, one on each line, without values. */
export class ConfigError extends Error {
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(`${problems.length} setting(s) cannot be used:\n${problems.join('\n')}`);
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

/** Loads the settings from the environment. Where they cannot be used, it says why on stderr and ends the process. */
export function configOrExit<T>(load: (env: NodeJS.ProcessEnv) => T, program: string): T {
  try {
    return load(process.env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`${program} cannot start: ${error.message}\n`);
    process.exit(1);
  }
}
