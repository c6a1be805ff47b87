// SPDX-License-Identifier: Apache-2.0
/** The file tree, by the pattern of ARIA: one row has the focus, arrows move. Rows that cannot be seen are not made. */
import {createEffect, createMemo, createSignal, For, onCleanup, onMount, Show} from "solid-js";
import {dirName, join, pathProblem} from "../core/path";
import {execute} from "../core/commands";
import {isIgnored, type Node} from "../project/files";
import type {Project} from "../project/project";
import {collectDropped} from "../project/dropped";
import {focusOn} from "./focus";
import {FileIcon, Icon} from "./icons";
import {commandItem, openMenu, type MenuItem} from "./menu";
import {toast} from "./toast";
import {words} from "../net/http";

const ROW = 24;
const SPARE = 12;

/** A name that is being typed: of a new file or folder in a folder, or for an entry. */
export interface Editing {
  kind: "file" | "directory" | "rename";
  /** The folder it will stand in ("" the root), or the entry's path. */
  at: string;
}
export const [editing, setEditing] = createSignal<Editing | null>(null);
export const [focusedPath, setFocusedPath] = createSignal("");

const TYPED = "typed";

interface Row {
  node: Node | null; // null: the name being typed
  depth: number;
  key: string;
}

function visibleRows(nodes: Node[], expanded: Set<string>, edit: Editing | null): Row[] {
  const rows: Row[] = [];
  const typed = (depth: number) => rows.push({node: null, depth, key: TYPED});
  const walk = (list: Node[]) => {
    for (const n of list) {
      rows.push({node: n, depth: n.depth, key: n.entry.id});
      const here = edit && edit.kind !== "rename" && edit.at === n.entry.path;
      if (here) typed(n.depth + 1);
      if (n.entry.type === "directory" && expanded.has(n.entry.id)) walk(n.children);
    }
  };
  if (edit && edit.kind !== "rename" && edit.at === "") typed(0);
  walk(nodes);
  return rows;
}

function NameField(props: {value: string; check: (name: string) => string; done: (name: string | null) => void}) {
  let input!: HTMLInputElement;
  const [value, setValue] = createSignal(props.value);
  const problem = () => (value() === props.value ? "" : props.check(value().trim()));
  let over = false;
  const finish = (name: string | null) => {
    if (over) return;
    over = true;
    props.done(name);
  };
  onMount(() => {
    input.focus();
    const dot = props.value.lastIndexOf(".");
    input.setSelectionRange(0, dot > 0 ? dot : props.value.length);
  });
  return (
    <>
      <input
        class="tree-edit"
        classList={{wrong: problem() !== ""}}
        ref={input}
        value={value()}
        spellcheck={false}
        aria-label="Name"
        aria-invalid={problem() !== ""}
        onInput={(e) => setValue(e.currentTarget.value)}
        onClick={(e) => e.stopPropagation()}
        onKeyDown={(e) => {
          e.stopPropagation();
          if (e.key === "Escape") finish(null);
          else if (e.key === "Enter" && !problem()) finish(value().trim() || null);
        }}
        onBlur={() => finish(value().trim() && !problem() ? value().trim() : null)}
      />
      <Show when={problem()}>
        <div class="tree-problem" role="alert">
          {problem()}
        </div>
      </Show>
    </>
  );
}

