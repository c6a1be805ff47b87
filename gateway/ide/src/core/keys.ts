// SPDX-License-Identifier: Apache-2.0
/** Key bindings as text: "Mod+Shift+P". Mod is ⌘ on a Mac, Ctrl elsewhere. */
export const isMac = typeof navigator !== "undefined" && /Mac|iPhone|iPad/.test(navigator.platform);

interface Chord {
  mod: boolean;
  ctrl: boolean;
  shift: boolean;
  alt: boolean;
  key: string;
}

const parsed = new Map<string, Chord>();

function parse(binding: string): Chord {
  let chord = parsed.get(binding);
  if (!chord) {
    const parts = binding.split("+");
    const key = parts.pop()!;
    const has = (name: string) => parts.includes(name);
    chord = {mod: has("Mod"), ctrl: has("Ctrl"), shift: has("Shift"), alt: has("Alt"), key: key.toLowerCase()};
    parsed.set(binding, chord);
  }
  return chord;
}

/** What was pressed, by its letter; where a layout or Alt gives another one, by its place. */
function keysOf(e: KeyboardEvent): string[] {
  const keys = [e.key.toLowerCase()];
  if (e.code.startsWith("Key")) keys.push(e.code.slice(3).toLowerCase());
  else if (e.code.startsWith("Digit")) keys.push(e.code.slice(5));
  else if (e.code === "Backquote") keys.push("`");
  else if (e.code === "Backslash") keys.push("\\");
  return keys;
}

export function matches(binding: string, e: KeyboardEvent): boolean {
  const c = parse(binding);
  const ctrl = isMac ? c.ctrl : c.ctrl || c.mod;
  const meta = isMac && c.mod;
  return e.ctrlKey === ctrl && e.metaKey === meta && e.shiftKey === c.shift && e.altKey === c.alt && keysOf(e).includes(c.key);
}

const SYMBOLS: Record<string, string> = {...(isMac && {enter: "↵"}), arrowup: "↑", arrowdown: "↓", arrowleft: "←", arrowright: "→", escape: "Esc"};

/** For people: "Ctrl+Shift+P", on a Mac "⇧⌘P". */
export function label(binding: string): string {
  const c = parse(binding);
  const key = SYMBOLS[c.key] ?? (c.key.length === 1 ? c.key.toUpperCase() : c.key[0]!.toUpperCase() + c.key.slice(1));
  if (isMac) return (c.ctrl ? "⌃" : "") + (c.alt ? "⌥" : "") + (c.shift ? "⇧" : "") + (c.mod ? "⌘" : "") + key;
  return [...(c.ctrl || c.mod ? ["Ctrl"] : []), ...(c.alt ? ["Alt"] : []), ...(c.shift ? ["Shift"] : []), key].join("+");
}

/** For aria-keyshortcuts. */
export function ariaKeys(binding: string): string {
  return binding.replace("Mod", isMac ? "Meta" : "Control").replace("Ctrl", "Control");
}
