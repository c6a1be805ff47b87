// SPDX-License-Identifier: Apache-2.0
export interface Match {
  score: number;
  /** Indices of the characters that matched. */
  at: number[];
}

const isBoundary = (text: string, i: number): boolean => {
  if (i === 0) return true;
  const before = text[i - 1]!;
  if (/[\/\\ ._:-]/.test(before)) return true;
  const here = text[i]!;
  return before === before.toLowerCase() && here !== here.toLowerCase();
};

/** Whether all characters of the query stand in text in order; runs and beginnings of words score. */
export function fuzzy(query: string, text: string): Match | null {
  if (!query) return {score: 0, at: []};
  const wanted = query.toLowerCase();
  const lower = text.toLowerCase();
  const whole = lower.lastIndexOf(wanted);
  if (whole >= 0) {
    const at = Array.from(wanted, (_, i) => whole + i);
    return {score: 1000 + (isBoundary(text, whole) ? 200 : 0) - text.length - (text.length - whole) * 0.1, at};
  }
  const at: number[] = [];
  let score = 0;
  let from = 0;
  for (const c of wanted) {
    if (c === " ") continue;
    let i = lower.indexOf(c, from);
    if (i < 0) return null;
    for (let j = i; j >= 0; j = lower.indexOf(c, j + 1)) {
      if (isBoundary(text, j)) {
        i = j;
        break;
      }
    }
    score += i === from && at.length ? 15 : isBoundary(text, i) ? 20 : 1;
    at.push(i);
    from = i + 1;
  }
  // A jump to a later beginning of a word may have gone too far: then take the plain way.
  return {score: score - text.length * 0.1, at};
}
