/** Owns the building of our image without Docker: each stage of the Dockerfile becomes a folder. */
import { cpSync, mkdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { startChild } from '../stack/process.ts';
import { type DockerStage, parseDockerfile } from './dockerfile.ts';

export interface BuiltImage {
  /** The folder that stands for the image's working folder. */
  readonly folder: string;
  /** The stage that becomes the image. */
  readonly stage: DockerStage;
  readonly environment: Readonly<Record<string, string>>;
}

/**
 * A stage's folder has only what the stage copies, so that a file that the Dockerfile forgets is missing here too.
 * @param root the project; @param work an empty folder. @throws Error with what a step said when it failed.
 */
export async function buildImage(root: string, work: string, say: (line: string) => void): Promise<BuiltImage> {
  let built: BuiltImage | undefined;
  for (const stage of parseDockerfile(readFileSync(join(root, 'Dockerfile'), 'utf8'))) {
    const folder = join(work, stage.name);
    mkdirSync(folder);
    const environment = await buildStage(stage, { root, work, folder, say });
    built = { folder, stage, environment };
  }
  if (!built) throw new Error('the Dockerfile has no stage');
  return built;
}

async function buildStage(
  stage: DockerStage,
  { root, work, folder, say }: { root: string; work: string; folder: string; say: (line: string) => void },
): Promise<Record<string, string>> {
  const environment: Record<string, string> = {};
  for (const step of stage.steps) {
    if (step.kind === 'env') environment[step.name] = step.value;
    else if (step.kind === 'copy') {
      for (const source of step.sources) {
        const inStage = source.replace(`${stage.settings.get('WORKDIR')}/`, '');
        const path = step.from === undefined ? join(root, source) : join(work, step.from, inStage);
        // Docker copies what a folder holds, and a file into the folder that is named with a slash at the end.
        cpSync(path, join(folder, step.to, step.to.endsWith('/') ? basename(source) : ''), { recursive: true });
      }
    } else {
      say(`${stage.name}: ${step.command}`);
      // With this process's environment too: it may name the package registry.
      const ours = Object.entries(process.env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]]));
      const child = startChild('sh', ['-c', step.command], {
        cwd: folder,
        environment: { ...Object.fromEntries(ours), ...environment },
      });
      if ((await child.exited) !== 0) throw new Error(`${step.command} failed:\n${child.output.join('\n')}`);
    }
  }
  return environment;
}
