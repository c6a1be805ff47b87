// SPDX-License-Identifier: Apache-2.0
/** The tree of a workspace as the server has it. */
import {createMemo, createSignal, type Accessor, type Setter} from "solid-js";
import {Emitter} from "../core/event";
import {baseName, dirName, isInside} from "../core/path";
import * as api from "../net/api";
import type {Entry} from "../net/wire";

export interface Node {
  entry: Entry;
  name: string;
  depth: number;
  children: Node[];
}

/** Folders that tools fill: shown, but dimmed, and not searched. */
export const IGNORED = ["node_modules", ".git", "target", "__pycache__", ".venv", "dist", "build", ".cache"];
export const isIgnored = (path: string): boolean => path.split("/").some((part) => IGNORED.includes(part));

const order = (a: Node, b: Node): number =>
  a.entry.type === b.entry.type ? a.name.localeCompare(b.name, undefined, {numeric: true, sensitivity: "base"}) : a.entry.type === "directory" ? -1 : 1;

function build(entries: Entry[]): Node[] {
  const roots: Node[] = [];
  const folders = new Map<string, Node>();
  for (const entry of [...entries].sort((a, b) => (a.path < b.path ? -1 : 1))) {
    const parent = folders.get(dirName(entry.path));
    const node: Node = {entry, name: baseName(entry.path), depth: parent ? parent.depth + 1 : 0, children: []};
    (parent ? parent.children : roots).push(node);
    if (entry.type === "directory") folders.set(entry.path, node);
  }
  for (const node of folders.values()) node.children.sort(order);
  return roots.sort(order);
}

export interface Deleted {
  path: string;
  files: {path: string; content: api.Content | null}[];
}

export class Files {
  readonly entries: Accessor<Entry[]>;
  readonly byPath: Accessor<Map<string, Entry>>;
  readonly byId: Accessor<Map<string, Entry>>;
  readonly nodes: Accessor<Node[]>;
  /** Entries that are new, have another content, or are gone, after a look at the server. */
  readonly changed = new Emitter<void>();
  private setEntries: Setter<Entry[]>;
  private busy = 0;

  constructor(readonly workspace: string) {
    [this.entries, this.setEntries] = createSignal<Entry[]>([]);
    this.byPath = createMemo(() => new Map(this.entries().map((e) => [e.path, e])));
    this.byId = createMemo(() => new Map(this.entries().map((e) => [e.id, e])));
    this.nodes = createMemo(() => build(this.entries()));
  }

  exists = (path: string): boolean => this.byPath().has(path);

  async refresh(asked?: Promise<Entry[]>): Promise<void> {
    const before = this.busy;
    const entries = await (asked ?? api.tree(this.workspace));
    if (this.busy !== before) return; // a change of ours is newer than this answer
    const old = this.byId();
    const same = entries.length === old.size && entries.every((e) => old.get(e.id)?.etag === e.etag && old.get(e.id)?.path === e.path);
    if (same) return;
    this.setEntries(entries);
    this.changed.emit();
  }

  /** A change of ours, and then what the server made of it. */
  private async change<T>(what: () => Promise<T>): Promise<T> {
    this.busy++;
    try {
      return await what();
    } finally {
      this.busy++;
      await this.refresh().catch(() => undefined);
    }
  }

  private put(entry: Entry): Entry {
    this.setEntries([...this.entries().filter((e) => e.id !== entry.id), entry]);
    return entry;
  }

  /** After a save: the tree need not be asked. */
  noteEtag(id: string, etag: string): void {
    const e = this.byId().get(id);
    if (e && e.etag !== etag) this.put({...e, etag});
  }

  createFile = (path: string, content: api.Content): Promise<Entry> => this.change(async () => this.put(await api.createFile(this.workspace, path, content)));
  createFolder = (path: string): Promise<Entry> => this.change(async () => this.put(await api.createFolder(this.workspace, path)));
  move = (id: string, path: string): Promise<Entry> => this.change(() => api.moveFile(id, path));

  /** Makes or replaces one. */
  async write(path: string, content: api.Content): Promise<Entry> {
    const there = this.byPath().get(path);
    return there?.type === "file" ? this.change(() => api.writeFile(there.id, content)) : this.createFile(path, content);
  }

  /** Reads what is needed to bring it back, then deletes it. */
  async remove(entry: Entry): Promise<Deleted> {
    const inside = this.entries().filter((e) => isInside(e.path, entry.path));
    const files: Deleted["files"] = [];
    for (const e of inside) files.push({path: e.path, content: e.type === "directory" ? null : (await api.readFile(e.id)).content});
    await this.change(() => api.deleteFile(entry.id));
    return {path: entry.path, files};
  }

  async restore(deleted: Deleted): Promise<void> {
    await this.change(async () => {
      for (const f of deleted.files) {
        if (f.content === null) await api.createFolder(this.workspace, f.path).catch(() => undefined);
        else await api.createFile(this.workspace, f.path, f.content);
      }
    });
  }

  /** What has the same path is replaced. */
  upload = (dir: string, files: api.Upload[], progress: (part: number) => void, signal: AbortSignal): Promise<void> =>
    this.change(() => api.upload(this.workspace, dir, files, progress, signal));
}
