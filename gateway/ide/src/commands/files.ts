// SPDX-License-Identifier: Apache-2.0
import {register} from "../core/commands";
import {baseName, dirName, isInside, join} from "../core/path";
import {isObject, isString, isNumber} from "../core/store";
import {project, setPending} from "../app";
import * as api from "../net/api";
import {words} from "../net/http";
import {Document} from "../project/document";
import {chooseFiles, fromFile, isFile, MAX_FILE, saveAs, type Dropped} from "../project/dropped";
import {editing, focusedPath, setEditing} from "../ui/tree";
import {focusOn} from "../ui/focus";
import {ask} from "../ui/dialog";
import {progress, toast} from "../ui/toast";

const writable = () => project() !== null && !project()!.readOnly;
const open = () => project() !== null;

/** Tells in words when it does not work. */
async function attempt(what: () => Promise<unknown>): Promise<void> {
  try {
    await what();
  } catch (e) {
    toast(words(e), {bad: true});
  }
}

/** The folder of what is focused in the tree. */
function folderHere(): string {
  const e = project()?.files.byPath().get(focusedPath());
  return !e ? "" : e.type === "directory" ? e.path : dirName(e.path);
}
const pathHere = (arg: unknown): string => (isString(arg) ? arg : focusedPath() || project()?.active?.path() || "");
const fileOf = (arg: unknown) => project()?.files.byId().get(isString(arg) ? arg : (project()?.layout.active ?? ""));

function startName(kind: "file" | "directory", arg: unknown): void {
  const p = project()!;
  p.layout.change((s) => {
    s.sideOpen = true;
    s.side = "files";
  });
  setEditing({kind, at: isString(arg) ? arg : folderHere()});
}

async function remove(path: string): Promise<void> {
  const p = project()!;
  const entry = p.files.byPath().get(path);
  if (!entry) return;
  await p.flush();
  const deleted = await p.files.remove(entry);
  p.forget(path);
  for (const e of deleted.files) {
    const id = p.files.byPath().get(e.path)?.id;
    if (id) p.layout.forget(id);
  }
  toast("Deleted " + baseName(path), {action: {label: "Undo", run: () => void attempt(() => p.files.restore(deleted))}});
}

async function upload(dir: string, dropped: Dropped[]): Promise<void> {
  const p = project()!;
  for (const d of dropped) if (!isFile(d) && !p.files.exists(join(dir, d.path))) await p.files.createFolder(join(dir, d.path));
  const files = dropped.filter(isFile);
  const fitting = files.filter((f) => f.data.size <= MAX_FILE);
  if (fitting.length < files.length) toast(files.length - fitting.length + " of them are larger than 16 MB and stay out.", {bad: true});
  if (!fitting.length) return;
  const there = fitting.filter((f) => p.files.exists(join(dir, f.path)));
  const what = there.length === 1 ? "“" + there[0]!.path + "”" : there.length + " files";
  if (there.length && (await ask({title: "Replace " + what + "?", text: "Here " + (there.length === 1 ? "is a file" : "are files") + " of the same name already.", ok: "Replace", danger: true})) === null) return;
  await p.flush();
  const name = fitting.length === 1 ? fitting[0]!.path : fitting.length + " files";
  const bar = progress("Uploading " + name);
  try {
    await p.files.upload(dir, fitting, bar.set, bar.signal);
  } finally {
    bar.done();
  }
  toast("Uploaded " + name);
}

async function move(from: string, to: string): Promise<void> {
  const p = project()!;
  const entry = p.files.byPath().get(from);
  if (!entry || from === to) return;
  if (isInside(to, from)) throw new Error("A folder cannot go into itself.");
  await p.flush();
  await p.files.move(entry.id, to);
}

