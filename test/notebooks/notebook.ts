/** Owns the running of a notebook's code cells, in order and unchanged, by plain Python as Jupyter would run them. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

interface Cell {
  readonly cell_type: 'markdown' | 'code';
  readonly id: string;
  readonly metadata: object;
  readonly source: readonly string[];
  readonly execution_count?: null;
  readonly outputs?: readonly unknown[];
}

export interface Notebook {
  readonly nbformat: number;
  readonly nbformat_minor: number;
  readonly metadata: { readonly kernelspec: { readonly name: string; readonly language: string } };
  readonly cells: readonly Cell[];
}

export const folder = join(import.meta.dirname, '..', '..', 'deploy', 'notebooks');

export const readNotebook = (name: string): Notebook =>
  JSON.parse(readFileSync(join(folder, `${name}.ipynb`), 'utf8')) as Notebook;

/** One name space for all cells; the output of each is kept apart, and no cell runs after one that fails. */
const runner = `
import contextlib, io, json, sys, traceback
cells = json.load(sys.stdin)
space = {"__name__": "__main__"}
printed = []
for index, cell in enumerate(cells):
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            exec(compile(cell, f"cell {index + 1}", "exec"), space)
    except BaseException:
        sys.stderr.write(f"cell {index + 1}\\n{cell}\\n{out.getvalue()}\\n{traceback.format_exc()}")
        sys.exit(1)
    printed.append(out.getvalue())
json.dump(printed, sys.stdout)
`;

/**
 * @param environment the whole of it, but for PATH. @returns what each code cell printed.
 * @throws Error with the cell and Python's traceback where one fails.
 */
export function runNotebook(name: string, environment: Readonly<Record<string, string>>): Promise<string[]> {
  const cells = readNotebook(name).cells.filter(({ cell_type: type }) => type === 'code');
  return new Promise((resolve, reject) => {
    const env = { PATH: process.env.PATH, HOME: process.env.HOME, ...environment };
    const child = spawn('python3', ['-c', runner], { env, stdio: ['pipe', 'pipe', 'pipe'] });
    let [stdout, stderr] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      stdout += chunk;
    });
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      stderr += chunk;
    });
    child.on('error', reject);
    child.on('close', (code) =>
      code === 0 ? resolve(JSON.parse(stdout) as string[]) : reject(new Error(`${name}: ${stderr}`)),
    );
    child.stdin.end(JSON.stringify(cells.map(({ source }) => source.join(''))));
  });
}

/** Whether there is a Python with these modules. */
export function hasPython(...modules: string[]): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn('python3', ['-c', `import ${modules.join(', ')}`], { stdio: 'ignore' });
    child.on('error', () => resolve(false));
    child.on('close', (code) => resolve(code === 0));
  });
}
