/** Owns a process's wall clock, for `node --import`: each number on stdin sets it so many milliseconds off. */
let offsetMs = Number(process.env.CLOCK_OFFSET_MS ?? 0);
const RealDate = Date;

class ShiftedDate extends RealDate {
  constructor(...given: [] | ConstructorParameters<DateConstructor>) {
    if (given.length === 0) super(RealDate.now() + offsetMs);
    else super(...(given as ConstructorParameters<DateConstructor>));
  }

  static override now(): number {
    return RealDate.now() + offsetMs;
  }
}

globalThis.Date = ShiftedDate as DateConstructor;
process.stdin.setEncoding('utf8').on('data', (text: string) => {
  const wanted = Number(text.trim().split('\n').at(-1));
  if (Number.isFinite(wanted)) offsetMs = wanted;
});
// The listener must not keep the process alive.
const { stdin } = process as unknown as { stdin: { unref?: () => void } };
stdin.unref?.();
