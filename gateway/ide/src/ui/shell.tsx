// SPDX-License-Identifier: Apache-2.0
/** The workspace: header, side, editors, panel, status. */
import {createMemo, For, Match, Show, Switch} from "solid-js";
import {ariaKeys} from "../core/keys";
import {execute, find, hint, keysOf} from "../core/commands";
import {go, online} from "../app";
import type {SideView} from "../project/layout";
import type {Project} from "../project/project";
import {who} from "../session";
import {accountMenu} from "./account";
import {editorFailure} from "./editors";
import {GroupView} from "./group";
import {Icon, type IconName} from "./icons";
import {commandItem, openMenu, type MenuItem} from "./menu";
import {PackagesView} from "./packages";
import {elapsed, Panel} from "./panel";
import {SearchView} from "./search";
import {Splitter} from "./split";
import {StatusBar} from "./status";
import {Tree} from "./tree";

function RunButton(props: {project: Project}) {
  const run = () => props.project.run;
  const menu = (e: MouseEvent & {currentTarget: Element}) => {
    const chosen = props.project.config?.name;
    const items: MenuItem[] = [
      {kind: "title", title: "What Run starts"},
      ...props.project.configs().map((c): MenuItem => ({kind: "item", title: c.name, about: c.command, checked: c.name === chosen, run: () => props.project.chooseConfig(c.name)})),
      {kind: "line"},
      commandItem("run.file"),
      commandItem("run.configure"),
    ];
    openMenu("Run configurations", items, e.currentTarget);
  };
  const keys = (id: string) => find(id)?.keys?.[0];
  return (
    <div class="run-group">
      <Show
        when={run().busy}
        fallback={
          <button class="button primary" disabled={props.project.readOnly} title={props.project.readOnly ? "You may look at this workspace, not run it" : hint("run.start", props.project.config?.command ?? "Run")} aria-keyshortcuts={ariaKeys(keys("run.start") ?? "")} onClick={() => execute("run.start")}>
            <Icon name="play" /> Run
          </button>
        }
      >
        <button class="button danger" disabled={run().phase() === "stopping"} title={hint("run.stop")} onClick={() => execute("run.stop")}>
          <Icon name="stop" /> Stop <span class="run-time">{elapsed(props.project)}</span>
        </button>
      </Show>
      <button class="button more" classList={{primary: !run().busy, plain: run().busy}} aria-haspopup="menu" aria-label="Run configurations" title="Run configurations" disabled={props.project.readOnly} onClick={menu}>
        <Icon name="down" />
      </button>
    </div>
  );
}

function Head(props: {project: Project}) {
  const info = () => props.project.info();
  const name = () => {
    const w = who();
    return w.state === "in" ? w.name : "?";
  };
  return (
    <header class="head">
      <div class="head-left">
        <a class="home" href="/" aria-label="All workspaces" title="All workspaces" onClick={(e) => (e.preventDefault(), go("/"))}>
          <img src="/icon.svg" alt="" width="22" height="22" />
        </a>
        <h1>
          <button class="workspace-name" title={props.project.readOnly ? info().name : "Rename the workspace"} onClick={() => execute("workspace.rename")}>
            {info().name}
          </button>
        </h1>
        <span class="chip hide-narrow">{info().template}</span>
        <Show when={props.project.readOnly}>
          <span class="chip">view only</span>
        </Show>
      </div>
      <button class="go-to" title={hint("palette.files", "Go to a file, or type > for commands")} onClick={() => execute("palette.files")}>
        <Icon name="search" />
        <span>Go to a file or command</span>
        <kbd class="hide-narrow">{keysOf("palette.files")}</kbd>
      </button>
      <div class="head-right">
        <RunButton project={props.project} />
        <button class="button quiet" onClick={() => execute("workspace.share")}>
          <Icon name="share" /> <span class="hide-narrow">Share</span>
          <span class="visually-hidden">this workspace</span>
        </button>
        <button class="avatar" aria-haspopup="menu" aria-label={"Account and settings: " + name()} title={name()} onClick={(e) => accountMenu(e.currentTarget)}>
          {name()[0]?.toUpperCase()}
        </button>
      </div>
    </header>
  );
}

