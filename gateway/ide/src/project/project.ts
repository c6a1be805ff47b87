// SPDX-License-Identifier: Apache-2.0
/** One open workspace: its files, documents, layout, program and shells. */
import {createSignal, type Accessor, type Setter} from "solid-js";
import {isInside} from "../core/path";
import {isString, recall, remember} from "../core/store";
import * as api from "../net/api";
import {offline, reached} from "../net/http";
import {Transport} from "../net/transport";
import {roleOf, type Entry, type WorkspaceInfo} from "../net/wire";
import {Document} from "./document";
import {Files} from "./files";
import {Layout} from "./layout";
import {Run} from "./run";
import {CONFIG_PATH, defaultConfigs, readConfigs, type RunConfig} from "./runConfigs";
import {STARTERS} from "./starters";
import {Terminals} from "./terminals";
import {Views} from "./views";

const REFRESH_MS = 4000;

export class Project {
  readonly info: Accessor<WorkspaceInfo>;
  readonly setInfo: Setter<WorkspaceInfo>;
  readonly files: Files;
  readonly layout: Layout;
  readonly transport: Transport;
  readonly run: Run;
  readonly terminals: Terminals;
  readonly views: Views;
  readonly ready: Accessor<boolean>;
  readonly configs: Accessor<RunConfig[]>;
  readonly configName: Accessor<string>;
  readonly configProblem: Accessor<string>;
  private setConfigs: Setter<RunConfig[]>;
  private setConfigName: Setter<string>;
  private setConfigProblem: Setter<string>;
  private configEtag = "";
  private setReady: Setter<boolean>;
  private documents = new Map<string, Document>();
  private opening = createSignal(0);
  private timer = 0;
  private soon = 0;
  private stops: (() => void)[] = [];

  constructor(info: WorkspaceInfo) {
    [this.info, this.setInfo] = createSignal(info);
    [this.ready, this.setReady] = createSignal(false);
    [this.configs, this.setConfigs] = createSignal<RunConfig[]>(defaultConfigs(info.template));
    [this.configName, this.setConfigName] = createSignal(recall("config." + info.id, isString, ""));
    [this.configProblem, this.setConfigProblem] = createSignal("");
    this.transport = new Transport(info.id);
    this.files = new Files(info.id);
    this.layout = new Layout(info.id);
    this.terminals = new Terminals(info.id);
    this.views = new Views(info.id);
    this.run = new Run(info.id, this.transport, this.files.exists, () => this.flush());
    this.stops.push(this.files.changed.on(() => this.follow()));
    this.stops.push(
      reached.on((yes) => {
        if (!yes) return;
        for (const d of this.documents.values()) d.retry();
      }),
    );
    this.stops.push(
      this.transport.socket.role.on((role) => {
        if (roleOf(role) !== this.info().role) this.setInfo({...this.info(), role: roleOf(role)});
      }),
    );
    this.stops.push(
      this.transport.socket.tree.on((all) => {
        clearTimeout(this.soon);
        if (all && this.ready()) return void this.files.refresh(Promise.resolve(all));
        this.soon = window.setTimeout(() => void this.files.refresh().catch(() => undefined), 40);
      }),
    );
    const leaving = () => this.keepDrafts();
    window.addEventListener("pagehide", leaving);
    const visible = () => {
      if (document.visibilityState === "hidden") this.keepDrafts();
      else this.poll("once");
    };
    document.addEventListener("visibilitychange", visible);
    this.stops.push(() => {
      window.removeEventListener("pagehide", leaving);
      document.removeEventListener("visibilitychange", visible);
    });
  }

  get id(): string {
    return this.info().id;
  }
  get readOnly(): boolean {
    return this.info().role === "viewer";
  }

  /** The tree and what was open; throws when the tree cannot be had. */
  async open(tree: Promise<Entry[]>): Promise<void> {
    await this.files.refresh(tree);
    for (const g of this.layout.state.groups) for (const id of g.tabs) if (!this.files.byId().has(id)) this.layout.forget(id);
    if (this.layout.isFresh) {
      const first = this.files.byPath().get(STARTERS[this.info().template]?.open ?? "") ?? this.files.entries().find((e) => e.type === "file");
      if (first) this.layout.open(first.id);
      this.layout.change((s) => (s.expanded = this.files.entries().filter((e) => e.type === "directory" && first && isInside(first.path, e.path)).map((e) => e.id)));
    }
    this.setReady(true);
    void this.run.restore();
    this.poll("later");
  }

