// SPDX-License-Identifier: Apache-2.0
/** Places in files that a line of output names: Python's tracebacks, Go's and Rust's compilers, Node's stacks, and plain file:line. */
export interface Link {
  from: number;
  to: number;
  /** Of the workspace. */
  path: string;
  line: number;
  column: number;
}

const PYTHON = /File "([^"\n]{1,1024})", line (\d{1,7})/g;
const PLACE = /((?:file:\/\/)?(?:[\w@.+-]*\/)*[\w@.+-]+\.\w{1,8}):(\d{1,7})(?::(\d{1,7}))?/g;

/** The path in the workspace, or "" when it is none of its files. */
export function known(path: string, exists: (path: string) => boolean): string {
  let p = path.replace(/^file:\/\//, "");
  if (p.startsWith("/workspace/")) p = p.slice("/workspace/".length);
  while (p.startsWith("./")) p = p.slice(2);
  return !p.startsWith("/") && exists(p) ? p : "";
}

export function findLinks(text: string, exists: (path: string) => boolean): Link[] {
  const links: Link[] = [];
  if (text.length > 4000) return links;
  for (const pattern of [PYTHON, PLACE])
    for (const m of text.matchAll(pattern)) {
      const path = known(m[1]!, exists);
      const from = m.index;
      if (path && !links.some((l) => from < l.to && l.from < from + m[0].length))
        links.push({from, to: from + m[0].length, path, line: Number(m[2]), column: Number(m[3] ?? 1)});
    }
  return links.sort((a, b) => a.from - b.from);
}
