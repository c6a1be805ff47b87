// SPDX-License-Identifier: Apache-2.0
/** What is shown: the start page, or one workspace. */
import {createSignal} from "solid-js";
import * as api from "./net/api";
import {CallError, offline, reached, words} from "./net/http";
import {Project} from "./project/project";
import * as ahead from "./project/ahead";
import {keepTemplate} from "./session";
import {STARTERS} from "./project/starters";

export const [project, setProject] = createSignal<Project | null>(null);
export type Route = {page: "start"} | {page: "workspace"; id: string} | {page: "link"} | {page: "recover"; token: string};
export const [route, setRoute] = createSignal<Route>(read());
/** Why the workspace of the address cannot be shown, in words. */
export const [failure, setFailure] = createSignal("");
export const [online, setOnline] = createSignal(true);
export const [live, setLive] = createSignal(true);
export const [busy, setBusy] = createSignal("");

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // then nothing has this name
  }
}

function read(): Route {
  const [kind, name] = location.pathname.split("/").filter(Boolean);
  if (kind === "w" && name) return {page: "workspace", id: decoded(name)};
  // A link that is good leads on to its workspace before this page is asked for.
  if (kind === "s") return {page: "link"};
  if (kind === "recover") return {page: "recover", token: location.hash.slice(1)};
  return {page: "start"};
}

export function go(path: string, replace = false): void {
  if (replace) history.replaceState(null, "", path);
  else history.pushState(null, "", path);
  show();
}

/** Shows what the address says. */
export function show(): void {
  const r = read();
  setRoute(r);
  if (r.page === "workspace") {
    if (project()?.id !== r.id) void openWorkspace(r.id);
  } else {
    project()?.close();
    setProject(null);
    document.title = "DevBox";
  }
}
addEventListener("popstate", show);

async function openWorkspace(id: string): Promise<void> {
  project()?.close();
  setProject(null);
  setFailure("");
  try {
    const {info, tree} = ahead.workspace(id);
    const p = new Project(await info);
    const r = route();
    if (r.page !== "workspace" || r.id !== id) return p.close();
    setLive(true);
    p.transport.socket.state.on(setLive);
    p.transport.socket.revoked.on(() => {
      p.close();
      setProject(null);
      setFailure("This workspace is not shared with you any more, or it was deleted.");
    });
    await p.open(tree);
    setProject(p);
    document.title = p.info().name + " · DevBox";
    const line = /^#L(\d+)/.exec(location.hash);
    const file = new URLSearchParams(location.search).get("file");
    const e = file ? p.files.byPath().get(file) : undefined;
    if (e) reveal(e.id, Number(line?.[1] ?? 0));
  } catch (e) {
    if (offline(e)) setTimeout(() => route().page === "workspace" && !project() && void openWorkspace(id), 2000);
    const gone = e instanceof CallError && e.status === 404;
    setFailure(gone ? "There is no such workspace, or it is not shared with you." : words(e));
  }
}

function reveal(id: string, line: number): void {
  project()?.layout.open(id);
  if (line) setPending({id, line, column: 1});
}

/** A place that is to be shown as soon as the editor has the file. */
export interface Place {
  id: string;
  line: number;
  column: number;
}
export const [pending, setPending] = createSignal<Place | null>(null);

export async function create(template: string): Promise<void> {
  const starter = STARTERS[template];
  keepTemplate(template);
  const w = await api.createWorkspace(newName(), template);
  for (const [path, content] of Object.entries(starter?.files ?? {})) await api.createFile(w.id, path, content);
  go("/w/" + w.id);
}

const ADJECTIVES = ["quiet", "bright", "brave", "calm", "swift", "gentle", "clever", "sunny", "noble", "merry", "still", "keen"];
const NOUNS = ["otter", "cedar", "comet", "harbor", "maple", "falcon", "meadow", "lantern", "river", "willow", "ember", "heron"];
const pick = (list: string[]) => list[Math.floor(Math.random() * list.length)]!;
export const newName = (): string => pick(ADJECTIVES) + "-" + pick(NOUNS);

let probing = 0;
reached.on((yes) => {
  if (yes) {
    if (!online()) project()?.transport.wake();
    setOnline(true);
    return;
  }
  setOnline(false);
  if (probing) return;
  probing = window.setInterval(() => {
    if (online()) {
      clearInterval(probing);
      probing = 0;
      return;
    }
    void fetch("/api/version", {cache: "no-store"}).then(
      (a) => a.ok && reached.emit(true),
      () => undefined,
    );
  }, 1500);
});
