/** Owns how a page gets its data: loaded when it opens or its key changes, again on request, and given up when it closes. */
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import type { CallError } from './api.ts';

export interface Loaded<T> {
  /** The newest answer; it stays while the next one is under way. */
  readonly data: T | undefined;
  /** Of the newest answer: it stays too. */
  readonly error: CallError | Error | undefined;
  readonly isLoading: boolean;
  readonly again: () => void;
}

type Load<T> = (abort: AbortSignal, onPart: (part: T) => void) => Promise<T>;

interface State<T> {
  /** What the answer depends on. */
  readonly key: string;
  readonly data: T | undefined;
  /** It is no part of an answer. */
  readonly isWhole: boolean;
  readonly error: CallError | Error | undefined;
}

/** @param key what it depends on. @param everyMs asks again so often while the page is visible. */
export function useLoad<T>(load: Load<T>, key = '', everyMs = 0): Loaded<T> {
  const nothing: State<T> = { key, data: undefined, isWhole: false, error: undefined };
  const [newest, setNewest] = useState(nothing);
  const [turn, setTurn] = useState(0);
  const [answered, setAnswered] = useState('');
  const loader = useRef(load);
  loader.current = load;
  const again = useCallback(() => setTurn((last) => last + 1), []);

  const asked = `${turn} ${key}`;
  useEffect(() => {
    const closing = new AbortController();
    const show = (change: (last: State<T>) => State<T>) => closing.signal.aborted || setNewest(change);
    // A table that is whole stays so until the next whole one, and does not shrink to the first page of it.
    const onPart = (data: T) =>
      show((last) => (last.key === key && last.isWhole ? last : { key, data, isWhole: false, error: undefined }));
    loader
      .current(closing.signal, onPart)
      .then((data) => show(() => ({ key, data, isWhole: true, error: undefined })))
      .catch((error) =>
        show((last) => ({ key, data: undefined, isWhole: false, ...(last.key === key && last), error })),
      )
      .finally(() => closing.signal.aborted || setAnswered(asked));
    return () => closing.abort();
  }, [asked, key]);

  const isLoading = answered !== asked;
  useEffect(() => {
    // What is under way is not given up for the next: a service that is slower than that would never show anything.
    if (everyMs === 0 || isLoading) return;
    const timer = setInterval(() => document.visibilityState === 'visible' && again(), everyMs);
    return () => clearInterval(timer);
  }, [everyMs, isLoading, again]);

  const { data, error } = newest.key === key ? newest : nothing;
  return { data, error, isLoading, again };
}
