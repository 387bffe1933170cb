/** Owns the demo's output: numbered steps, commands as a person would type them, answers, and checks. */
import { setTimeout as delay } from 'node:timers/promises';

/** The widest line, so that the demo reads well in a terminal of 100 columns. */
const columns = 96;
const indent = '   ';

export interface Screen {
  heading(text: string): void;
  step(number: number, title: string, why: string): void;
  /** The command that a person would type, as words that are not wrapped; a word may have several lines. */
  command(...words: string[]): void;
  /** The answer. Long lines continue on the next line, indented. */
  answer(text: string): void;
  note(text: string): void;
  held(text: string): void;
  skipped(text: string): void;
  failed(text: string): void;
  line(text?: string): void;
}

/** @param write receives whole lines. @param colour whether to color them. */
export function createScreen(write: (line: string) => void, colour: boolean): Screen {
  const paint = (code: number) => (text: string) => (colour ? `\u001b[${code}m${text}\u001b[0m` : text);
  const bold = paint(1);
  const dim = paint(2);
  const red = paint(31);
  const green = paint(32);
  const yellow = paint(33);
  const cyan = paint(36);
  const lines = (text: string, style: Paint, first = indent, rest = first) => {
    for (const [index, part] of fill(text.split(' '), columns - rest.length).entries()) {
      write(style((index === 0 ? first : rest) + part));
    }
  };
  return {
    heading: (text) => write(bold(text)),
    step: (number, title, why) => {
      write('');
      write(bold(`${String(number).padStart(2)} ${title}`));
      lines(why, dim);
    },
    command: (...words) => {
      write('');
      const parts = fill(words, columns - indent.length - 6).join(' \\\n');
      for (const [index, part] of parts.split('\n').entries()) {
        write(cyan(`${indent}${index === 0 ? '$ ' : '    '}${part}`));
      }
    },
    answer: (text) => {
      for (const part of text.trimEnd().split('\n')) {
        const margin = /^ */.exec(part)?.[0] ?? '';
        lines(part.slice(margin.length), (line) => line, `${indent}${margin}`, `${indent}${margin}    `);
      }
    },
    note: (text) => lines(text, dim),
    held: (text) => lines(text, green, `${indent}ok  `, `${indent}    `),
    skipped: (text) => lines(text, yellow, `${indent}skipped  `, `${indent}    `),
    failed: (text) => {
      for (const part of text.split('\n')) write(red(`${indent}FAILED  ${part}`));
    },
    line: (text = '') => write(text),
  };
}

/** A screen on stdout, with color when it is a terminal. https://no-color.org */
export function terminal(): Screen {
  const { NO_COLOR } = process.env;
  return createScreen((line) => void process.stdout.write(`${line}\n`), process.stdout.isTTY && !NO_COLOR);
}

/**
 * Calls `look` every 100 ms until it returns a value.
 * @throws Error when the time is over first.
 */
export async function eventually<T>(what: string, look: () => Promise<T | undefined>, timeoutMs = 10_000): Promise<T> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > end) throw new Error(`${what}: not within ${timeoutMs / 1000} s`);
    await delay(100);
  }
}

type Paint = (text: string) => string;

/** Fills each line with as many words as fit. */
function fill(words: readonly string[], width: number): string[] {
  const found: string[] = [];
  for (const word of words) {
    const last = found.at(-1);
    const [first = ''] = word.split('\n');
    if (last === undefined || last.length + 1 + first.length > width) found.push(word);
    else found[found.length - 1] = `${last} ${word}`;
  }
  return found;
}
