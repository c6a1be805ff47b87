// SPDX-License-Identifier: Apache-2.0
/** How a person likes it: theme, size of text, wrapping; the same in every workspace of this browser. */
import {createSignal} from "solid-js";
import {Emitter} from "./core/event";
import {isNumber, isObject, recall, remember} from "./core/store";

export const THEMES = ["system", "dark", "light", "contrast"] as const;
export type Theme = (typeof THEMES)[number];
export const THEME_NAMES: Record<Theme, string> = {system: "Same as the system", dark: "Dark", light: "Light", contrast: "High contrast"};

export interface Settings {
  theme: Theme;
  fontSize: number;
  wrap: boolean;
  minimap: boolean;
  screenReader: boolean;
}

function restored(): Settings {
  const v = recall<Record<string, unknown>>("settings", isObject, {});
  return {
    theme: THEMES.find((t) => t === v["theme"]) ?? "system",
    fontSize: isNumber(v["fontSize"]) && v["fontSize"] >= 9 && v["fontSize"] <= 32 ? v["fontSize"] : 13,
    wrap: v["wrap"] === true,
    minimap: v["minimap"] === true,
    screenReader: v["screenReader"] === true,
  };
}

export const [settings, setSettings] = createSignal(restored());
/** The colours are others now. */
export const themeChanged = new Emitter<void>();
export type Shown = "dark" | "light" | "contrast";
export const [shownTheme, setShown] = createSignal<Shown>("dark");

const dark = matchMedia("(prefers-color-scheme: dark)");
const contrast = matchMedia("(prefers-contrast: more)");

export function applyTheme(): void {
  const t = settings().theme;
  const shown = t !== "system" ? t : contrast.matches ? "contrast" : dark.matches ? "dark" : "light";
  document.documentElement.dataset["theme"] = shown;
  setShown(shown);
  themeChanged.emit();
}
dark.addEventListener("change", applyTheme);
contrast.addEventListener("change", applyTheme);

export function change(what: Partial<Settings>): void {
  setSettings({...settings(), ...what});
  remember("settings", settings());
  if (what.theme) applyTheme();
}

const ink = document.createElement("canvas").getContext("2d");

/** The colour of a token, as "#rrggbb": what a build makes of "#ffffff" may be "#fff", or a name. */
export function token(name: string): string {
  const value = getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  if (!ink) return value;
  ink.fillStyle = value;
  return ink.fillStyle;
}
