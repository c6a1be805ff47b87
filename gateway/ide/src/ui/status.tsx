// SPDX-License-Identifier: Apache-2.0
/** The status bar: what holds now, and where to change it. */
import {createMemo, Show} from "solid-js";
import {execute, hint} from "../core/commands";
import {live, online} from "../app";
import type {Project} from "../project/project";
import {cursor} from "./editors";
import {Icon} from "./icons";
import {PHASES} from "./panel";

const SAVE_WORDS: Record<string, string> = {
  saved: "Saved",
  dirty: "Not saved yet",
  saving: "Saving…",
  offline: "Kept here until the server is back",
  conflict: "Needs merging",
  failed: "Not saved",
  gone: "Deleted elsewhere",
};

export function StatusBar(props: {project: Project}) {
  const run = props.project.run;
  const errors = createMemo(() => run.problems().filter((p) => p.severity === "error").length);
  const warnings = createMemo(() => run.problems().length - errors());
  const link = () => (!online() ? {kind: "bad", text: "Offline"} : !live() ? {kind: "warn", text: "Reconnecting…"} : {kind: "good", text: "Connected"});
  const saved = () => {
    const d = props.project.active;
    return d ? (SAVE_WORDS[d.state()] ?? "") : "";
  };
  return (
    <footer class="foot" aria-label="Status">
      <span>
        <span class={"dot " + link().kind} aria-hidden="true" /> {link().text}
      </span>
      <Show when={run.busy}>
        <button onClick={() => execute("panel.output")}>
          <Icon name="spinner" spin /> {PHASES[run.phase()]}
        </button>
      </Show>
      <button title={hint("panel.problems")} onClick={() => execute("panel.problems")}>
        <Icon name="error" /> {errors()}
        <span class="visually-hidden"> errors, </span>
        <Icon name="warning" /> {warnings()}
        <span class="visually-hidden"> warnings</span>
      </button>
      <Show when={props.project.readOnly}>
        <span>View only</span>
      </Show>
      <span class="push" />
      <span role="status" class="hide-narrow">
        {saved()}
      </span>
      <Show when={cursor() && props.project.layout.active}>
        <button title={hint("editor.goToLine")} onClick={() => execute("editor.goToLine")}>
          Ln {cursor()!.line}, Col {cursor()!.column}
          <Show when={cursor()!.selected}> ({cursor()!.selected} selected)</Show>
        </button>
        <span class="hide-narrow">{cursor()!.indent}</span>
        <span class="hide-narrow">UTF-8</span>
        <span class="hide-narrow">LF</span>
        <span>{cursor()!.language}</span>
      </Show>
    </footer>
  );
}
