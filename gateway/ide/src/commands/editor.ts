// SPDX-License-Identifier: Apache-2.0
import {register} from "../core/commands";
import {isNumber, isObject, isString} from "../core/store";
import {project} from "../app";
import {change, settings} from "../settings";
import {handles} from "../ui/editors";
import {openPalette} from "../ui/palette";

const open = () => project() !== null;
const edits = () => project()?.layout.active != null;
const handle = () => handles.get(project()!.layout.state.activeGroup);

interface TabRef {
  id: string;
  group: number;
}
function tab(arg: unknown): TabRef | null {
  const layout = project()?.layout;
  if (isObject(arg) && isString(arg["id"]) && isNumber(arg["group"])) return {id: arg["id"], group: arg["group"]};
  return layout?.active ? {id: layout.active, group: layout.state.activeGroup} : null;
}

function closeTab(t: TabRef | null): void {
  const p = project()!;
  if (!t) return;
  void p.opened(t.id)?.save();
  p.layout.close(t.id, t.group);
  p.sweep();
}
function closeOthers(t: TabRef | null, which: (id: string) => boolean): void {
  const g = project()!.layout.state.groups.find((x) => x.id === t?.group);
  for (const id of [...(g?.tabs ?? [])]) if (which(id)) closeTab({id, group: g!.id});
}

const action = (id: string, title: string, monaco: string) => ({id, title, category: "Edit", when: edits, run: () => handle()?.action(monaco)});

register([
  {id: "tab.close", title: "Close the tab", category: "View", keys: ["Alt+W", "Mod+F4"], when: edits, run: (arg) => closeTab(tab(arg))},
  {id: "tab.closeOthers", title: "Close the other tabs", category: "View", when: edits, run: (arg) => closeOthers(tab(arg), (id) => id !== tab(arg)?.id)},
  {id: "tab.closeSaved", title: "Close the saved tabs", category: "View", when: edits, run: (arg) => closeOthers(tab(arg), (id) => !project()!.opened(id)?.dirty)},
  {id: "tab.reopen", title: "Open the closed tab again", category: "View", keys: ["Alt+Shift+W"], when: open, run: () => project()!.layout.reopen((id) => project()!.files.byId().has(id))},
  {id: "tab.next", title: "Next tab", category: "View", keys: ["Mod+PageDown", "Alt+Shift+ArrowRight"], when: edits, run: () => project()!.layout.step(1)},
  {id: "tab.previous", title: "Previous tab", category: "View", keys: ["Mod+PageUp", "Alt+Shift+ArrowLeft"], when: edits, run: () => project()!.layout.step(-1)},
  {
    id: "tab.last",
    title: "Go to the file before",
    category: "View",
    keys: ["Ctrl+Tab"],
    when: edits,
    run: () => {
      const layout = project()!.layout;
      const before = layout.recentFiles.find((id) => id !== layout.active && layout.group.tabs.includes(id));
      if (before) layout.open(before);
    },
  },
  {id: "editor.split", title: "Split the editor", category: "View", keys: ["Mod+\\"], when: edits, run: () => (project()!.layout.split(), handle()?.focus())},
  {id: "editor.focus", title: "Go to the editor", category: "View", keys: ["Mod+1"], when: open, run: () => handle()?.focus()},
  {
    id: "editor.nextGroup",
    title: "Next editor group",
    category: "View",
    keys: ["Mod+2"],
    when: open,
    run: () => {
      const {groups, activeGroup} = project()!.layout.state;
      const i = groups.findIndex((g) => g.id === activeGroup);
      project()!.layout.focusGroup(groups[(i + 1) % groups.length]!.id);
      handle()?.focus();
    },
  },
  {id: "editor.goToLine", title: "Go to a line", category: "Go", keys: ["Ctrl+G"], when: edits, run: () => openPalette(":")},
  {id: "editor.goToSymbol", title: "Go to a name in this file", category: "Go", keys: ["Mod+Shift+O"], when: edits, run: () => openPalette("@")},
  {id: "editor.goTo", title: "Go to", hidden: true, when: edits, run: (arg) => isObject(arg) && isNumber(arg["line"]) && handle()?.reveal(arg["line"], isNumber(arg["column"]) ? arg["column"] : 1)},
  action("editor.undo", "Undo", "undo"),
  action("editor.redo", "Redo", "redo"),
  action("editor.find", "Find in this file", "actions.find"),
  action("editor.replace", "Replace in this file", "editor.action.startFindReplaceAction"),
  action("editor.comment", "Comment lines in or out", "editor.action.commentLine"),
  action("editor.fold", "Fold", "editor.fold"),
  action("editor.unfold", "Unfold", "editor.unfold"),
  action("editor.foldAll", "Fold everything", "editor.foldAll"),
  action("editor.unfoldAll", "Unfold everything", "editor.unfoldAll"),
  action("editor.nextProblem", "Next problem", "editor.action.marker.nextInFiles"),
  action("editor.selectAll", "Select all the same", "editor.action.selectHighlights"),
  action("editor.tabFocus", "Let Tab move the focus, or indent", "editor.action.toggleTabFocusMode"),
  {id: "settings.wrap", title: "Wrap long lines", category: "Settings", keys: ["Alt+Z"], run: () => change({wrap: !settings().wrap})},
  {id: "settings.minimap", title: "Show the minimap", category: "Settings", run: () => change({minimap: !settings().minimap})},
  {id: "settings.larger", title: "Larger text", category: "Settings", run: () => change({fontSize: Math.min(32, settings().fontSize + 1)})},
  {id: "settings.smaller", title: "Smaller text", category: "Settings", run: () => change({fontSize: Math.max(9, settings().fontSize - 1)})},
  {id: "settings.screenReader", title: "Screen reader mode", category: "Settings", run: () => change({screenReader: !settings().screenReader})},
]);
