// SPDX-License-Identifier: Apache-2.0
/** Shells of a workspace. Which ones there are is kept over a reload; the screen comes from the server's log again: from its first byte, or
 *  from the mark before the last, with the modes of that place, so that a shell that wrote much is back as quickly as one that did not. */
import {createSignal, type Accessor, type Setter} from "solid-js";
import {isNumber, isObject, isString, recall, remember} from "../core/store";

export interface Terminal {
  /** Of this page. */
  key: number;
  name: string;
  /** The process; null until it was started. */
  process: string | null;
  /** Terminals of one group stand side by side. */
  group: number;
  marks: Mark[];
  first?: First;
}

/** What runs in it instead of a shell, until it ends. */
export interface First {
  command: string;
  ended: () => void;
}

/** A place in the output. */
export interface Mark {
  /** Of the last message before it. */
  id: string;
  /** What sets the modes that held there. */
  modes: string;
}
const MAX_MARKS = 2;
const isMark = (v: unknown): v is Mark => isObject(v) && isString(v["id"]) && /^\w{1,80}$/.test(v["id"]) && isString(v["modes"]) && v["modes"].length < 500;

function terminal(v: unknown): Terminal | null {
  if (!isObject(v) || !isNumber(v["key"]) || !isString(v["name"]) || !isString(v["process"])) return null;
  const marks = Array.isArray(v["marks"]) ? v["marks"].filter(isMark).slice(-MAX_MARKS) : [];
  return {key: v["key"], name: v["name"], process: v["process"], group: isNumber(v["group"]) ? v["group"] : v["key"], marks};
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
    const list = kept.slice(0, 10).map(terminal).filter((t) => t !== null);
    this.next = Math.max(0, ...list.map((t) => t.key)) + 1;
    this.setList(list);
    this.setActive(list[0]?.key ?? 0);
  }

  private change(list: Terminal[]): void {
    this.setList(list);
    this.keep();
  }
  private keep(): void {
    remember("terminals." + this.workspace, this.list().filter((t) => t.process));
  }

  /** beside: stands at the side of that one. */
  open(how: {beside?: number; name?: string; first?: First} = {}): Terminal {
    const key = this.next++;
    const names = new Set(this.list().map((t) => t.name));
    let n = 1;
    while (names.has("Shell " + n)) n++;
    const at = this.list().findIndex((t) => t.key === how.beside);
    const opened: Terminal = {key, name: how.name ?? "Shell " + n, process: null, group: this.list()[at]?.group ?? key, marks: []};
    if (how.first) opened.first = how.first;
    const list = [...this.list()];
    list.splice(at < 0 ? list.length : at + 1, 0, opened);
    this.change(list);
    this.setActive(key);
    return opened;
  }

  /** Those that are shown: the group of the active one. */
  get shown(): Terminal[] {
    const group = this.list().find((t) => t.key === this.active())?.group;
    return this.list().filter((t) => t.group === group);
  }

  started(key: number, process: string): void {
    // The object stays: a view is bound to it.
    const t = this.list().find((x) => x.key === key);
    if (t) {
      t.process = process;
      t.marks = [];
    }
    this.change([...this.list()]);
  }

  mark(key: number, mark: Mark): void {
    const t = this.list().find((x) => x.key === key);
    if (!t) return;
    t.marks = [...t.marks, mark].slice(-MAX_MARKS);
    this.keep();
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
    const beside = rest.find((t) => t.group === list[at]?.group);
    if (this.active() === key) this.setActive((beside ?? rest[Math.min(at, rest.length - 1)])?.key ?? 0);
    this.change(rest);
  }
}
