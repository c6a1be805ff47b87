// SPDX-License-Identifier: Apache-2.0
import {label, matches} from "./keys";

/** Everything a person can do. The palette, menus, tooltips and key bindings are derived from it. */
export interface Command {
  id: string;
  title: string;
  category?: string;
  keys?: string[];
  /** Whether it can be done now; absent: always. */
  when?: () => boolean;
  /** Not shown in the palette. */
  hidden?: boolean;
  run: (arg?: unknown) => unknown;
}

const commands = new Map<string, Command>();

export function register(list: Command[]): void {
  for (const c of list) commands.set(c.id, c);
}

export const find = (id: string): Command | undefined => commands.get(id);
export const available = (c: Command): boolean => !c.when || c.when();
export const listed = (): Command[] => [...commands.values()].filter((c) => !c.hidden && available(c));

export function execute(id: string, arg?: unknown): unknown {
  const c = commands.get(id);
  return c && available(c) ? c.run(arg) : undefined;
}

/** The first key binding of a command, for people; "" when it has none. */
export function keysOf(id: string): string {
  const keys = commands.get(id)?.keys;
  return keys?.[0] ? label(keys[0]) : "";
}

/** "Run (Ctrl+Enter)" */
export function hint(id: string, title = commands.get(id)?.title ?? ""): string {
  const keys = keysOf(id);
  return keys ? title + " (" + keys + ")" : title;
}

/** Runs the command that a key is bound to; returns whether there was one. */
export function dispatch(e: KeyboardEvent): boolean {
  for (const c of commands.values()) {
    if (!c.keys?.some((k) => matches(k, e)) || !available(c)) continue;
    e.preventDefault();
    e.stopPropagation();
    c.run();
    return true;
  }
  return false;
}
