// SPDX-License-Identifier: Apache-2.0
/** Colours for languages: Monaco's Monarch grammars, each loaded with the first file that needs it, and two of our own. */
import {languages} from "monaco-editor/editor";
import "monaco-editor/languages/definitions/css/register";
import "monaco-editor/languages/definitions/go/register";
import "monaco-editor/languages/definitions/html/register";
import "monaco-editor/languages/definitions/javascript/register";
import "monaco-editor/languages/definitions/markdown/register";
import "monaco-editor/languages/definitions/python/register";
import "monaco-editor/languages/definitions/rust/register";
import "monaco-editor/languages/definitions/shell/register";
import "monaco-editor/languages/definitions/typescript/register";
import "monaco-editor/languages/definitions/yaml/register";
import {baseName, extension} from "../core/path";

const brackets: languages.LanguageConfiguration = {
  brackets: [
    ["{", "}"],
    ["[", "]"],
  ],
  autoClosingPairs: [
    {open: "{", close: "}"},
    {open: "[", close: "]"},
    {open: '"', close: '"', notIn: ["string"]},
  ],
};

languages.register({id: "json"});
languages.setLanguageConfiguration("json", {...brackets, comments: {lineComment: "//", blockComment: ["/*", "*/"]}});
languages.setMonarchTokensProvider("json", {
  tokenizer: {
    root: [
      [/"(?:[^"\\]|\\.)*"(?=\s*:)/, "type"],
      [/"(?:[^"\\]|\\.)*"/, "string"],
      [/"(?:[^"\\]|\\.)*$/, "string.invalid"],
      [/-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?/, "number"],
      [/\b(?:true|false|null)\b/, "keyword"],
      [/\/\/.*$/, "comment"],
      [/\/\*/, "comment", "@comment"],
      [/[{}[\]]/, "@brackets"],
      [/[,:]/, "delimiter"],
    ],
    comment: [
      [/\*\//, "comment", "@pop"],
      [/./, "comment"],
    ],
  },
});

languages.register({id: "toml"});
languages.setLanguageConfiguration("toml", {...brackets, comments: {lineComment: "#"}});
languages.setMonarchTokensProvider("toml", {
  tokenizer: {
    root: [
      [/^\s*\[\[?[^\]]*\]\]?/, "tag"],
      [/[\w.-]+(?=\s*=)/, "type"],
      [/"""/, "string", '@long."""'],
      [/'''/, "string", "@long.'''"],
      [/"(?:[^"\\]|\\.)*"/, "string"],
      [/'[^']*'/, "string"],
      [/\b\d{4}-\d{2}-\d{2}(?:[T ][\d:.]+(?:Z|[+-][\d:]+)?)?/, "number"],
      [/[+-]?\b(?:0x[\da-fA-F_]+|0o[0-7_]+|0b[01_]+|[\d_]+(?:\.[\d_]+)?(?:[eE][-+]?\d+)?|inf|nan)\b/, "number"],
      [/\b(?:true|false)\b/, "keyword"],
      [/#.*$/, "comment"],
      [/[{}[\]]/, "@brackets"],
    ],
    long: [
      [/("""|''')/, {cases: {"$1==$S2": {token: "string", next: "@pop"}, "@default": "string"}}],
      [/./, "string"],
    ],
  },
});

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
