// SPDX-License-Identifier: Apache-2.0
/** Short words about what happened, with at most one thing to do about it. */
import {createSignal, For, Show, type Accessor} from "solid-js";
import {Icon} from "./icons";

interface Toast {
  id: number;
  text: string;
  bad: boolean;
  action?: {label: string; run: () => void};
  /** How much of it is done, from 0 to 1. */
  part?: Accessor<number>;
}

const [toasts, setToasts] = createSignal<Toast[]>([]);
let next = 1;

const dismiss = (id: number) => setToasts((all) => all.filter((t) => t.id !== id));

export function toast(text: string, options: {bad?: boolean; action?: Toast["action"]; ms?: number} = {}): void {
  const t: Toast = {id: next++, text, bad: options.bad === true, ...(options.action && {action: options.action})};
  setToasts((all) => [...all.slice(-3), t]);
  setTimeout(() => dismiss(t.id), options.ms ?? (options.action || options.bad ? 10_000 : 4000));
}

/** Something that takes its time, and can be cancelled. */
export function progress(text: string): {set: (part: number) => void; signal: AbortSignal; done: () => void} {
  const [part, set] = createSignal(0);
  const abort = new AbortController();
  const t: Toast = {id: next++, text, bad: false, part, action: {label: "Cancel", run: () => abort.abort()}};
  setToasts((all) => [...all.slice(-3), t]);
  return {set: (p) => void set(p), signal: abort.signal, done: () => dismiss(t.id)};
}

export function Toasts() {
  return (
    <div class="toasts" role="region" aria-label="Notifications">
      <div aria-live="polite" class="toasts-live">
        <For each={toasts()}>
          {(t) => (
            <div class="toast" classList={{bad: t.bad}}>
              <span>{t.text}</span>
              <Show when={t.part}>{(part) => <progress value={part()()} aria-label={t.text} />}</Show>
              <Show when={t.action}>
                {(action) => (
                  <button
                    class="button quiet"
                    onClick={() => {
                      dismiss(t.id);
                      action().run();
                    }}
                  >
                    {action().label}
                  </button>
                )}
              </Show>
              <Show when={!t.part}>
                <button class="icon-button" aria-label="Dismiss" onClick={() => dismiss(t.id)}>
                  <Icon name="close" />
                </button>
              </Show>
            </div>
          )}
        </For>
      </div>
    </div>
  );
}
