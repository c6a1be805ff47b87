// SPDX-License-Identifier: Apache-2.0
/** Which language a file is in, by its name. */
import {baseName, extension} from "./path";

const BY_EXTENSION: Record<string, string> = {
  py: "python",
  pyi: "python",
  js: "javascript",
  mjs: "javascript",
  cjs: "javascript",
  jsx: "javascript",
  ts: "typescript",
  mts: "typescript",
  tsx: "typescript",
  go: "go",
  rs: "rust",
  html: "html",
  htm: "html",
  css: "css",
  json: "json",
  md: "markdown",
  sh: "shell",
  bash: "shell",
  yaml: "yaml",
  yml: "yaml",
  toml: "toml",
};
const BY_NAME: Record<string, string> = {"Cargo.lock": "toml", ".bashrc": "shell", ".profile": "shell"};

export const languageOf = (path: string): string => BY_NAME[baseName(path)] ?? BY_EXTENSION[extension(path)] ?? "plaintext";

const NAMES: Record<string, string> = {
  plaintext: "Plain text",
  javascript: "JavaScript",
  typescript: "TypeScript",
  html: "HTML",
  css: "CSS",
  json: "JSON",
  yaml: "YAML",
  toml: "TOML",
};
export const languageName = (id: string): string => NAMES[id] ?? id[0]!.toUpperCase() + id.slice(1);
