// SPDX-License-Identifier: Apache-2.0
/** Three-way merge by lines, and the smallest replacement that turns one text into another. */
const MAX_EDITS = 2000;

/** Pairs of lines that a and b have in common, in order (Myers). null: too different to say. */
function common(a: string[], b: string[]): [number, number][] | null {
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  const n = a.length - start - end;
  const m = b.length - start - end;
  const pairs: [number, number][] = [];
  for (let i = 0; i < start; i++) pairs.push([i, i]);
  const middle = n && m ? shortest(a.slice(start, start + n), b.slice(start, start + m)) : [];
  if (!middle) return null;
  for (const [i, j] of middle) pairs.push([i + start, j + start]);
  for (let i = end; i > 0; i--) pairs.push([a.length - i, b.length - i]);
  return pairs;
}

function shortest(a: string[], b: string[]): [number, number][] | null {
  const trace: Map<number, number>[] = [];
  let v = new Map<number, number>([[1, 0]]);
  for (let d = 0; d <= Math.min(a.length + b.length, MAX_EDITS); d++) {
    trace.push(new Map(v));
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && (v.get(k - 1) ?? -1) < (v.get(k + 1) ?? -1));
      let x = down ? v.get(k + 1)! : v.get(k - 1)! + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x++;
      v.set(k, x);
      if (x >= a.length && x - k >= b.length) return walkBack(trace, a.length, b.length);
    }
    v = new Map(v);
  }
  return null;
}

function walkBack(trace: Map<number, number>[], n: number, m: number): [number, number][] {
  const pairs: [number, number][] = [];
  let x = n;
  let y = m;
  for (let d = trace.length - 1; d >= 0; d--) {
    const v = trace[d]!;
    const k = x - y;
    const down = k === -d || (k !== d && (v.get(k - 1) ?? -1) < (v.get(k + 1) ?? -1));
    const before = down ? k + 1 : k - 1;
    const px = v.get(before) ?? 0;
    const py = px - before;
    while (x > px && y > py && x > 0 && y > 0) pairs.push([--x, --y]);
    if (d > 0) {
      x = px;
      y = py;
    }
  }
  return pairs.reverse();
}

/** What both made of base; null when they changed the same place differently. */
export function merge(base: string, mine: string, theirs: string): string | null {
  if (mine === theirs || theirs === base) return mine;
  if (mine === base) return theirs;
  const [o, a, b] = [base, mine, theirs].map((t) => t.split("\n")) as [string[], string[], string[]];
  const inA = common(o, a);
  const inB = common(o, b);
  if (!inA || !inB) return null;
  const mapA = new Map(inA);
  const mapB = new Map(inB);
  const result: string[] = [];
  let [io, ia, ib] = [0, 0, 0];
  for (let next = 0; next <= o.length; next++) {
    const ja = next === o.length ? a.length : mapA.get(next);
    const jb = next === o.length ? b.length : mapB.get(next);
    if (ja === undefined || jb === undefined) continue;
    const [was, ours, other] = [o.slice(io, next), a.slice(ia, ja), b.slice(ib, jb)].map((l) => l.join("\n")) as [string, string, string];
    const changedA = ours !== was || ja - ia !== next - io;
    const changedB = other !== was || jb - ib !== next - io;
    if (changedA && changedB && (ours !== other || ja - ia !== jb - ib)) return null;
    result.push(...(changedA ? a.slice(ia, ja) : b.slice(ib, jb)));
    if (next < o.length) result.push(o[next]!);
    [io, ia, ib] = [next + 1, ja + 1, jb + 1];
  }
  return result.join("\n");
}

/** The one stretch of text that must be replaced: from, to (in a) and what comes there. */
export function difference(a: string, b: string): {from: number; to: number; text: string} | null {
  if (a === b) return null;
  let from = 0;
  const shorter = Math.min(a.length, b.length);
  while (from < shorter && a[from] === b[from]) from++;
  let end = 0;
  while (end < shorter - from && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  return {from, to: a.length - end, text: b.slice(from, b.length - end)};
}
