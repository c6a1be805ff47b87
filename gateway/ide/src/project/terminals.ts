// SPDX-License-Identifier: Apache-2.0
/** Shells of a workspace. Which ones there are is kept over a reload; the screen comes from the server's log again. */
import {createSignal, type Accessor, type Setter} from "solid-js";
import {isNumber, isObject, isString, recall, remember} from "../core/store";

export interface Terminal {
  /** Of this page. */
  key: number;
  name: string;
  /** The process; null until it was started. */
  process: string | null;
}

export class Terminals {
  readonly list: Accessor<Terminal[]>;
  readonly active: Accessor<number>;
  private setList: Setter<Terminal[]>;
  private setActive: Setter<number>;
  private next = 1;

  constructor(private workspace: string) {
    [this.list, this.setList] = createSignal<Terminal[]>([]);
    [this.active, this.setActive] = createSignal(0);
    const kept = recall<unknown[]>("terminals." + workspace, Array.isArray, []);
    const list: Terminal[] = [];
    for (const t of kept.slice(0, 10))
      if (isObject(t) && isNumber(t["key"]) && isString(t["name"]) && isString(t["process"])) list.push({key: t["key"], name: t["name"], process: t["process"]});
    this.next = Math.max(0, ...list.map((t) => t.key)) + 1;
    this.setList(list);
    this.setActive(list[0]?.key ?? 0);
  }

  private change(list: Terminal[]): void {
    this.setList(list);
    remember("terminals." + this.workspace, list.filter((t) => t.process));
  }

  open(): Terminal {
    const key = this.next++;
    const names = new Set(this.list().map((t) => t.name));
    let n = 1;
    while (names.has("Shell " + n)) n++;
    const terminal: Terminal = {key, name: "Shell " + n, process: null};
    this.change([...this.list(), terminal]);
    this.setActive(key);
    return terminal;
  }

  started(key: number, process: string): void {
    // The object stays: a view is bound to it.
    const t = this.list().find((x) => x.key === key);
    if (t) t.process = process;
    this.change([...this.list()]);
  }

  rename(key: number, name: string): void {
    this.change(this.list().map((t) => (t.key === key ? {...t, name} : t)));
  }

  select(key: number): void {
    this.setActive(key);
  }

  close(key: number): void {
    const list = this.list();
    const at = list.findIndex((t) => t.key === key);
    const rest = list.filter((t) => t.key !== key);
    if (this.active() === key) this.setActive(rest[Math.min(at, rest.length - 1)]?.key ?? 0);
    this.change(rest);
  }
}
