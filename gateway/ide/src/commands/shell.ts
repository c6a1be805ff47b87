// SPDX-License-Identifier: Apache-2.0
import {register} from "../core/commands";
import {go, project} from "../app";
import * as api from "../net/api";
import {CallError, words} from "../net/http";
import type {SideView} from "../project/layout";
import {who} from "../session";
import {setAccess} from "../ui/account";
import {ask} from "../ui/dialog";
import {handles} from "../ui/editors";
import {focusOn} from "../ui/focus";
import {setHelp} from "../ui/help";
import {openPalette} from "../ui/palette";
import {setPackagesFocus} from "../ui/packages";
import {setSearchFocus} from "../ui/search";
import {setSharing} from "../ui/share";
import {toast} from "../ui/toast";
import {change, THEMES, THEME_NAMES} from "../settings";

const open = () => project() !== null;
const owner = () => project() !== null && !project()!.readOnly;

/** The parts of the window that F6 goes through. */
const REGIONS = [".head .go-to", ".side [tabindex='0'], .side input", ".group.focused .monaco-editor textarea, .group.focused .native-edit-context, .group .tab-main", ".panel [role='tab'][tabindex='0']", ".foot button"];

function nextRegion(by: number): void {
  const present = REGIONS.map((s) => [...document.querySelectorAll<HTMLElement>(s)].find((e) => e.offsetParent !== null || e.getClientRects().length)).filter((e) => e !== undefined);
  const areas = present.map((e) => e.closest(".head, .side, .groups, .panel, .foot"));
  const at = areas.findIndex((a) => a?.contains(document.activeElement));
  const next = (at + by + present.length) % present.length;
  if (areas[next]?.classList.contains("groups")) handles.get(project()?.layout.state.activeGroup ?? 0)?.focus();
  else present[next]?.focus();
}

function showSide(side: SideView): void {
  project()!.layout.change((s) => {
    s.side = side;
    s.sideOpen = true;
  });
}

register([
  {id: "palette.commands", title: "Show all commands", category: "Go", keys: ["F1", "Mod+Shift+P"], run: () => openPalette(">")},
  {id: "palette.files", title: "Go to a file", category: "Go", keys: ["Mod+P"], when: open, run: () => openPalette("")},
  {
    id: "view.files",
    title: "Files",
    category: "View",
    keys: ["Mod+Shift+E"],
    when: open,
    run: () => {
      showSide("files");
      focusOn(() => document.querySelector<HTMLElement>("#file-tree [role='treeitem'][tabindex='0']"));
    },
  },
  {
    id: "view.search",
    title: "Search in files",
    category: "View",
    keys: ["Mod+Shift+F"],
    when: open,
    run: () => {
      showSide("search");
      setSearchFocus((n) => n + 1);
    },
  },
  {
    id: "view.packages",
    title: "Packages",
    category: "View",
    when: open,
    run: () => {
      showSide("packages");
      setPackagesFocus((n) => n + 1);
    },
  },
  {id: "view.side", title: "Show or hide the side", category: "View", keys: ["Mod+B"], when: open, run: () => project()!.layout.change((s) => (s.sideOpen = !s.sideOpen))},
  {id: "view.panel", title: "Show or hide the panel", category: "View", keys: ["Mod+J"], when: open, run: () => project()!.layout.change((s) => (s.panelOpen = !s.panelOpen))},
  {id: "view.nextPart", title: "Next part of the window", category: "View", keys: ["F6"], when: open, run: () => nextRegion(1)},
  {id: "view.previousPart", title: "Part before of the window", category: "View", keys: ["Shift+F6"], when: open, run: () => nextRegion(-1)},
  {
    id: "workspace.rename",
    title: "Rename the workspace",
    category: "Workspace",
    when: owner,
    run: async () => {
      const p = project()!;
      const name = await ask({title: "Rename the workspace", value: p.info().name, ok: "Rename", check: (v) => (v.trim() ? (v.length > 200 ? "This is too long." : "") : "A name is needed.")});
      if (!name || name === p.info().name) return;
      try {
        await p.rename(name);
        document.title = name + " · DevBox";
      } catch (e) {
        toast(words(e), {bad: true});
      }
    },
  },
  {id: "workspace.share", title: "Share", category: "Workspace", when: open, run: () => setSharing(project())},
  {
    id: "workspace.fork",
    title: "Make a copy of my own",
    category: "Workspace",
    when: open,
    run: async () => {
      const p = project()!;
      try {
        await p.flush();
        go("/w/" + (await copyOf(p.id, p.info().name, p.info().template)));
        toast("This is your copy.");
      } catch (e) {
        toast(words(e), {bad: true});
      }
    },
  },
  {id: "workspace.all", title: "All workspaces", category: "Workspace", when: open, run: () => go("/")},
  ...THEMES.map((t) => ({id: "settings.theme." + t, title: "Theme: " + THEME_NAMES[t], category: "Settings", run: () => change({theme: t})})),
  {id: "account.access", title: "API keys and sessions", category: "Account", when: () => who().state === "in", run: () => setAccess(true)},
  {id: "help.keys", title: "Keyboard shortcuts", category: "Help", run: () => setHelp(true)},
]);

/** By the server where it can; else file by file. */
async function copyOf(id: string, name: string, template: string): Promise<string> {
  try {
    return (await api.forkWorkspace(id)).id;
  } catch (e) {
    if (!(e instanceof CallError) || !e.isMissing) throw e;
  }
  const w = await api.createWorkspace((name + " (copy)").slice(0, 200), template);
  for (const e of await api.tree(id)) {
    if (e.type === "directory") await api.createFolder(w.id, e.path).catch(() => undefined);
    else await api.createFile(w.id, e.path, (await api.readFile(e.id)).content);
  }
  return w.id;
}