function Banner(props: {project: Project}) {
  const unsaved = createMemo(() => props.project.unsaved.length);
  return (
    <div role="status">
      <Show when={!online()}>
        <div class="banner">
          <Icon name="cloudOff" />
          <span>
            <strong>The server cannot be reached.</strong> Keep typing: what you write is kept in this browser and saved as soon as it is back.
            <Show when={unsaved()}> {unsaved() === 1 ? "One file waits." : unsaved() + " files wait."}</Show>
          </span>
          <span class="push" />
          <button class="button" onClick={() => void props.project.probe()}>
            Try now
          </button>
        </div>
      </Show>
      <Show when={props.project.configProblem()}>
        <div class="banner">
          <Icon name="warning" /> <span>{props.project.configProblem()} Run uses what the template says.</span>
        </div>
      </Show>
      <Show when={editorFailure()}>
        <div class="banner">
          <Icon name="warning" /> <span>{editorFailure()}</span>
          <span class="push" />
          <button class="button" onClick={() => location.reload()}>
            Load again
          </button>
        </div>
      </Show>
    </div>
  );
}

function Side(props: {project: Project}) {
  const layout = props.project.layout;
  const tabs: {id: SideView; title: string}[] = [
    {id: "files", title: "Files"},
    {id: "search", title: "Search"},
    {id: "packages", title: "Packages"},
  ];
  const action = (icon: IconName, id: string, title: string, arg?: unknown) => (
    <button class="icon-button" aria-label={title} title={hint(id, title)} onClick={() => execute(id, arg)}>
      <Icon name={icon} />
    </button>
  );
  const key = (e: KeyboardEvent) => {
    if (e.key !== "ArrowRight" && e.key !== "ArrowLeft") return;
    e.preventDefault();
    const by = e.key === "ArrowRight" ? 1 : tabs.length - 1;
    execute("view." + tabs[(tabs.findIndex((t) => t.id === layout.state.side) + by) % tabs.length]!.id);
  };
  return (
    <nav class="side" style={{width: layout.state.sideWidth + "px"}} aria-label="Files, search and packages" hidden={!layout.state.sideOpen}>
      <div class="side-tabs">
        <div role="tablist" aria-label="Side" onKeyDown={key}>
          <For each={tabs}>
            {(t) => (
              <button class="side-tab" role="tab" id={"side-" + t.id} aria-selected={layout.state.side === t.id} tabIndex={layout.state.side === t.id ? 0 : -1} title={hint("view." + t.id, t.title)} aria-label={t.title} onClick={() => execute("view." + t.id)}>
                <Show when={layout.state.side === t.id} fallback={<Icon name={t.id} />}>
                  {t.title}
                </Show>
              </button>
            )}
          </For>
        </div>
        <Show when={layout.state.side === "files"}>
          <div class="side-actions">
            <Show when={!props.project.readOnly}>
              {action("newFile", "file.new", "New file")}
              {action("newFolder", "folder.new", "New folder")}
              {action("upload", "file.upload", "Upload files")}
            </Show>
            {action("collapse", "files.collapse", "Close all folders")}
          </div>
        </Show>
      </div>
      <Switch>
        <Match when={layout.state.side === "files"}>
          <Tree project={props.project} />
        </Match>
        <Match when={layout.state.side === "search"}>
          <SearchView project={props.project} />
        </Match>
        <Match when={layout.state.side === "packages"}>
          <PackagesView project={props.project} />
        </Match>
      </Switch>
    </nav>
  );
}

export function Shell(props: {project: Project}) {
  const layout = props.project.layout;
  return (
    <div class="shell">
      <Head project={props.project} />
      <Banner project={props.project} />
      <div class="body">
        <Side project={props.project} />
        <main class="main">
          <Show when={layout.state.sideOpen}>
            <Splitter stands="vertical" label="Width of the files" value={layout.state.sideWidth} min={160} max={() => innerWidth * 0.5} reset={248} change={(w) => layout.change((s) => (s.sideWidth = w))} />
          </Show>
          <div class="column">
          <div class="groups">
            <For each={layout.state.groups}>
              {(group, i) => (
                <>
                  <Show when={i() > 0}>
                    <div class="splitter vertical" aria-hidden="true" />
                  </Show>
                  <GroupView project={props.project} group={group} />
                </>
              )}
            </For>
          </div>
          <Show when={layout.state.panelOpen}>
            <Splitter stands="horizontal" label="Height of the panel" after value={layout.state.panelHeight} min={100} max={() => innerHeight - 240} reset={240} change={(h) => layout.change((s) => (s.panelHeight = h))} />
          </Show>
          <Panel project={props.project} />
          </div>
        </main>
      </div>
      <StatusBar project={props.project} />
    </div>
  );
}
