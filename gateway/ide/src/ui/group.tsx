// SPDX-License-Identifier: Apache-2.0
/** An editor group: tabs above, one editor below. Until Monaco is here the text stands there plain. */
import {createEffect, createMemo, createSignal, For, on, onCleanup, Show, untrack} from "solid-js";
import {execute, hint} from "../core/commands";
import {baseName, dirName} from "../core/path";
import {isObject} from "../core/store";
import {pending, setPending} from "../app";
import type {EditorHandle} from "../editor/port";
import type {Document} from "../project/document";
import type {Group} from "../project/layout";
import type {Project} from "../project/project";
import {editorPort, handles, setCursor} from "./editors";
import {FileIcon, Icon} from "./icons";
import {commandItem, openMenu} from "./menu";
import {MergeView} from "./merge";
import {label} from "../core/keys";

function Tab(props: {project: Project; group: Group; id: string}) {
  const entry = () => props.project.files.byId().get(props.id);
  const path = () => entry()?.path ?? props.project.opened(props.id)?.path() ?? "";
  const current = () => props.group.active === props.id;
  const doc = () => (current() || props.project.opened(props.id) ? props.project.opened(props.id) : undefined);
  const unsaved = () => {
    const s = doc()?.state();
    return s === "dirty" || s === "saving" || s === "offline" || s === "conflict" || s === "failed";
  };
  const twin = () => props.group.tabs.some((t) => t !== props.id && baseName(props.project.files.byId().get(t)?.path ?? "") === baseName(path()));
  const [over, setOver] = createSignal(false);
  const close = () => execute("tab.close", {id: props.id, group: props.group.id});
  const step = (e: KeyboardEvent & {currentTarget: HTMLElement}) => {
    const tabs = [...(e.currentTarget.closest('[role="tablist"]')?.querySelectorAll<HTMLElement>('[role="tab"]') ?? [])];
    const i = tabs.indexOf(e.currentTarget);
    if (e.key === "ArrowRight") tabs[(i + 1) % tabs.length]?.focus();
    else if (e.key === "ArrowLeft") tabs[(i - 1 + tabs.length) % tabs.length]?.focus();
    else if (e.key === "Delete") close();
    else return;
    e.preventDefault();
  };
  return (
    <div
      class="tab"
      classList={{current: current(), preview: props.group.preview === props.id, unsaved: unsaved(), drop: over()}}
      draggable="true"
      onDragStart={(e) => e.dataTransfer?.setData("application/x-devbox-tab", JSON.stringify({id: props.id, group: props.group.id}))}
      onDragOver={(e) => {
        if (!e.dataTransfer?.types.includes("application/x-devbox-tab")) return;
        e.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(e) => {
        setOver(false);
        dropTab(props.project, e, props.group.id, props.id);
      }}
      onAuxClick={(e) => e.button === 1 && close()}
      onContextMenu={(e) => {
        e.preventDefault();
        const arg = {id: props.id, group: props.group.id};
        openMenu("Tab", [commandItem("tab.close", arg), commandItem("tab.closeOthers", arg), commandItem("tab.closeSaved", arg), {kind: "line"}, commandItem("file.copyPath", props.id), commandItem("file.reveal", props.id)], {x: e.clientX, y: e.clientY});
      }}
    >
      <button
        class="tab-main"
        role="tab"
        id={"tab-" + props.group.id + "-" + props.id}
        aria-selected={current()}
        aria-controls={"editor-" + props.group.id}
        tabIndex={current() ? 0 : -1}
        title={path()}
        onClick={() => props.project.layout.open(props.id, {group: props.group.id, preview: props.group.preview === props.id})}
        onDblClick={() => props.project.layout.keep(props.id)}
        onKeyDown={step}
      >
        <FileIcon path={path()} />
        <span class="tab-name">{baseName(path())}</span>
        <Show when={twin() && dirName(path())}>
          <span class="about">{dirName(path())}</span>
        </Show>
        <Show when={unsaved()}>
          <span class="visually-hidden">, not saved</span>
        </Show>
      </button>
      {/* For the mouse: by keys it is Delete on the tab, or the command. */}
      <span class="icon-button tab-close" aria-hidden="true" title={hint("tab.close", "Close")} onClick={close}>
        <Show when={unsaved()}>
          <span class="dirty" />
        </Show>
        <Icon name="close" />
      </span>
    </div>
  );
}

function dropTab(project: Project, e: DragEvent, to: number, before: string | null): void {
  const text = e.dataTransfer?.getData("application/x-devbox-tab");
  if (!text) return;
  e.preventDefault();
  e.stopPropagation();
  const v: unknown = JSON.parse(text);
  if (isObject(v) && typeof v["id"] === "string" && typeof v["group"] === "number") project.layout.moveTab(v["id"], v["group"], to, before);
}

function Notice(props: {doc: Document; project: Project}) {
  const say = createMemo(() => {
    switch (props.doc.state()) {
      case "gone":
        return {bad: true, text: "This file was deleted elsewhere. Your text is still here.", action: "Make it again", run: () => execute("file.remake", props.doc)};
      case "failed":
        return {bad: true, text: "Not saved: " + props.doc.problem, action: "Try again", run: () => props.doc.retry()};
      default:
        return null;
    }
  });
  return (
    <Show when={say()}>
      {(n) => (
        <div class="notice" classList={{bad: n().bad}} role="status">
          <Icon name="warning" />
          <p>{n().text}</p>
          <button class="button" onClick={() => n().run()}>
            {n().action}
          </button>
        </div>
      )}
    </Show>
  );
}

function EditorBox(props: {project: Project; group: Group}) {
  let host!: HTMLDivElement;
  const [handle, setHandle] = createSignal<EditorHandle | null>(null);
  const [shown, setShown] = createSignal<string | null>(null);
  const kept = props.project.views;
  const doc = createMemo(() => (props.group.active && props.project.files.byId() ? (props.project.opened(props.group.active) ?? props.project.document(props.group.active)) : null));
  const state = () => doc()?.state() ?? "loading";
  const visible = () => doc() !== null && state() !== "loading" && state() !== "binary" && state() !== "conflict" && !(state() === "gone" && !doc()?.base) && !(state() === "failed" && !doc()?.etag);
  const nameOf = (id: string) => props.group.id + ":" + id;
  const keep = () => {
    const id = shown();
    const h = handle();
    if (id && h) kept.put(nameOf(id), h.view());
  };

  createEffect(
    on(editorPort, (port) => {
      if (!port) return;
      const h = port.create(host);
      handles.set(props.group.id, h);
      h.cursor.on((c) => props.project.layout.state.activeGroup === props.group.id && setCursor(c));
      h.focused.on(() => {
        props.project.layout.focusGroup(props.group.id);
        setCursor(h.now());
      });
      setHandle(h);
    }),
  );
  createEffect(() => {
    const h = handle();
    const d = doc();
    if (!h || !d || !visible()) return;
    d.path(); // a new name may be another language
    untrack(() => {
      const before = shown();
      if (before !== d.id) keep();
      h.show(d, before === d.id ? null : kept.get(nameOf(d.id)));
      setShown(d.id);
      performance.mark("devbox-editor-shown");
    });
  });
  createEffect(() => {
    const place = pending();
    const h = handle();
    if (!place || !h || shown() !== place.id || props.project.layout.state.activeGroup !== props.group.id || !visible()) return;
    setPending(null);
    h.reveal(place.line, place.column);
  });
  const leaving = () => keep();
  addEventListener("pagehide", leaving);
  const timer = setInterval(keep, 5000);
  onCleanup(() => {
    keep();
    clearInterval(timer);
    removeEventListener("pagehide", leaving);
    handles.delete(props.group.id);
    handle()?.dispose();
  });

  return (
    <>
      <Show when={doc()}>{(d) => <Notice doc={d()} project={props.project} />}</Show>
      <div class="editor-area" role="tabpanel" id={"editor-" + props.group.id} aria-labelledby={props.group.active ? "tab-" + props.group.id + "-" + props.group.active : undefined} aria-label={props.group.active ? undefined : "Editor"}>
        <div class="editor-host" ref={host} style={{visibility: visible() && handle() ? "visible" : "hidden"}} />
        <Show when={visible() && !handle()}>
          <pre class="skeleton" aria-hidden="true">
            {doc()?.buffer.get().slice(0, 6000)}
          </pre>
        </Show>
        <Show when={state() === "conflict" && doc()} keyed>
          {(d) => <MergeView doc={d} />}
        </Show>
        <Show when={state() === "binary"}>
          <div class="nothing-open">
            <p>This file is not text, or too large for the editor.</p>
            <button class="button" onClick={() => execute("file.download", props.group.active)}>
              <Icon name="download" /> Download
            </button>
          </div>
        </Show>
        <Show when={!doc()}>
          <Nothing />
        </Show>
      </div>
    </>
  );
}

function Nothing() {
  const keys: [string, string][] = [
    ["Go to a file", "Mod+P"],
    ["Show all commands", "F1"],
    ["Run", "Mod+Enter"],
    ["Search in files", "Mod+Shift+F"],
  ];
  return (
    <div class="nothing-open">
      <img src="/icon.svg" alt="" width="56" height="56" />
      <dl class="key-list">
        <For each={keys}>
          {([title, key]) => (
            <>
              <dt>{title}</dt>
              <dd>
                <kbd>{label(key)}</kbd>
              </dd>
            </>
          )}
        </For>
      </dl>
    </div>
  );
}

export function GroupView(props: {project: Project; group: Group}) {
  const layout = () => props.project.layout;
  return (
    <section
      class="group"
      classList={{focused: layout().state.activeGroup === props.group.id}}
      aria-label={"Editor group " + (layout().state.groups.indexOf(props.group) + 1)}
      onFocusIn={() => layout().focusGroup(props.group.id)}
      onDragOver={(e) => e.dataTransfer?.types.includes("application/x-devbox-tab") && e.preventDefault()}
      onDrop={(e) => dropTab(props.project, e, props.group.id, null)}
    >
      <Show when={props.group.tabs.length}>
        <div class="tabs">
          <div
            class="tab-list"
            role="tablist"
            aria-label="Open files"
            onWheel={(e) => {
              if (e.deltaY) e.currentTarget.scrollLeft += e.deltaY;
            }}
          >
            <For each={props.group.tabs}>{(id) => <Tab project={props.project} group={props.group} id={id} />}</For>
          </div>
          <div class="tab-actions">
            <Show when={layout().state.groups.length < 3}>
              <button class="icon-button" aria-label="Split the editor" title={hint("editor.split")} onClick={() => (layout().focusGroup(props.group.id), execute("editor.split"))}>
                <Icon name="split" />
              </button>
            </Show>
          </div>
        </div>
      </Show>
      <EditorBox project={props.project} group={props.group} />
    </section>
  );
}
