// SPDX-License-Identifier: Apache-2.0
/** Search in files: the server goes through them, and what is found comes as it is found, over the workspace's socket. */
import {isNumber, isObject, isString} from "../core/store";
import type * as api from "../net/api";
import type {Message, WorkspaceSocket} from "../net/socket";
import {IGNORED} from "./files";

export interface Query {
  text: string;
  regex: boolean;
  matchCase: boolean;
  wholeWord: boolean;
  /** Globs, with commas between; one with "!" before it is left out. */
  where: string;
}
export interface Hit {
  line: number;
  column: number;
  length: number;
  /** The line, shortened around the hit. */
  text: string;
  /** Where in it the hit is. */
  from: number;
  to: number;
}
export interface FileHits {
  id: string;
  path: string;
  hits: Hit[];
}
export interface Found {
  more: boolean;
  tooHard: number;
}

const MAX_HITS = 2000;

export function pattern(q: Query): RegExp {
  let source = q.regex ? q.text : q.text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  if (q.wholeWord) source = "\\b(?:" + source + ")\\b";
  return new RegExp(source, "g" + (q.matchCase ? "" : "i"));
}

const MAX_BEFORE = 14;

/** Where a line begins to be shown: not with its indentation, and so near to the hit that this can be seen; not within a word. */
function shownFrom(before: string): number {
  let at = Math.max(before.length - before.trimStart().length, before.length - MAX_BEFORE);
  while (at > 0 && at < before.length && /\w/.test(before[at]!) && /\w/.test(before[at - 1]!)) at++;
  return at;
}

/** The server counts characters, the page UTF-16. */
function hit(v: unknown): Hit | null {
  if (!isObject(v) || !isNumber(v["line"]) || !isNumber(v["column"]) || !isNumber(v["length"]) || !isNumber(v["text_at"]) || !isString(v["text"])) return null;
  const characters = [...v["text"]];
  const before = characters.slice(0, v["text_at"]).join("");
  const match = characters.slice(v["text_at"], v["text_at"] + v["length"]).join("");
  const wide = before.length - v["text_at"]; // more than one unit each; those further left are not known
  const start = shownFrom(before);
  const cut = start > 0 && (v["column"] - 1 > v["text_at"] || before.slice(0, start).trim()) ? "…" : "";
  const from = cut.length + before.length - start;
  return {line: v["line"], column: v["column"] + wide, length: match.length, text: cut + v["text"].slice(start), from, to: from + match.length};
}

function fileHits(m: Message): FileHits | null {
  if (!isString(m["id"]) || !isString(m["path"]) || !Array.isArray(m["matches"])) return null;
  return {id: m["id"], path: m["path"], hits: m["matches"].map(hit).filter((h) => h !== null)};
}

function globs(q: Query): {include: string[]; exclude: string[]} {
  const all = q.where.split(",").map((g) => g.trim().replace(/^(!?)(?:\.?\/)/, "$1").replace(/\/$/, ""));
  const include = all.filter((g) => g && !g.startsWith("!"));
  return {include, exclude: [...all.filter((g) => g.startsWith("!") && g.length > 1).map((g) => g.slice(1)), ...(include.length ? [] : IGNORED)]};
}

/** reset: what was found so far comes again (the connection broke). Rejects with the server's words. */
export function find(socket: WorkspaceSocket, q: Query, on: {found: (f: FileHits) => void; reset: () => void}, signal: AbortSignal): Promise<Found> {
  return new Promise((resolve, reject) => {
    let done: Found | null = null;
    const channel = socket.open({
      fields: () => ({kind: "search", query: q.text, regex: q.regex, case_sensitive: q.matchCase, whole_word: q.wholeWord, ...globs(q), max_results: MAX_HITS}),
      message: (m) => {
        const f = m["type"] === "matches" ? fileHits(m) : null;
        if (f) on.found(f);
        if (m["type"] === "done") done = {more: m["truncated"] === true, tooHard: isNumber(m["lines_too_hard"]) ? m["lines_too_hard"] : 0};
      },
      closed: (_code, message) => {
        channel.close();
        if (done) resolve(done);
        else reject(new Error(message));
      },
      broken: () => {
        on.reset();
        return !signal.aborted;
      },
    });
    signal.addEventListener("abort", () => channel.close());
  });
}

/** Line by line, as the search goes. */
export function replaceAll(content: api.Content, q: Query, by: string): string | null {
  if (typeof content !== "string") return null;
  const re = pattern(q);
  const within = (line: string) => (q.regex ? line.replace(re, by) : line.replace(re, () => by));
  const result = content
    .split("\n")
    .map((line) => (line.endsWith("\r") ? within(line.slice(0, -1)) + "\r" : within(line)))
    .join("\n");
  return result === content ? null : result;
}