export function Tree(props: {project: Project}) {
  let box!: HTMLDivElement;
  const project = props.project;
  const layout = project.layout;
  const [top, setTop] = createSignal(0);
  const [height, setHeight] = createSignal(600);
  const [over, setOver] = createSignal<string | null>(null);
  const expanded = createMemo(() => new Set(layout.state.expanded));
  const rows = createMemo(() => visibleRows(project.files.nodes(), expanded(), editing()));
  const first = () => Math.max(0, Math.floor(top() / ROW) - SPARE);
  const last = () => Math.min(rows().length, Math.ceil((top() + height()) / ROW) + SPARE);
  const problems = createMemo(() => new Set(project.run.problems().map((p) => p.path)));
  const index = (path: string) => rows().findIndex((r) => r.node?.entry.path === path);

  onMount(() => {
    const observer = new ResizeObserver(() => setHeight(box.clientHeight));
    observer.observe(box);
    onCleanup(() => observer.disconnect());
  });

  const setOpen = (node: Node, open: boolean) => {
    if (node.entry.type !== "directory" || expanded().has(node.entry.id) === open) return;
    layout.change((s) => (s.expanded = open ? [...s.expanded, node.entry.id] : s.expanded.filter((x) => x !== node.entry.id)));
  };
  const focusRow = (i: number) => {
    const row = rows()[Math.max(0, Math.min(i, rows().length - 1))];
    if (!row?.node) return;
    setFocusedPath(row.node.entry.path);
    const y = rows().indexOf(row) * ROW;
    if (y < box.scrollTop) box.scrollTop = y;
    else if (y + ROW > box.scrollTop + box.clientHeight) box.scrollTop = y + ROW - box.clientHeight;
    focusOn(() => box.querySelector<HTMLElement>('[data-path="' + CSS.escape(row.node!.entry.path) + '"]'));
  };
  const activate = (node: Node, keep: boolean) => {
    if (node.entry.type === "directory") setOpen(node, !expanded().has(node.entry.id));
    else execute("file.open", {id: node.entry.id, preview: !keep});
  };

  let typed = "";
  let typedAt = 0;
  const seek = (c: string) => {
    typed = Date.now() - typedAt > 800 ? c : typed + c;
    typedAt = Date.now();
    const from = index(focusedPath());
    for (let i = 0; i < rows().length; i++) {
      const j = (from + i + (typed.length === 1 ? 1 : 0)) % rows().length;
      if (rows()[j]?.node?.name.toLowerCase().startsWith(typed.toLowerCase())) return focusRow(j);
    }
  };
  const onKey = (e: KeyboardEvent) => {
    if (e.target instanceof HTMLInputElement || e.ctrlKey || e.metaKey || e.altKey) return;
    const i = index(focusedPath());
    const node = rows()[i]?.node;
    if (e.key === "ArrowDown") focusRow(i + 1);
    else if (e.key === "ArrowUp") focusRow(i - 1);
    else if (e.key === "Home") focusRow(0);
    else if (e.key === "End") focusRow(rows().length - 1);
    else if (!node) return;
    else if (e.key === "ArrowRight") {
      if (node.entry.type === "directory" && !expanded().has(node.entry.id)) setOpen(node, true);
      else focusRow(i + 1);
    } else if (e.key === "ArrowLeft") {
      if (node.entry.type === "directory" && expanded().has(node.entry.id)) setOpen(node, false);
      else focusRow(index(dirName(node.entry.path)));
    } else if (e.key === "Enter") activate(node, true);
    else if (e.key === " ") activate(node, false);
    else if (e.key === "F2") execute("file.rename", node.entry.path);
    else if (e.key === "Delete") execute("file.delete", node.entry.path);
    else if (e.key === "ContextMenu" || (e.shiftKey && e.key === "F10")) {
      const r = box.querySelector('[data-path="' + CSS.escape(node.entry.path) + '"]')?.getBoundingClientRect();
      openMenu(node.name, menuOf(node), {x: (r?.left ?? 0) + 24, y: r?.bottom ?? 0});
    } else if (e.key.length === 1) seek(e.key);
    else return;
    e.preventDefault();
  };

  const menuOf = (node: Node): MenuItem[] => {
    const path = node.entry.path;
    const folder = node.entry.type === "directory" ? path : dirName(path);
    return [
      ...(node.entry.type === "file" ? [commandItem("file.open", {id: node.entry.id}, "Open"), commandItem("file.openAside", node.entry.id)] : []),
      ...(project.readOnly
        ? []
        : [commandItem("file.new", folder), commandItem("folder.new", folder), {kind: "line" as const}, commandItem("file.rename", path), commandItem("file.delete", path), {kind: "line" as const}]),
      ...(node.entry.type === "file" ? [commandItem("file.download", node.entry.id)] : []),
      commandItem("file.copyPath", node.entry.id),
    ];
  };

  // --- drag: within the tree it moves, from outside it uploads ---

  const folderOf = (e: DragEvent): string => {
    const path = (e.target as Element).closest<HTMLElement>("[data-path]")?.dataset["path"] ?? "";
    const entry = project.files.byPath().get(path);
    return !entry ? "" : entry.type === "directory" ? path : dirName(path);
  };
  const drop = (e: DragEvent) => {
    e.preventDefault();
    const dir = folderOf(e);
    setOver(null);
    const moved = e.dataTransfer?.getData("application/x-devbox-path");
    if (moved) execute("file.move", {path: moved, to: dir});
    else if (e.dataTransfer)
      void collectDropped(e.dataTransfer).then(
        (files) => execute("file.uploadInto", {dir, files}),
        (x: unknown) => toast(words(x), {bad: true}),
      );
  };

  const check = (dir: string, self: string) => (name: string) => {
    const path = join(dir, name);
    return pathProblem(path) || (path !== self && project.files.exists(path) ? "There is already something with this name." : "");
  };
  const named = (edit: Editing) => (name: string | null) => {
    setEditing(null);
    if (!name) return focusOn(() => box.querySelector<HTMLElement>("[role=treeitem][tabindex='0']"));
    if (edit.kind === "rename") execute("file.renameTo", {path: edit.at, to: join(dirName(edit.at), name)});
    else execute(edit.kind === "file" ? "file.create" : "folder.create", join(edit.at, name));
  };
  createEffect(() => {
    const e = editing();
    if (e && e.kind !== "rename" && e.at) {
      const folder = project.files.byPath().get(e.at);
      if (folder && !expanded().has(folder.id)) layout.change((s) => (s.expanded = [...s.expanded, folder.id]));
    }
  });

  // By key, not by object: a row stays itself, with its focus, when the tree changes around it.
  const byKey = createMemo(() => new Map(rows().map((r) => [r.key, r])));
  const keys = createMemo(() => rows().slice(first(), last()).map((r) => r.key));
  const rowOf = (key: string) => createMemo<Row | undefined>((before) => byKey().get(key) ?? before);

  const Guides = (p: {depth: number}) => <For each={Array.from({length: p.depth})}>{(_, i) => <span class="tree-guide" style={{left: 15 + i() * 14 + "px"}} />}</For>;

  const TypedRow = (p: {row: () => Row | undefined}) => {
    const edit = editing()!;
    return (
      <div class="tree-row" role="none" style={{"--depth": p.row()?.depth ?? 0}}>
        <span class="no-twist" />
        <FileIcon path="" folder={edit.kind === "directory"} />
        <NameField value="" check={check(edit.at, "")} done={named(edit)} />
      </div>
    );
  };

  const TreeRow = (p: {row: () => Row | undefined}) => {
    const node = () => p.row()!.node!;
    const path = () => node().entry.path;
    const folder = () => node().entry.type === "directory";
    const renaming = () => editing()?.kind === "rename" && editing()?.at === path();
    const isOpen = () => expanded().has(node().entry.id);
    const tabbable = () => focusedPath() === path() || (index(focusedPath()) < 0 && rows()[0]?.key === p.row()!.key);
    return (
      <div
        class="tree-row"
        classList={{ignored: isIgnored(path()), drop: folder() && over() === path(), problem: problems().has(path())}}
        role="treeitem"
        data-path={path()}
        title={path()}
        aria-level={node().depth + 1}
        aria-expanded={folder() ? isOpen() : undefined}
        aria-selected={layout.active === node().entry.id}
        tabIndex={tabbable() ? 0 : -1}
        style={{"--depth": node().depth}}
        draggable={!project.readOnly && !renaming()}
        onDragStart={(e) => e.dataTransfer?.setData("application/x-devbox-path", path())}
        onFocus={() => setFocusedPath(path())}
        onClick={() => activate(node(), false)}
        onDblClick={() => !folder() && activate(node(), true)}
        onContextMenu={(e) => {
          e.preventDefault();
          setFocusedPath(path());
          openMenu(node().name, menuOf(node()), {x: e.clientX, y: e.clientY});
        }}
      >
        <Guides depth={node().depth} />
        <Show when={folder()} fallback={<span class="no-twist" />}>
          <svg class="icon twist" viewBox="0 0 16 16" aria-hidden="true">
            <path d="M6 4l4 4-4 4" />
          </svg>
        </Show>
        <FileIcon path={path()} folder={folder()} open={isOpen()} />
        <Show when={renaming()} fallback={<span class="tree-name">{node().name}</span>}>
          <NameField value={node().name} check={check(dirName(path()), path())} done={named({kind: "rename", at: path()})} />
        </Show>
      </div>
    );
  };

  return (
    <div
      class="tree"
      classList={{drop: over() === ""}}
      id="file-tree"
      ref={box}
      onScroll={() => setTop(box.scrollTop)}
      onKeyDown={onKey}
      onDragOver={(e) => {
        if (project.readOnly || e.dataTransfer?.types.includes("application/x-devbox-tab")) return;
        e.preventDefault();
        setOver(folderOf(e));
      }}
      onDragLeave={(e) => {
        if (!box.contains(e.relatedTarget as Element | null)) setOver(null);
      }}
      onDrop={drop}
      onContextMenu={(e) => {
        e.preventDefault();
        if (e.target !== box && (e.target as Element).closest("[data-path]")) return;
        if (!project.readOnly) openMenu("Files", [commandItem("file.new", ""), commandItem("folder.new", ""), commandItem("file.upload", "")], {x: e.clientX, y: e.clientY});
      }}
    >
      <Show
        when={rows().length}
        fallback={
          <div class="empty">
            <strong>No files yet</strong>
            <span>Make one, or drop files and folders here.</span>
            <Show when={!project.readOnly}>
              <button class="button" onClick={() => execute("file.new", "")}>
                <Icon name="newFile" /> New file
              </button>
            </Show>
          </div>
        }
      >
        <div role="tree" aria-label="Files" style={{height: rows().length * ROW + "px", position: "relative"}}>
          <div role="none" style={{transform: "translateY(" + first() * ROW + "px)"}}>
            <For each={keys()}>{(key) => <Show when={key === TYPED} fallback={<TreeRow row={rowOf(key)} />}>{<TypedRow row={rowOf(key)} />}</Show>}</For>
          </div>
        </div>
      </Show>
    </div>
  );
}
