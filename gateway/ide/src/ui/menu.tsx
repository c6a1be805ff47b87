// SPDX-License-Identifier: Apache-2.0
/** Menus: at a button or at the pointer; arrows move, Escape and a click elsewhere close, focus goes back. */
import {createSignal, For, onCleanup, onMount, Show} from "solid-js";
import {find, keysOf} from "../core/commands";
import {Icon} from "./icons";

export type MenuItem =
  | {kind: "item"; title: string; about?: string; keys?: string; checked?: boolean; run: () => unknown}
  | {kind: "line"}
  | {kind: "title"; title: string};

interface Open {
  items: MenuItem[];
  x: number;
  y: number;
  label: string;
  from: Element | null;
}
const [open, setOpen] = createSignal<Open | null>(null);

export function commandItem(id: string, arg?: unknown, title?: string): MenuItem {
  const c = find(id);
  const keys = keysOf(id);
  return {kind: "item", title: title ?? c?.title ?? id, ...(keys && {keys}), run: () => c?.run(arg)};
}

export function openMenu(label: string, items: MenuItem[], at: Element | {x: number; y: number}): void {
  if (at instanceof Element) {
    const r = at.getBoundingClientRect();
    setOpen({items, label, x: r.left, y: r.bottom + 4, from: at});
  } else setOpen({items, label, ...at, from: document.activeElement});
}

function close(): void {
  const o = open();
  setOpen(null);
  if (o?.from instanceof HTMLElement) o.from.focus();
}

function MenuBox(props: {menu: Open}) {
  let box!: HTMLDivElement;
  const items = () => [...box.querySelectorAll<HTMLElement>('[role^="menuitem"]')];
  const move = (by: number) => {
    const all = items();
    const i = all.indexOf(document.activeElement as HTMLElement);
    all[(i + by + all.length) % all.length]?.focus();
  };
  const onKey = (e: KeyboardEvent) => {
    if (e.key === "ArrowDown") move(1);
    else if (e.key === "ArrowUp") move(-1);
    else if (e.key === "Home") items()[0]?.focus();
    else if (e.key === "End") items().at(-1)?.focus();
    else if (e.key === "Escape" || e.key === "Tab") close();
    else if (e.key.length === 1 && !e.ctrlKey && !e.metaKey && e.key !== " ") items().find((x) => x.textContent?.toLowerCase().startsWith(e.key.toLowerCase()))?.focus();
    else return;
    e.preventDefault();
    e.stopPropagation();
  };
  const outside = (e: Event) => {
    if (!box.contains(e.target as Node)) setOpen(null);
  };
  onMount(() => {
    const r = box.getBoundingClientRect();
    box.style.left = Math.max(8, Math.min(props.menu.x, innerWidth - r.width - 8)) + "px";
    box.style.top = Math.max(8, Math.min(props.menu.y, innerHeight - r.height - 8)) + "px";
    items()[0]?.focus();
    addEventListener("pointerdown", outside, true);
    onCleanup(() => removeEventListener("pointerdown", outside, true));
  });
  return (
    <div class="menu" role="menu" aria-label={props.menu.label} ref={box} onKeyDown={onKey}>
      <For each={props.menu.items}>
        {(item) =>
          item.kind === "line" ? (
            <div class="menu-line" role="separator" />
          ) : item.kind === "title" ? (
            <div class="menu-title" role="presentation">
              {item.title}
            </div>
          ) : (
            <button
              class="menu-item"
              role={item.checked === undefined ? "menuitem" : "menuitemradio"}
              aria-checked={item.checked}
              tabIndex={-1}
              onClick={() => {
                close();
                item.run();
              }}
            >
              <Show when={item.checked !== undefined}>
                <Icon name="check" />
              </Show>
              <span>{item.title}</span>
              <Show when={item.about}>
                <span class="about">{item.about}</span>
              </Show>
              <Show when={item.keys}>
                <kbd>{item.keys}</kbd>
              </Show>
            </button>
          )
        }
      </For>
    </div>
  );
}

export function Menus() {
  return (
    <Show when={open()} keyed>
      {(menu) => (
        <section aria-label="Menu">
          <MenuBox menu={menu} />
        </section>
      )}
    </Show>
  );
}
