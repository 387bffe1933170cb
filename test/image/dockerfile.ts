/** Owns the reading of our Dockerfile: its stages, each with the steps that make a folder. */

export type DockerStep =
  | { readonly kind: 'copy'; readonly from: string | undefined; readonly sources: string[]; readonly to: string }
  | { readonly kind: 'run'; readonly command: string }
  | { readonly kind: 'env'; readonly name: string; readonly value: string };

export interface DockerStage {
  readonly name: string;
  readonly base: string;
  readonly steps: readonly DockerStep[];
  readonly labels: ReadonlyMap<string, string>;
  /** Instructions with an effect at run time only, by name: `USER`, `EXPOSE`, `CMD`, … */
  readonly settings: ReadonlyMap<string, string>;
}

/** @throws Error at what it does not know, so that no step is passed over in silence. */
export function parseDockerfile(text: string): DockerStage[] {
  const stages: {
    name: string;
    base: string;
    steps: DockerStep[];
    settings: Map<string, string>;
    labels: Map<string, string>;
  }[] = [];
  /** Before the first stage, for the bases. */
  const globals = new Map<string, string>();
  for (const line of text.split('\n').filter((one) => one.trim() !== '' && !one.startsWith('#'))) {
    const [, instruction = '', rest = ''] = /^([A-Z]+) (.*)$/.exec(line) ?? [];
    const from = /^(\S+) AS (\S+)$/.exec(rest);
    if (instruction === 'FROM' && from) {
      const base = (from[1] ?? '').replace(/\$\{(\w+)\}/g, (_, name: string) => globals.get(name) ?? '');
      stages.push({ base, name: from[2] ?? '', steps: [], settings: new Map(), labels: new Map() });
      continue;
    }
    const stage = stages.at(-1);
    if (!stage && instruction === 'ARG') {
      const [name = '', value = ''] = rest.split('=');
      globals.set(name, value);
      continue;
    }
    if (!stage || rest.endsWith('\\')) throw new Error(`not a line of a stage: ${line}`);
    if (instruction === 'COPY') stage.steps.push(copyStep(rest));
    else if (instruction === 'RUN') stage.steps.push({ kind: 'run', command: rest });
    else if (instruction === 'ENV') {
      const [name = '', value = ''] = rest.split('=');
      stage.steps.push({ kind: 'env', name, value });
    } else if (instruction === 'LABEL') {
      const [, name = '', value = ''] = /^([\w.]+)="(.*)"$/.exec(rest) ?? [];
      stage.labels.set(name, value);
    } else if (['ARG', 'WORKDIR', 'USER', 'EXPOSE', 'STOPSIGNAL', 'CMD'].includes(instruction)) {
      stage.settings.set(instruction, rest);
    } else throw new Error(`unknown instruction: ${line}`);
  }
  return stages;
}

function copyStep(rest: string): DockerStep {
  const words = rest.split(' ');
  const from = words[0]?.startsWith('--from=') ? words.shift()?.slice('--from='.length) : undefined;
  const to = words.pop() ?? '';
  return { kind: 'copy', from, sources: words, to };
}
