/** Owns the loading of a page's data: when the page opens, when its key changes and on request; closing the page aborts it. */
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';

export interface Loaded<T> {
  /** The newest answer; it stays while the next one loads. */
  readonly data: T | undefined;
  /** The error of the newest attempt; it stays too. */
  readonly error: Error | undefined;
  readonly isLoading: boolean;
  readonly again: () => void;
}

type Load<T> = (abort: AbortSignal, onPart: (part: T) => void) => Promise<T>;

interface State<T> {
  /** Identifies the request that the data answers. */
  readonly key: string;
  readonly data: T | undefined;
  /** False for a part of an answer. */
  readonly isWhole: boolean;
  readonly error: Error | undefined;
}

/** @param key identifies the request: a new key loads anew. @param everyMs the interval of reloads while the page is visible. */
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
    // A complete table stays until the next complete one, so that it does not shrink to the first page meanwhile.
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
    // A reload never aborts a load under way: if the service were slower than the interval, no data would ever show.
    if (everyMs === 0 || isLoading) return;
    const timer = setInterval(() => document.visibilityState === 'visible' && again(), everyMs);
    return () => clearInterval(timer);
  }, [everyMs, isLoading, again]);

  const { data, error } = newest.key === key ? newest : nothing;
  return { data, error, isLoading, again };
}
