// SPDX-License-Identifier: Apache-2.0
/** Prettier, in the page: it comes with the first file that it formats, and each language with the first of its files. */
import type {Options, Plugin} from "prettier";
import {format} from "prettier/standalone";
import {extension} from "../core/path";
import {isNumber, isObject} from "../core/store";

interface Language {
  parser: string;
  plugins: () => Promise<{default: Plugin}[]>;
}
const estree = () => import("prettier/plugins/estree") as Promise<{default: unknown}> as Promise<{default: Plugin}>;
const js: Language = {parser: "babel", plugins: () => Promise.all([import("prettier/plugins/babel"), estree()])};
const ts: Language = {parser: "typescript", plugins: () => Promise.all([import("prettier/plugins/typescript"), estree()])};
const css: Language = {parser: "css", plugins: () => Promise.all([import("prettier/plugins/postcss")])};
const html: Language = {parser: "html", plugins: () => Promise.all([import("prettier/plugins/html"), import("prettier/plugins/postcss"), import("prettier/plugins/babel"), estree()])};
const yaml: Language = {parser: "yaml", plugins: () => Promise.all([import("prettier/plugins/yaml")])};
const BY_EXTENSION: Record<string, Language> = {
  js,
  mjs: js,
  cjs: js,
  jsx: js,
  ts,
  mts: ts,
  cts: ts,
  tsx: ts,
  css,
  html,
  htm: html,
  yaml,
  yml: yaml,
  json: {...js, parser: "json"},
  md: {parser: "markdown", plugins: () => Promise.all([import("prettier/plugins/markdown")])},
};

const FLAGS = ["semi", "singleQuote", "jsxSingleQuote", "bracketSpacing", "bracketSameLine", "useTabs"] as const;
const CHOICES = {
  trailingComma: ["all", "es5", "none"],
  arrowParens: ["always", "avoid"],
  quoteProps: ["as-needed", "consistent", "preserve"],
  proseWrap: ["always", "never", "preserve"],
} as const;

/** What a .prettierrc of JSON asks for; what is not understood counts for nothing. */
export function options(text: string): Options {
  let v: unknown;
  try {
    v = JSON.parse(text);
  } catch {
    return {};
  }
  const found: Record<string, unknown> = {};
  if (!isObject(v)) return found;
  for (const f of FLAGS) if (typeof v[f] === "boolean") found[f] = v[f];
  for (const n of ["tabWidth", "printWidth"]) if (isNumber(v[n]) && v[n] > 0 && v[n] <= 1000) found[n] = Math.floor(v[n]);
  for (const [name, list] of Object.entries(CHOICES)) if (list.some((x) => x === v[name])) found[name] = v[name];
  return found;
}

/** Rejects with the place of a syntax error. */
export async function formatted(path: string, text: string, config: string): Promise<string> {
  const language = BY_EXTENSION[extension(path)]!;
  const plugins = (await language.plugins()).map((p) => p.default ?? p);
  return format(text, {...options(config), parser: language.parser, plugins});
}