register([
  {
    id: "file.open",
    title: "Open",
    hidden: true,
    when: open,
    run: (arg) => {
      const p = project()!;
      if (!isObject(arg) || !isString(arg["id"]) || p.files.byId().get(arg["id"])?.type !== "file") return;
      p.layout.open(arg["id"], {preview: arg["preview"] === true});
      p.sweep();
      if (isNumber(arg["line"])) setPending({id: arg["id"], line: arg["line"], column: isNumber(arg["column"]) ? arg["column"] : 1});
    },
  },
  {
    id: "file.openAside",
    title: "Open to the side",
    hidden: true,
    when: open,
    run: (arg) => {
      if (!isString(arg)) return;
      project()!.layout.open(arg);
      project()!.layout.split();
    },
  },
  {id: "file.new", title: "New file", category: "File", keys: ["Alt+N"], when: () => writable() && !editing(), run: (arg) => startName("file", arg)},
  {id: "folder.new", title: "New folder", category: "File", when: () => writable() && !editing(), run: (arg) => startName("directory", arg)},
  {
    id: "file.create",
    title: "Create",
    hidden: true,
    when: writable,
    run: (arg) =>
      attempt(async () => {
        if (!isString(arg)) return;
        const entry = await project()!.files.createFile(arg, "");
        project()!.layout.open(entry.id);
      }),
  },
  {id: "folder.create", title: "Create", hidden: true, when: writable, run: (arg) => attempt(async () => isString(arg) && (await project()!.files.createFolder(arg)))},
  {id: "file.rename", title: "Rename", category: "File", when: writable, run: (arg) => (project()!.layout.change((s) => ((s.sideOpen = true), (s.side = "files"))), setEditing({kind: "rename", at: pathHere(arg)}))},
  {id: "file.renameTo", title: "Rename", hidden: true, when: writable, run: (arg) => attempt(async () => isObject(arg) && isString(arg["path"]) && isString(arg["to"]) && (await move(arg["path"], arg["to"])))},
  {
    id: "file.move",
    title: "Move",
    hidden: true,
    when: writable,
    run: (arg) =>
      attempt(async () => {
        if (!isObject(arg) || !isString(arg["path"]) || !isString(arg["to"])) return;
        const from = arg["path"];
        const to = join(arg["to"], baseName(from));
        if (from === to) return;
        await move(from, to);
        toast("Moved " + baseName(from) + " to " + (arg["to"] || "the top"), {action: {label: "Undo", run: () => void attempt(() => move(to, from))}});
      }),
  },
  {id: "file.delete", title: "Delete", category: "File", when: writable, run: (arg) => attempt(() => remove(pathHere(arg)))},
  {id: "folder.upload", title: "Upload a folder", category: "File", when: writable, run: (arg) => attempt(async () => upload(isString(arg) ? arg : folderHere(), (await chooseFiles({folder: true})).map(fromFile)))},
  {id: "file.upload", title: "Upload files", category: "File", when: writable, run: (arg) => attempt(async () => upload(isString(arg) ? arg : folderHere(), (await chooseFiles()).map(fromFile)))},
  {id: "file.uploadInto", title: "Upload", hidden: true, when: writable, run: (arg) => attempt(async () => isObject(arg) && isString(arg["dir"]) && (await upload(arg["dir"], arg["files"] as Dropped[])))},
  {
    id: "file.download",
    title: "Download",
    category: "File",
    when: open,
    run: (arg) =>
      attempt(async () => {
        const e = fileOf(arg);
        if (!e) return;
        const {content} = await api.readFile(e.id);
        saveAs(baseName(e.path), content as BlobPart);
      }),
  },
  {
    id: "workspace.download",
    title: "Download all files as a zip",
    category: "Workspace",
    when: open,
    run: () =>
      attempt(async () => {
        const p = project()!;
        await p.flush();
        saveAs(p.info().name.replace(/[^\w.-]+/g, "-") + ".zip", await api.archive(p.id));
      }),
  },
  {
    id: "file.copyPath",
    title: "Copy path",
    category: "File",
    when: open,
    run: (arg) =>
      attempt(async () => {
        const e = fileOf(arg);
        if (!e) return;
        await navigator.clipboard.writeText(e.path);
        toast("Copied " + e.path);
      }),
  },
  {
    id: "file.reveal",
    title: "Show in the tree",
    category: "File",
    when: open,
    run: (arg) => {
      const p = project()!;
      const e = fileOf(arg);
      if (!e) return;
      const folders = p.files.entries().filter((x) => x.type === "directory" && isInside(e.path, x.path));
      p.layout.change((s) => {
        s.sideOpen = true;
        s.side = "files";
        s.expanded = [...new Set([...s.expanded, ...folders.map((f) => f.id)])];
      });
      focusOn(() => document.querySelector<HTMLElement>('[data-path="' + CSS.escape(e.path) + '"]'));
    },
  },
  {id: "files.collapse", title: "Close all folders", category: "View", when: open, run: () => project()!.layout.change((s) => (s.expanded = []))},
  {
    id: "file.save",
    title: "Save",
    category: "File",
    keys: ["Mod+S"],
    when: open,
    run: async () => {
      const {formatActive} = await import("./format");
      const d = project()!.active;
      if (!d) return;
      await d.save();
      if (d.state() === "saved") await formatActive(project()!, d);
      if (d.state() === "failed" || d.state() === "offline") toast(d.path() + ": " + d.problem, {bad: true});
    },
  },
  {
    id: "file.format",
    title: "Format this file",
    category: "Edit",
    keys: ["Alt+Shift+F"],
    when: () => writable() && project()!.layout.active !== null,
    run: async () => {
      const {formatActive} = await import("./format");
      const d = project()!.active;
      if (!d) return;
      await d.save();
      const problem = d.state() === "saved" ? await formatActive(project()!, d) : d.problem;
      if (problem) toast(baseName(d.path()) + " is not formatted: " + problem, {bad: true});
    },
  },
  {
    id: "file.remake",
    title: "Make it again",
    hidden: true,
    when: writable,
    run: (arg) =>
      attempt(async () => {
        if (!(arg instanceof Document)) return;
        const p = project()!;
        const text = arg.buffer.get();
        const path = arg.path();
        p.layout.forget(arg.id);
        const entry = await p.files.createFile(path, text);
        p.layout.open(entry.id);
      }),
  },
]);
