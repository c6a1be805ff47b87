// SPDX-License-Identifier: Apache-2.0
/** The names that a text defines, by lines that look like definitions: enough to go to one. Language servers will know better. */
export interface Symbol {
  name: string;
  kind: string;
  line: number;
  column: number;
  /** How far it is indented: what it stands in. */
  depth: number;
}

/** The first group that matched names the symbol; the name of the group says what it is. */
type Rule = RegExp;
const word = "[\\p{L}_$][\\p{L}\\p{N}_$]*";
const rule = (source: string): Rule => new RegExp(source.replaceAll("WORD", word), "du");

const SCRIPT: Rule[] = [
  rule("^\\s*(?:export\\s+)?(?:default\\s+)?(?:declare\\s+)?(?:async\\s+)?function\\s*\\*?\\s*(?<function>WORD)"),
  rule("^\\s*(?:export\\s+)?(?:default\\s+)?(?:declare\\s+)?(?:abstract\\s+)?class\\s+(?<class>WORD)"),
  rule("^\\s*(?:export\\s+)?(?:declare\\s+)?(?:const\\s+)?enum\\s+(?<enum>WORD)"),
  rule("^\\s*(?:export\\s+)?(?:declare\\s+)?interface\\s+(?<interface>WORD)"),
  rule("^\\s*(?:export\\s+)?(?:declare\\s+)?type\\s+(?<type>WORD)[^=]*="),
  rule("^(?:export\\s+)?(?:const|let|var)\\s+(?<function>WORD)\\s*(?::[^=]+)?=\\s*(?:async\\s*)?(?:function\\b|\\([^)]*\\)(?:\\s*:[^=]+)?\\s*=>|WORD\\s*=>)"),
  rule("^(?:export\\s+)?(?:const|let|var)\\s+(?<variable>WORD)"),
  rule("^\\s+(?:(?:public|private|protected|static|readonly|async|override|get|set)\\s+)*(?!(?:if|for|while|switch|catch|return|function|new|await|super)\\b)(?<method>#?WORD)\\s*(?:<[^>]*>)?\\([^;]*\\)\\s*(?::[^;{]+)?\\{\\s*$"),
];
const RULES: Record<string, Rule[]> = {
  python: [rule("^\\s*(?:async\\s+)?def\\s+(?<function>WORD)"), rule("^\\s*class\\s+(?<class>WORD)"), rule("^(?<variable>[A-Z][A-Z0-9_]+)\\s*(?::[^=]+)?=[^=]")],
  javascript: SCRIPT,
  typescript: SCRIPT,
  go: [
    rule("^func\\s+(?:\\([^)]*\\)\\s*)?(?<function>WORD)"),
    rule("^type\\s+(?<type>WORD)"),
    rule("^(?:var|const)\\s+(?<variable>WORD)"),
  ],
  rust: [
    rule("^\\s*(?:pub(?:\\([^)]*\\))?\\s+)?(?:default\\s+)?(?:const\\s+)?(?:async\\s+)?(?:unsafe\\s+)?(?:extern\\s+\"[^\"]*\"\\s+)?fn\\s+(?<function>WORD)"),
    rule("^\\s*(?:pub(?:\\([^)]*\\))?\\s+)?(?:struct|union)\\s+(?<struct>WORD)"),
    rule("^\\s*(?:pub(?:\\([^)]*\\))?\\s+)?enum\\s+(?<enum>WORD)"),
    rule("^\\s*(?:pub(?:\\([^)]*\\))?\\s+)?(?:unsafe\\s+)?trait\\s+(?<trait>WORD)"),
    rule("^\\s*(?:pub(?:\\([^)]*\\))?\\s+)?mod\\s+(?<module>WORD)"),
    rule("^\\s*impl(?:<[^>]*>)?\\s+(?<impl>[^{]+?)\\s*(?:where\\b.*)?\\{?\\s*$"),
    rule("^\\s*macro_rules!\\s*(?<macro>WORD)"),
    rule("^\\s*(?:pub(?:\\([^)]*\\))?\\s+)?(?:const|static)\\s+(?:mut\\s+)?(?<variable>WORD)\\s*:"),
  ],
  markdown: [/^#{1,6}\s+(?<heading>.+?)\s*#*$/d],
  css: [/^(?<rule>[.#@:&\w[][^{};]*?)\s*\{/d],
  shell: [/^\s*(?:function\s+)?(?<function>[\w-]+)\s*\(\)/d, /^\s*function\s+(?<function>[\w-]+)/d],
  yaml: [/^(?<key>[\w.-]+):/d],
  toml: [/^\s*\[\[?(?<table>[^\]]+)\]/d],
  html: [/<(?:h[1-6])[^>]*>(?<heading>[^<]+)/di, /\bid="(?<id>[^"]+)"/di],
};

const MAX_LINES = 50_000;
const MAX_LINE = 500;
const MAX_SYMBOLS = 5000;

export const hasSymbols = (language: string): boolean => language in RULES;

export function symbolsOf(text: string, language: string): Symbol[] {
  const rules = RULES[language] ?? [];
  const found: Symbol[] = [];
  const lines = text.split("\n", MAX_LINES);
  for (let i = 0; i < lines.length && found.length < MAX_SYMBOLS; i++) {
    const line = lines[i]!.slice(0, MAX_LINE);
    for (const r of rules) {
      const m = r.exec(line);
      const [kind, name] = Object.entries(m?.groups ?? {}).find(([, v]) => v) ?? [];
      if (!kind || !name) continue;
      const depth = kind === "heading" ? (/^#*/.exec(line)?.[0].length ?? 1) - 1 : line.length - line.trimStart().length;
      found.push({name: name.trim(), kind, line: i + 1, column: (m?.indices?.groups?.[kind]?.[0] ?? 0) + 1, depth});
      break;
    }
  }
  return found;
}
