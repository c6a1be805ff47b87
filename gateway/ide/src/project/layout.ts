// SPDX-License-Identifier: Apache-2.0
/** Editor groups and their tabs, and the sizes of the parts around them; kept over a reload. */
import {createStore, produce, type SetStoreFunction} from "solid-js/store";
import {isNumber, isObject, isString, recall, remember} from "../core/store";

export interface Group {
  id: number;
  tabs: string[];
  active: string | null;
  /** The tab that the next one replaces. */
  preview: string | null;
}
export const SIDE_VIEWS = ["files", "search", "packages"] as const;
export type SideView = (typeof SIDE_VIEWS)[number];
export type PanelView = "output" | "terminal" | "problems";

export interface LayoutState {
  groups: Group[];
  activeGroup: number;
  side: SideView;
  sideOpen: boolean;
  sideWidth: number;
  panel: PanelView;
  panelOpen: boolean;
  panelHeight: number;
  expanded: string[];
}

const strings = (v: unknown): string[] => (Array.isArray(v) ? v.filter(isString) : []);

function group(v: unknown): Group | null {
  if (!isObject(v) || !isNumber(v["id"])) return null;
  const tabs = strings(v["tabs"]);
  const pick = (x: unknown) => (isString(x) && tabs.includes(x) ? x : null);
  return {id: v["id"], tabs, active: pick(v["active"]) ?? tabs[0] ?? null, preview: pick(v["preview"])};
}

function restored(v: Record<string, unknown>): LayoutState {
  const groups = (Array.isArray(v["groups"]) ? v["groups"].slice(0, 3) : []).map(group).filter((g) => g !== null);
  if (!groups.length) groups.push({id: 1, tabs: [], active: null, preview: null});
  const size = (x: unknown, otherwise: number) => (isNumber(x) && x >= 80 && x <= 2000 ? x : otherwise);
  return {
    groups,
    activeGroup: groups.some((g) => g.id === v["activeGroup"]) ? (v["activeGroup"] as number) : groups[0]!.id,
    side: SIDE_VIEWS.find((x) => x === v["side"]) ?? "files",
    sideOpen: v["sideOpen"] !== false,
    sideWidth: size(v["sideWidth"], 248),
    panel: v["panel"] === "terminal" || v["panel"] === "problems" ? v["panel"] : "output",
    panelOpen: v["panelOpen"] !== false,
    panelHeight: size(v["panelHeight"], 240),
    expanded: strings(v["expanded"]),
  };
}

export class Layout {
  readonly state: LayoutState;
  private set: SetStoreFunction<LayoutState>;
  private closed: string[] = [];
  private recent: string[] = [];
  private key: string;
  private fresh: boolean;

  constructor(workspace: string) {
    this.key = "layout." + workspace;
    const kept = recall<Record<string, unknown>>(this.key, isObject, {});
    this.fresh = Object.keys(kept).length === 0;
    [this.state, this.set] = createStore(restored(kept));
  }

  /** Never shown before: the caller opens what one begins with. */
  get isFresh(): boolean {
    return this.fresh;
  }

  change(change: (s: LayoutState) => void): void {
    this.set(produce(change));
    remember(this.key, this.state);
  }

  get group(): Group {
    return this.state.groups.find((g) => g.id === this.state.activeGroup) ?? this.state.groups[0]!;
  }
  get active(): string | null {
    return this.group.active;
  }
  /** Open files, the last used first. */
  get recentFiles(): string[] {
    return this.recent;
  }

  open(file: string, how: {preview?: boolean; group?: number} = {}): void {
    this.recent = [file, ...this.recent.filter((f) => f !== file)].slice(0, 50);
    this.change((s) => {
      const g = s.groups.find((x) => x.id === (how.group ?? s.activeGroup)) ?? s.groups[0]!;
      s.activeGroup = g.id;
      if (!g.tabs.includes(file)) {
        const at = g.preview ? g.tabs.indexOf(g.preview) : -1;
        if (at >= 0 && how.preview) g.tabs.splice(at, 1, file);
        else g.tabs.splice(g.active ? g.tabs.indexOf(g.active) + 1 : g.tabs.length, 0, file);
        if (how.preview) g.preview = file;
      } else if (!how.preview && g.preview === file) g.preview = null;
      g.active = file;
    });
  }

  keep(file: string): void {
    if (!this.state.groups.some((g) => g.preview === file)) return;
    this.change((s) => s.groups.forEach((g) => g.preview === file && (g.preview = null)));
  }

  close(file: string, groupId = this.state.activeGroup): void {
    this.closed.push(file);
    this.change((s) => {
      const g = s.groups.find((x) => x.id === groupId);
      const at = g ? g.tabs.indexOf(file) : -1;
      if (!g || at < 0) return;
      g.tabs.splice(at, 1);
      if (g.preview === file) g.preview = null;
      if (g.active === file) g.active = this.recent.find((f) => f !== file && g.tabs.includes(f)) ?? g.tabs[Math.min(at, g.tabs.length - 1)] ?? null;
      if (!g.tabs.length && s.groups.length > 1) {
        s.groups = s.groups.filter((x) => x !== g);
        s.activeGroup = s.groups[0]!.id;
      }
    });
  }

  forget(file: string): void {
    for (const g of [...this.state.groups]) if (g.tabs.includes(file)) this.close(file, g.id);
    this.closed = this.closed.filter((f) => f !== file);
  }

  reopen(exists: (file: string) => boolean): void {
    for (let file = this.closed.pop(); file; file = this.closed.pop())
      if (exists(file)) {
        this.open(file);
        return;
      }
  }

  split(): void {
    const file = this.active;
    if (this.state.groups.length >= 3 || !file) return;
    this.change((s) => {
      const id = Math.max(...s.groups.map((g) => g.id)) + 1;
      const at = s.groups.findIndex((g) => g.id === s.activeGroup);
      s.groups.splice(at + 1, 0, {id, tabs: [file], active: file, preview: null});
      s.activeGroup = id;
    });
  }

  focusGroup(id: number): void {
    if (this.state.activeGroup !== id) this.change((s) => (s.activeGroup = id));
  }

  /** Next tab of the group, around the end. */
  step(by: number): void {
    const g = this.group;
    if (!g.active || g.tabs.length < 2) return;
    const i = (g.tabs.indexOf(g.active) + by + g.tabs.length) % g.tabs.length;
    this.open(g.tabs[i]!);
  }

  moveTab(file: string, from: number, to: number, before: string | null): void {
    this.change((s) => {
      const a = s.groups.find((g) => g.id === from);
      const b = s.groups.find((g) => g.id === to);
      if (!a || !b) return;
      a.tabs = a.tabs.filter((t) => t !== file);
      if (a.active === file) a.active = a.tabs[0] ?? null;
      if (a.preview === file) a.preview = null;
      b.tabs = b.tabs.filter((t) => t !== file);
      const at = before ? b.tabs.indexOf(before) : -1;
      b.tabs.splice(at < 0 ? b.tabs.length : at, 0, file);
      b.active = file;
      s.activeGroup = b.id;
      if (!a.tabs.length && s.groups.length > 1) s.groups = s.groups.filter((g) => g !== a);
    });
  }
}
