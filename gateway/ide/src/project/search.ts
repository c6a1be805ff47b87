// SPDX-License-Identifier: Apache-2.0
/** Search in files. The contents are read once for each ETag, several at a time; what is found comes as it is found. */
import type * as apiTypes from "../net/api";
import * as api from "../net/api";
import type {Entry} from "../net/wire";
import {isIgnored} from "./files";

export interface Query {
  text: string;
  regex: boolean;
  matchCase: boolean;
  wholeWord: boolean;
}
export interface Hit {
  line: number;
  column: number;
  length: number;
  /** The line, shortened around the hit. */
  text: string;
  at: number;
}
export interface FileHits {
  id: string;
  path: string;
  hits: Hit[];
}

const MAX_SIZE = 512 << 10;
const MAX_HITS = 2000;
const AT_ONCE = 6;

export function pattern(q: Query): RegExp {
  let source = q.regex ? q.text : q.text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  if (q.wholeWord) source = "\\b(?:" + source + ")\\b";
  return new RegExp(source, "g" + (q.matchCase ? "" : "i"));
}

export function hitsIn(text: string, re: RegExp, max: number): Hit[] {
  const hits: Hit[] = [];
  const lines = text.split("\n");
  for (let i = 0; i < lines.length && hits.length < max; i++) {
    const line = lines[i]!.slice(0, 10_000);
    re.lastIndex = 0;
    for (let m = re.exec(line); m && hits.length < max; m = re.exec(line)) {
      if (m[0] === "") {
        re.lastIndex++;
        continue;
      }
      const from = Math.max(0, m.index - 14);
      const indent = line.length - line.trimStart().length;
      let start = Math.min(Math.max(from, indent), m.index);
      while (start > indent && start < m.index && /\w/.test(line[start]!) && /\w/.test(line[start - 1]!)) start++;
      const cut = start > indent ? "…" : "";
      hits.push({line: i + 1, column: m.index + 1, length: m[0].length, text: cut + line.slice(start, start + 240), at: m.index - start + cut.length});
    }
  }
  return hits;
}

export class Search {
  private cache = new Map<string, {etag: string; text: string | null}>();

  private async text(e: Entry, open: (id: string) => string | null): Promise<string | null> {
    const here = open(e.id);
    if (here !== null) return here;
    const kept = this.cache.get(e.id);
    if (kept && kept.etag === e.etag) return kept.text;
    const {content, etag} = await api.readFile(e.id);
    const text = typeof content === "string" ? content : null;
    this.cache.set(e.id, {etag, text});
    return text;
  }

  /** Returns whether it stopped at the most that is shown. */
  async find(q: Query, entries: Entry[], open: (id: string) => string | null, found: (f: FileHits) => void, signal: AbortSignal): Promise<boolean> {
    const re = pattern(q);
    const queue = entries.filter((e) => e.type === "file" && e.size <= MAX_SIZE && !isIgnored(e.path)).sort((a, b) => (a.path < b.path ? -1 : 1));
    let left = MAX_HITS;
    const work = async () => {
      for (let e = queue.shift(); e && left > 0 && !signal.aborted; e = queue.shift()) {
        const text = await this.text(e, open).catch(() => null);
        if (text === null || signal.aborted) continue;
        const hits = hitsIn(text, new RegExp(re), left);
        if (!hits.length) continue;
        left -= hits.length;
        found({id: e.id, path: e.path, hits});
      }
    };
    await Promise.all(Array.from({length: AT_ONCE}, work));
    return left <= 0;
  }
}

export function replaceAll(content: apiTypes.Content, q: Query, by: string): string | null {
  if (typeof content !== "string") return null;
  const re = pattern(q);
  const result = q.regex ? content.replace(re, by) : content.replace(re, () => by);
  return result === content ? null : result;
}
