// SPDX-License-Identifier: Apache-2.0
import {createSignal} from "solid-js";
import {go} from "../app";
import {signOut, who} from "../session";
import {change, settings, THEME_NAMES, THEMES} from "../settings";
import {commandItem, openMenu, type MenuItem} from "./menu";

/** Whether keys and sessions are shown. */
export const [access, setAccess] = createSignal(false);

export const themeItems = (): MenuItem[] =>
  THEMES.map((t) => ({kind: "item", title: THEME_NAMES[t], checked: settings().theme === t, run: () => change({theme: t})}));

export function accountMenu(at: Element): void {
  const w = who();
  const items: MenuItem[] = [
    {kind: "title", title: w.state === "in" ? w.name + (w.guest ? " (kept in this browser only)" : "") : "Not signed in"},
    {kind: "item", title: "All workspaces", run: () => go("/")},
    commandItem("palette.commands"),
    commandItem("help.keys"),
    ...(w.state === "in" ? [commandItem("account.access")] : []),
    {kind: "line"},
    {kind: "title", title: "Theme"},
    ...themeItems(),
    {kind: "line"},
    {
      kind: "item",
      title: "Sign out",
      run: async () => {
        await signOut();
        go("/");
      },
    },
  ];
  openMenu("Account and settings", items, at);
}
