// SPDX-License-Identifier: Apache-2.0
import {createSignal, For, Show} from "solid-js";
import {keysOf, listed} from "../core/commands";
import {Dialog} from "./dialog";

export const [help, setHelp] = createSignal(false);

/** Every key that does something, from the commands themselves. */
export function Help() {
  const keys = () => listed().filter((c) => c.keys?.length);
  return (
    <Show when={help()}>
      <Dialog title="Keyboard shortcuts" close={() => setHelp(false)}>
        <p>In the editor Tab indents; Ctrl+M lets it move on. F6 goes to the next part of the window.</p>
        <dl class="key-list" style={{"max-height": "50vh", overflow: "auto", "grid-template-columns": "1fr auto"}} tabIndex={0} aria-label="Shortcuts">
          <For each={keys()}>
            {(c) => (
              <>
                <dt style={{"text-align": "left"}}>{c.title}</dt>
                <dd>
                  <kbd>{keysOf(c.id)}</kbd>
                </dd>
              </>
            )}
          </For>
        </dl>
      </Dialog>
    </Show>
  );
}
