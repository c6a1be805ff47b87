// SPDX-License-Identifier: Apache-2.0
/** Short words about what happened, with at most one thing to do about it. */
import {createSignal, For, Show} from "solid-js";
import {Icon} from "./icons";

interface Toast {
  id: number;
  text: string;
  bad: boolean;
  action?: {label: string; run: () => void};
}

const [toasts, setToasts] = createSignal<Toast[]>([]);
let next = 1;

const dismiss = (id: number) => setToasts((all) => all.filter((t) => t.id !== id));

export function toast(text: string, options: {bad?: boolean; action?: Toast["action"]; ms?: number} = {}): void {
  const t: Toast = {id: next++, text, bad: options.bad === true, ...(options.action && {action: options.action})};
  setToasts((all) => [...all.slice(-3), t]);
  setTimeout(() => dismiss(t.id), options.ms ?? (options.action || options.bad ? 10_000 : 4000));
}

export function Toasts() {
  return (
    <div class="toasts" role="region" aria-label="Notifications">
      <div aria-live="polite" class="toasts-live">
        <For each={toasts()}>
          {(t) => (
            <div class="toast" classList={{bad: t.bad}}>
              <span>{t.text}</span>
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
              <button class="icon-button" aria-label="Dismiss" onClick={() => dismiss(t.id)}>
                <Icon name="close" />
              </button>
            </div>
          )}
        </For>
      </div>
    </div>
  );
}
