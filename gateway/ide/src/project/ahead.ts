// SPDX-License-Identifier: Apache-2.0
/** What the address will need, asked for at once: the workspace, its tree, and the file that was in front, while it is not yet known who
 *  asks and while Monaco is on its way. Each is taken once. */
import {isObject, isString, recall} from "../core/store";
import * as api from "../net/api";
import type {Entry, WorkspaceInfo} from "../net/wire";

export interface Ahead {
  info: Promise<WorkspaceInfo>;
  tree: Promise<Entry[]>;
}

const opened = new Map<string, Ahead>();
const contents = new Map<string, Promise<api.FileContent>>();

/** What was asked too early (nobody was signed in) is asked again. */
function orAgain<T>(asked: Promise<T> | undefined, ask: () => Promise<T>): Promise<T> {
  return quiet(asked ? asked.catch(ask) : ask());
}

/** Told to whoever takes it, not to the console. */
function quiet<T>(p: Promise<T>): Promise<T> {
  p.catch(() => undefined);
  return p;
}

/** The file in front, as this browser remembers it. */
function inFront(workspace: string): string | null {
  const layout = recall<Record<string, unknown>>("layout." + workspace, isObject, {});
  const groups: unknown[] = Array.isArray(layout["groups"]) ? layout["groups"] : [];
  const group = groups.find((g) => isObject(g) && g["id"] === layout["activeGroup"]);
  return isObject(group) && isString(group["active"]) ? group["active"] : null;
}

export function ask(workspace: string): void {
  opened.set(workspace, {info: quiet(api.workspace(workspace)), tree: quiet(api.tree(workspace))});
  const file = inFront(workspace);
  if (file) contents.set(file, quiet(api.readFile(file)));
}

export function workspace(id: string): Ahead {
  const there = opened.get(id);
  opened.delete(id);
  return {info: orAgain(there?.info, () => api.workspace(id)), tree: orAgain(there?.tree, () => api.tree(id))};
}

export function content(file: string): Promise<api.FileContent> {
  const there = contents.get(file);
  contents.delete(file);
  return orAgain(there, () => api.readFile(file));
}
