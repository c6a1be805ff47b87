// SPDX-License-Identifier: Apache-2.0
/** The part below the editors: output of Run, terminals, problems. */
import {createMemo, createSignal, For, onCleanup, Show} from "solid-js";
import {sizeText, timeText} from "../core/bytes";
import {execute, hint, keysOf} from "../core/commands";
import {baseName, dirName} from "../core/path";
import type {PanelView} from "../project/layout";
import type {Project} from "../project/project";
import {Icon} from "./icons";
import {InputLine, OutputView} from "./output";
import {TerminalsView} from "./terminals";

const [tick, setTick] = createSignal(Date.now());
setInterval(() => setTick(Date.now()), 100);

/** Elapsed time of what runs, or how long it took. */
export function elapsed(project: Project): string {
  const run = project.run;
  if (!run.startedAt() || run.phase() === "idle") return "";
  if (!run.busy) return run.verdict()?.usage ? timeText(run.verdict()!.usage!.wall) : "";
  return timeText(Math.floor(Math.max(0, tick() - run.startedAt()) / 100) * 100);
}

export const PHASES: Record<string, string> = {
  saving: "Saving…",
  starting: "Starting…",
  compiling: "Compiling…",
  running: "Running",
  stopping: "Stopping…",
};

function Verdict(props: {project: Project}) {
  const run = props.project.run;
  const usage = () => run.verdict()?.usage;
  const detail = () => {
    const u = usage();
    return u ? timeText(u.cpu) + " CPU" + (u.memory ? " · " + sizeText(u.memory) : "") : "";
  };
  return (
    <>
      <Show when={detail() && !run.busy}>
        <span class="hide-narrow">{detail()}</span>
      </Show>
      <Show when={elapsed(props.project)}>
        <span class="run-time">{elapsed(props.project)}</span>
      </Show>
      <span class="verdict" role="status">
        <Show when={run.verdict()} fallback={<Show when={run.busy}>{<><Icon name="spinner" spin /> {PHASES[run.phase()]}</>}</Show>}>
          {(v) => (
            <>
              <span class={"dot " + v().mood} aria-hidden="true" /> {v().words}
            </>
          )}
        </Show>
      </span>
    </>
  );
}

function OutputPart(props: {project: Project}) {
  const run = props.project.run;
  return (
    <>
      <Show
        when={run.phase() !== "idle"}
        fallback={
          <div class="empty">
            <strong>Nothing has run yet</strong>
            <span>
              Press <kbd>{keysOf("run.start")}</kbd> to save everything and run it; its output appears here while it is written.
            </span>
          </div>
        }
      >
        <OutputView project={props.project} output={run.output} />
        <Show when={run.acceptsInput && !props.project.readOnly}>
          <InputLine project={props.project} />
        </Show>
      </Show>
    </>
  );
}

function Problems(props: {project: Project}) {
  const list = () => props.project.run.problems();
  return (
    <Show
      when={list().length}
      fallback={
        <div class="empty">
          <strong>No problems</strong>
          <span>What compilers and tracebacks complain about is listed here after a run.</span>
        </div>
      }
    >
      <div class="problem-list">
        <For each={list()}>
          {(p) => (
            <button class="problem-row" onClick={() => execute("file.open", {id: props.project.files.byPath().get(p.path)?.id, line: p.line, column: p.column})}>
              <span class={"icon " + p.severity}>
                <Icon name={p.severity} />
              </span>
              <span>{p.message}</span>
              <span class="where">
                {baseName(p.path)}:{p.line}
                {p.column > 1 ? ":" + p.column : ""} {dirName(p.path)}
              </span>
            </button>
          )}
        </For>
      </div>
    </Show>
  );
}

export function Panel(props: {project: Project}) {
  const layout = props.project.layout;
  const view = () => layout.state.panel;
  const [seen, setSeen] = createSignal(view() === "terminal");
  const visible = createMemo(() => layout.state.panelOpen && view() === "terminal");
  onCleanup(() => setSeen(false));
  const select = (name: PanelView) => execute("panel." + name);
  const names: PanelView[] = ["output", "terminal", "problems"];
  const titles = {output: "Output", terminal: "Terminal", problems: "Problems"};
  const key = (e: KeyboardEvent) => {
    const i = names.indexOf(view());
    if (e.key === "ArrowRight") select(names[(i + 1) % 3]!);
    else if (e.key === "ArrowLeft") select(names[(i + 2) % 3]!);
    else return;
    e.preventDefault();
    (e.currentTarget as HTMLElement).querySelector<HTMLElement>('[aria-selected="true"]')?.focus();
  };
  const wasSeen = () => {
    if (visible()) setSeen(true);
    return seen();
  };
  return (
    <section class="panel" aria-label="Panel" style={{height: layout.state.panelHeight + "px"}} hidden={!layout.state.panelOpen}>
      <div class="panel-bar">
        <div role="tablist" aria-label="Panel" onKeyDown={key}>
          <For each={names}>
            {(name) => (
              <button class="panel-tab" role="tab" id={"panel-tab-" + name} aria-selected={view() === name} aria-controls="panel-body" tabIndex={view() === name ? 0 : -1} title={hint("panel." + name, titles[name])} onClick={() => select(name)}>
                {titles[name]}
                <Show when={name === "problems" && props.project.run.problems().length}>
                  <span class="count">{props.project.run.problems().length}</span>
                </Show>
              </button>
            )}
          </For>
        </div>
        <div class="panel-info">
          <Show when={view() === "output"}>
            <Verdict project={props.project} />
            <Show when={props.project.run.phase() === "ended"}>
              <button class="icon-button" aria-label="Clear the output" title="Clear" onClick={() => execute("output.clear")}>
                <Icon name="clear" />
              </button>
            </Show>
          </Show>
          <Show when={view() === "terminal"}>
            <button class="icon-button" aria-label="New terminal" title={hint("terminal.new")} onClick={() => execute("terminal.new")}>
              <Icon name="plus" />
            </button>
            <Show when={props.project.terminals.list().length}>
              <button class="icon-button" aria-label="Split the terminal" title={hint("terminal.split")} onClick={() => execute("terminal.split")}>
                <Icon name="split" />
              </button>
            </Show>
            <Show when={props.project.terminals.list().length === 1}>
              <button class="icon-button" aria-label="End this terminal" title="End this terminal" onClick={() => execute("terminal.kill")}>
                <Icon name="trash" />
              </button>
            </Show>
          </Show>
          <button class="icon-button" aria-label="Hide the panel" title={hint("view.panel", "Hide")} onClick={() => execute("view.panel")}>
            <Icon name="down" />
          </button>
        </div>
      </div>
      <div class="panel-body" id="panel-body" role="tabpanel" aria-labelledby={"panel-tab-" + view()}>
        <Show when={view() === "output"}>
          <OutputPart project={props.project} />
        </Show>
        <Show when={view() === "problems"}>
          <Problems project={props.project} />
        </Show>
        <Show when={wasSeen()}>
          <div style={{display: view() === "terminal" ? "contents" : "none"}}>
            <TerminalsView project={props.project} visible={visible()} />
          </div>
        </Show>
      </div>
    </section>
  );
}
