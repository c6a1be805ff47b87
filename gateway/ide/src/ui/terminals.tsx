// SPDX-License-Identifier: Apache-2.0
/** The shells of the panel; xterm comes with the first of them. */
import {createEffect, createSignal, For, on, onCleanup, onMount, Show} from "solid-js";
import {execute} from "../core/commands";
import type {Project} from "../project/project";
import type {Terminal} from "../project/terminals";
import type {Shell} from "../terminal/terminal";
import {settings} from "../settings";
import {Icon} from "./icons";
import {commandItem, openMenu} from "./menu";

export const shells = new Map<number, Shell>();
export const [terminalFocus, setTerminalFocus] = createSignal(0);

function Screen(props: {project: Project; terminal: Terminal; visible: boolean; active: boolean; at: number; of: number}) {
  let host!: HTMLDivElement;
  const key = props.terminal.key;
  const first = props.terminal.first;
  const [failed, setFailed] = createSignal("");
  let gone = false;
  const begin = async () => {
    const [{Shell}] = await Promise.all([import("../terminal/terminal"), document.fonts.load('13px "JetBrains Mono Variable"').catch(() => [])]);
    if (gone) return;
    const shell = new Shell(host, props.project, {
      started: (process) => props.project.terminals.started(key, process),
      mark: (mark) => props.project.terminals.mark(key, mark),
      ended: () => first?.ended(),
      bell: () => undefined,
    });
    shells.set(key, shell);
    if (props.active) shell.focus();
    await (props.terminal.process ? shell.resume(props.terminal.process, props.terminal.marks.length > 1 ? props.terminal.marks[0] : undefined) : shell.begin(first?.command));
  };
  onMount(() => void begin().catch(() => setFailed("The terminal could not be loaded.")));
  createEffect(on([() => props.active, terminalFocus], () => props.active && shells.get(key)?.focus(), {defer: true}));
  onCleanup(() => {
    gone = true;
    shells.get(key)?.dispose();
    shells.delete(key);
  });
  return (
    <div
      class="terminal-host"
      classList={{beside: props.at > 0}}
      ref={host}
      onFocusIn={() => props.project.terminals.select(key)}
      style={{visibility: props.visible ? "visible" : "hidden", left: `calc(${(100 * props.at) / props.of}% + 12px)`, width: `calc(${100 / props.of}% - 16px)`}}
    >
      <Show when={failed()}>
        <div class="empty">{failed()}</div>
      </Show>
    </div>
  );
}

export function TerminalsView(props: {project: Project; visible: boolean}) {
  const all = props.project.terminals;
  return (
    <Show
      when={all.list().length}
      fallback={
        <div class="empty">
          <strong>No terminal is open</strong>
          <span>A shell in this workspace’s sandbox, with its files.</span>
          <button class="button" onClick={() => execute("terminal.new")}>
            <Icon name="terminal" /> New terminal
          </button>
        </div>
      }
    >
      <div class="terminals" data-size={settings().fontSize}>
        <div class="terminal-screens">
          <For each={all.list().map((t) => t.key)}>
            {(key) => {
              const terminal = all.list().find((t) => t.key === key)!;
              const at = () => all.shown.findIndex((t) => t.key === key);
              const active = () => props.visible && all.active() === key;
              return <Screen project={props.project} terminal={terminal} visible={props.visible && at() >= 0} active={active()} at={Math.max(0, at())} of={at() < 0 ? 1 : all.shown.length} />;
            }}
          </For>
        </div>
        <Show when={all.list().length > 1}>
          <ul class="terminal-list" aria-label="Terminals">
            <For each={all.list()}>
              {(t) => (
                <li class="terminal-item" classList={{current: all.active() === t.key, member: all.list().some((o) => o !== t && o.group === t.group)}}>
                  <button
                    aria-current={all.active() === t.key}
                    onClick={() => all.select(t.key)}
                    onContextMenu={(e) => {
                      e.preventDefault();
                      openMenu(t.name, [commandItem("terminal.split", t.key), commandItem("terminal.rename", t.key), commandItem("terminal.kill", t.key)], {x: e.clientX, y: e.clientY});
                    }}
                  >
                    <Icon name="terminal" /> {t.name}
                  </button>
                  <button class="icon-button" aria-label={"End " + t.name} onClick={() => execute("terminal.kill", t.key)}>
                    <Icon name="trash" />
                  </button>
                </li>
              )}
            </For>
          </ul>
        </Show>
      </div>
    </Show>
  );
}
