// SPDX-License-Identifier: Apache-2.0
import {known} from "./links";

/** What compilers and interpreters complain about, read from a program's output. */
export interface Problem {
  path: string;
  line: number;
  column: number;
  severity: "error" | "warning";
  message: string;
}

const PLACE = /^(.{1,1024}?\.\w{1,8}):(\d{1,7}):(\d{1,7}):\s*(.+)$/;
const RUST_HEAD = /^(error|warning)(?:\[\w+\])?: (.+)$/;
const RUST_PLACE = /^\s*--> (.+?):(\d+):(\d+)$/;
const PYTHON_FRAME = /^\s*File "(.+?)", line (\d+)/;
const PYTHON_END = /^(\w[\w.]*(?:Error|Exception|Interrupt|Exit|Warning|StopIteration))(?:: (.*))?$/;
const NODE_FRAME = /\(?((?:file:\/\/)?\/[^\s()]+):(\d+):(\d+)\)?$/;
const NODE_HEAD = /^(?:Uncaught )?(\w*Error(?: \[\w+\])?: .+)$/;
const MAX = 500;

export function readProblems(lines: Iterable<string>, exists: (path: string) => boolean): Problem[] {
  const problems: Problem[] = [];
  const add = (path: string, line: string | number, column: string | number, severity: Problem["severity"], message: string) => {
    if (problems.length < MAX) problems.push({path, line: Number(line), column: Number(column), severity, message});
  };
  let rust: {severity: Problem["severity"]; message: string} | null = null;
  let frame: {path: string; line: string} | null = null; // the deepest of ours in a traceback
  let node = "";
  for (const text of lines) {
    if (text.length > 4000) continue;
    let m = RUST_HEAD.exec(text);
    if (m) {
      rust = {severity: m[1] as Problem["severity"], message: m[2]!};
      continue;
    }
    if ((m = RUST_PLACE.exec(text))) {
      const path = known(m[1]!, exists);
      if (rust && path) add(path, m[2]!, m[3]!, rust.severity, rust.message);
      rust = null;
      continue;
    }
    if ((m = PYTHON_FRAME.exec(text))) {
      const path = known(m[1]!, exists);
      if (path) frame = {path, line: m[2]!};
      continue;
    }
    if (frame && (m = PYTHON_END.exec(text))) {
      add(frame.path, frame.line, 1, "error", m[2] ? m[1] + ": " + m[2] : m[1]!);
      frame = null;
      continue;
    }
    if ((m = NODE_HEAD.exec(text))) {
      node = m[1]!;
      continue;
    }
    if (node && (m = NODE_FRAME.exec(text))) {
      const path = known(m[1]!, exists);
      if (path) {
        add(path, m[2]!, m[3]!, "error", node);
        node = "";
      }
      continue;
    }
    if ((m = PLACE.exec(text))) {
      const path = known(m[1]!, exists);
      if (path) add(path, m[2]!, m[3]!, /^warning/i.test(m[4]!) ? "warning" : "error", m[4]!);
    }
  }
  return problems;
}
