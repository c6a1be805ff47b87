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
