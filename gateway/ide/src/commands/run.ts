// SPDX-License-Identifier: Apache-2.0
import {register} from "../core/commands";
import {isNumber} from "../core/store";
import {project} from "../app";
import {words} from "../net/http";
import {commandOfFile, CONFIG_PATH, writeConfigs} from "../project/runConfigs";
import {ask} from "../ui/dialog";
import {shells, setTerminalFocus} from "../ui/terminals";
import {toast} from "../ui/toast";

const open = () => project() !== null;
const runs = () => project() !== null && !project()!.readOnly;
const idle = () => runs() && !project()!.run.busy;

function start(command: string | undefined): void {
  const p = project()!;
  if (!command) {
    toast("There is no command to run: set one in the run configurations.", {bad: true});
    return;
  }
  showPanel("output");
  void p.run.start(command);
}

export function showPanel(panel: "output" | "terminal" | "problems"): void {
  project()!.layout.change((s) => {
    s.panel = panel;
    s.panelOpen = true;
  });
}

/** Shows a panel; the second time, with the focus already there, hides it. */
function togglePanel(panel: "output" | "terminal" | "problems"): void {
  const s = project()!.layout.state;
  const inside = document.activeElement?.closest(".panel") !== null && document.activeElement !== document.body;
  if (s.panelOpen && s.panel === panel && inside) {
    project()!.layout.change((l) => (l.panelOpen = false));
    return;
  }
  showPanel(panel);
}

const terminal = (arg: unknown): number => (isNumber(arg) ? arg : (project()?.terminals.active() ?? 0));

register([
  {id: "run.start", title: "Run", category: "Run", keys: ["Mod+Enter", "F5"], when: idle, run: () => start(project()!.config?.command)},
  {id: "run.stop", title: "Stop", category: "Run", keys: ["Shift+F5", "Mod+Enter"], when: () => runs() && project()!.run.busy, run: () => void project()!.run.stop()},
  {
    id: "run.file",
    title: "Run this file",
    category: "Run",
    keys: ["Mod+Shift+Enter"],
    when: () => idle() && project()!.active !== null,
    run: () => {
      const path = project()!.active!.path();
      const command = commandOfFile(path);
      if (command) start(command);
      else toast("It is not known how a file of this kind is run.", {bad: true});
    },
  },
  {
    id: "run.configure",
    title: "Edit run configurations",
    category: "Run",
    when: runs,
    run: async () => {
      const p = project()!;
      try {
        const entry = p.files.byPath().get(CONFIG_PATH) ?? (await p.files.createFile(CONFIG_PATH, writeConfigs(p.configs())));
        p.layout.open(entry.id);
      } catch (e) {
        toast(words(e), {bad: true});
      }
    },
  },
  {id: "output.clear", title: "Clear the output", category: "Run", when: () => idle(), run: () => project()!.run.clear()},
  {
    id: "output.copy",
    title: "Copy the output",
    category: "Run",
    when: open,
    run: async () => {
      await navigator.clipboard.writeText([...project()!.run.output.texts()].join("\n"));
      toast("Copied the output");
    },
  },
  {id: "panel.output", title: "Output", category: "View", keys: ["Mod+Shift+U"], when: open, run: () => togglePanel("output")},
  {id: "panel.problems", title: "Problems", category: "View", keys: ["Mod+Shift+M"], when: open, run: () => togglePanel("problems")},
  {
    id: "panel.terminal",
    title: "Terminal",
    category: "View",
    keys: ["Ctrl+`"],
    when: open,
    run: () => {
      togglePanel("terminal");
      if (!project()!.layout.state.panelOpen) return;
      if (runs() && !project()!.terminals.list().length) project()!.terminals.open();
      setTerminalFocus((n) => n + 1);
    },
  },
  {
    id: "terminal.new",
    title: "New terminal",
    category: "Terminal",
    keys: ["Ctrl+Shift+`"],
    when: runs,
    run: () => {
      showPanel("terminal");
      project()!.terminals.open();
    },
  },
  {
    id: "terminal.split",
    title: "Split the terminal",
    category: "Terminal",
    keys: ["Ctrl+Shift+5"],
    when: () => runs() && project()!.terminals.list().length > 0 && project()!.terminals.shown.length < 4,
    run: (arg) => {
      showPanel("terminal");
      project()!.terminals.open({beside: terminal(arg)});
    },
  },
  {
    id: "terminal.next",
    title: "Next terminal",
    category: "Terminal",
    keys: ["Alt+ArrowRight"],
    when: () => runs() && project()!.terminals.list().length > 1 && document.activeElement?.closest(".terminals") != null,
    run: () => {
      const {terminals} = project()!;
      const list = terminals.list();
      terminals.select(list[(list.findIndex((t) => t.key === terminals.active()) + 1) % list.length]!.key);
    },
  },
  {
    id: "terminal.kill",
    title: "End the terminal",
    category: "Terminal",
    when: () => runs() && project()!.terminals.list().length > 0,
    run: (arg) => {
      const key = terminal(arg);
      void shells.get(key)?.kill();
      project()!.terminals.close(key);
    },
  },
  {
    id: "terminal.rename",
    title: "Rename the terminal",
    category: "Terminal",
    when: () => runs() && project()!.terminals.list().length > 0,
    run: async (arg) => {
      const t = project()!.terminals.list().find((x) => x.key === terminal(arg));
      if (!t) return;
      const name = await ask({title: "Rename the terminal", value: t.name, ok: "Rename", check: (v) => (v.trim() ? "" : "A name is needed.")});
      if (name) project()!.terminals.rename(t.key, name.slice(0, 40));
    },
  },
  {id: "terminal.clear", title: "Clear the terminal", category: "Terminal", when: () => runs() && project()!.terminals.list().length > 0, run: () => shells.get(terminal(null))?.clear()},
  {
    id: "terminal.find",
    title: "Find in the terminal",
    category: "Terminal",
    when: () => runs() && project()!.terminals.list().length > 0,
    run: async () => {
      const text = await ask({title: "Find in the terminal", label: "Text", value: "", ok: "Find"});
      if (text && !shells.get(terminal(null))?.search.findPrevious(text)) toast("Not found: " + text);
    },
  },
]);