  private poll(at: "once" | "later"): void {
    clearTimeout(this.timer);
    const again = () => (this.timer = window.setTimeout(() => void tick(), REFRESH_MS));
    let quiet = 0;
    const tick = async () => {
      // Where the socket tells, asking is for what it may have missed.
      quiet = this.transport.socket.live ? (quiet + 1) % 8 : 0;
      if (document.visibilityState === "visible" && !quiet) await this.files.refresh().catch(() => undefined);
      again();
    };
    if (at === "once") void tick();
    else again();
  }

  /** What changed in the tree and is open here. */
  private follow(): void {
    for (const [id, d] of this.documents) {
      const e = this.files.byId().get(id);
      if (!e) d.markGone();
      else {
        if (e.path !== d.path()) d.setPath(e.path);
        if (e.etag) void d.changedElsewhere(e.etag);
      }
    }
    void this.loadConfigs();
  }

  // --- documents ---

  /** The document of a file, opened when it is not yet. */
  document(id: string): Document | null {
    let d = this.documents.get(id);
    const e = this.files.byId().get(id);
    if (!d && e?.type === "file") {
      d = new Document(this.id, id, e.path, () => this.readOnly);
      this.documents.set(id, d);
      queueMicrotask(() => this.opening[1]((n) => n + 1));
    }
    return d ?? null;
  }
  opened(id: string): Document | undefined {
    this.opening[0]();
    return this.documents.get(id);
  }
  get active(): Document | null {
    const id = this.layout.active;
    return id ? this.document(id) : null;
  }
  /** Frees documents that stand in no tab any more and are saved. */
  sweep(): void {
    const shown = new Set(this.layout.state.groups.flatMap((g) => g.tabs));
    for (const [id, d] of this.documents)
      if (!shown.has(id) && !d.dirty) {
        d.close();
        this.documents.delete(id);
      }
  }
  /** Saves everything that is not; returns the paths of what could not be saved. */
  async flush(): Promise<string[]> {
    const dirty = [...this.documents.values()].filter((d) => d.dirty || d.state() === "failed");
    await Promise.all(dirty.map((d) => d.save()));
    return dirty.filter((d) => d.state() !== "saved").map((d) => d.path());
  }
  keepDrafts(): void {
    for (const d of this.documents.values()) d.keepDraft();
  }
  get unsaved(): Document[] {
    return [...this.documents.values()].filter((d) => d.dirty);
  }

  /** Forgets what was deleted: its tabs go. */
  forget(path: string): void {
    for (const e of this.files.entries().filter((x) => isInside(x.path, path))) this.drop(e);
  }
  private drop(e: Entry): void {
    this.layout.forget(e.id);
    this.documents.get(e.id)?.close();
    this.documents.delete(e.id);
  }

  // --- run configurations ---

  private async loadConfigs(): Promise<void> {
    const e = this.files.byPath().get(CONFIG_PATH);
    if ((e?.etag ?? "") === this.configEtag) return;
    this.configEtag = e?.etag ?? "";
    const text = e ? await api.readFile(e.id).catch(() => null) : null;
    if (!e || !text || typeof text.content !== "string") {
      this.setConfigs(defaultConfigs(this.info().template));
      this.setConfigProblem("");
      return;
    }
    const {configs, problem} = readConfigs(text.content);
    this.setConfigProblem(problem);
    this.setConfigs(configs.length ? configs : defaultConfigs(this.info().template));
  }
  get config(): RunConfig | undefined {
    return this.configs().find((c) => c.name === this.configName()) ?? this.configs()[0];
  }
  chooseConfig(name: string): void {
    this.setConfigName(name);
    remember("config." + this.id, name);
  }

  async rename(name: string): Promise<void> {
    this.setInfo(await api.changeWorkspace(this.id, {name}));
  }

  /** The network went and came back, or may have. */
  async probe(): Promise<boolean> {
    try {
      await this.files.refresh();
      this.transport.wake();
      return true;
    } catch (e) {
      return !offline(e);
    }
  }

  close(): void {
    clearTimeout(this.timer);
    clearTimeout(this.soon);
    this.keepDrafts();
    for (const stop of this.stops) stop();
    this.run.close();
    this.transport.close();
    for (const d of this.documents.values()) d.close();
  }
}
