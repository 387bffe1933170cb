/** Owns the dialog of a change: shows the diff first, then a button that applies it. The browser keeps the focus inside. */
import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { Refusal } from './bits.tsx';

interface DialogProps {
  readonly title: string;
  readonly onClose: () => void;
  readonly children: ComponentChildren;
}

export function Dialog({ title, onClose, children }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const element = dialog.current;
    element?.showModal();
    return () => element?.close();
  }, []);
  return (
    <dialog ref={dialog} aria-labelledby="dialog-title" onClose={onClose}>
      <header>
        <h2 id="dialog-title">{title}</h2>
        <button type="button" class="quiet" onClick={onClose} aria-label="Close">
          ✕
        </button>
      </header>
      {children}
    </dialog>
  );
}

interface ActionProps {
  readonly label: string;
  /** For an action that removes something. */
  readonly isDangerous?: boolean;
  readonly isQuiet?: boolean;
  readonly disabled?: boolean;
  readonly act: () => Promise<unknown>;
}

/** A button that sends a request, is disabled meanwhile, and shows a refusal. */
export function Action({ label, isDangerous, isQuiet, disabled, act }: ActionProps) {
  const [state, setState] = useState<{ isBusy: boolean; error?: Error }>({ isBusy: false });
  const run = async () => {
    setState({ isBusy: true });
    try {
      await act();
      setState({ isBusy: false });
    } catch (error) {
      setState({ isBusy: false, error: error instanceof Error ? error : new Error(String(error)) });
    }
  };
  const look = isDangerous ? 'danger' : isQuiet ? 'quiet' : 'primary';
  return (
    <>
      <button type="button" class={look} disabled={disabled || state.isBusy} onClick={run}>
        {state.isBusy ? `${label}…` : label}
      </button>
      <Refusal error={state.error} />
    </>
  );
}

interface ChangesProps {
  readonly title: string;
  readonly sign: '+' | '−' | '→' | '!';
  readonly items: readonly ComponentChildren[];
}

/** One part of a diff; renders nothing where it is empty. */
export function Changes({ title, sign, items }: ChangesProps) {
  if (items.length === 0) return null;
  const look = { '+': 'gain', '−': 'loss', '→': 'move', '!': 'warning' }[sign];
  return (
    <section class={`changes ${look}`}>
      <h3>
        {title} <small>{items.length}</small>
      </h3>
      <ul>
        {items.slice(0, 100).map((item, index) => (
          // The items of a diff never change their order.
          <li key={String(index)}>
            <span aria-hidden="true">{sign}</span> <span>{item}</span>
          </li>
        ))}
      </ul>
      {items.length > 100 && <p class="faint">and {items.length - 100} more</p>}
    </section>
  );
}
