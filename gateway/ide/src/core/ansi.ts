// SPDX-License-Identifier: Apache-2.0
/** Text with ANSI colours, cut into lines. Only colours and weights are taken from escape sequences; all others, among them those that
 *  would write to the clipboard or rename the window, are dropped. The result is data: whoever shows it writes text, never HTML. */
export interface Span {
  text: string;
  /** Class names: "fg-1 bold". */
  style: string;
}
export interface Line {
  spans: Span[];
  stream: "stdout" | "stderr" | "note" | "input";
}

const MAX_LINE = 2000;
const MAX_ESCAPE = 4096;

interface Pen {
  fg: number;
  bg: number;
  bold: boolean;
  dim: boolean;
  italic: boolean;
  underline: boolean;
  inverse: boolean;
}
const plain = (): Pen => ({fg: -1, bg: -1, bold: false, dim: false, italic: false, underline: false, inverse: false});

function styleOf(p: Pen): string {
  const names: string[] = [];
  const [fg, bg] = p.inverse ? [p.bg, p.fg] : [p.fg, p.bg];
  if (p.inverse && p.fg < 0 && p.bg < 0) names.push("inverse");
  if (fg >= 0) names.push("fg-" + fg);
  if (bg >= 0) names.push("bg-" + bg);
  if (p.bold) names.push("bold");
  if (p.dim) names.push("dim");
  if (p.italic) names.push("italic");
  if (p.underline) names.push("underline");
  return names.join(" ");
}

/** The nearest of the 16 colours that a theme defines. */
function nearest(r: number, g: number, b: number): number {
  const max = Math.max(r, g, b);
  if (max < 48) return 0;
  if (Math.max(Math.abs(r - g), Math.abs(g - b), Math.abs(r - b)) < 32) return max > 200 ? 15 : max > 120 ? 7 : 8;
  const bit = (v: number) => (v > max / 2 ? 1 : 0);
  return bit(r) + 2 * bit(g) + 4 * bit(b) + (max > 200 ? 8 : 0);
}

function indexed(n: number): number {
  if (n < 16) return n;
  if (n >= 232) return nearest((n - 232) * 10 + 8, (n - 232) * 10 + 8, (n - 232) * 10 + 8);
  const step = (v: number) => (v ? v * 40 + 55 : 0);
  const c = n - 16;
  return nearest(step(Math.floor(c / 36)), step(Math.floor(c / 6) % 6), step(c % 6));
}

function select(pen: Pen, params: number[]): void {
  for (let i = 0; i < params.length; i++) {
    const p = params[i]!;
    if (p === 0) Object.assign(pen, plain());
    else if (p === 1) pen.bold = true;
    else if (p === 2) pen.dim = true;
    else if (p === 3) pen.italic = true;
    else if (p === 4) pen.underline = true;
    else if (p === 7) pen.inverse = true;
    else if (p === 22) pen.bold = pen.dim = false;
    else if (p === 23) pen.italic = false;
    else if (p === 24) pen.underline = false;
    else if (p === 27) pen.inverse = false;
    else if (p >= 30 && p <= 37) pen.fg = p - 30;
    else if (p === 39) pen.fg = -1;
    else if (p >= 40 && p <= 47) pen.bg = p - 40;
    else if (p === 49) pen.bg = -1;
    else if (p >= 90 && p <= 97) pen.fg = p - 82;
    else if (p >= 100 && p <= 107) pen.bg = p - 92;
    else if (p === 38 || p === 48) {
      let colour = -1;
      if (params[i + 1] === 5) {
        colour = indexed(Math.min(params[i + 2] ?? 0, 255));
        i += 2;
      } else if (params[i + 1] === 2) {
        colour = nearest(params[i + 2] ?? 0, params[i + 3] ?? 0, params[i + 4] ?? 0);
        i += 4;
      }
      if (p === 38) pen.fg = colour;
      else pen.bg = colour;
    }
  }
}

/** Length of the escape sequence at the beginning of text; 0 when its end has not come yet. */
function escapeLength(text: string): number {
  if (text.length < 2) return 0;
  const kind = text[1]!;
  if (kind === "[") {
    for (let i = 2; i < text.length; i++) {
      const c = text.charCodeAt(i);
      if (c >= 0x40 && c <= 0x7e) return i + 1;
      if (c < 0x20 || c > 0x7e) return i;
    }
    return 0;
  }
  if ("]PX^_".includes(kind)) {
    for (let i = 2; i < text.length; i++) {
      if (text[i] === "\x07") return i + 1;
      if (text[i] === "\x1b" && text[i + 1] === "\\") return i + 2;
      // Other control characters do not belong there: what began it was cut off.
      if (text.charCodeAt(i) < 0x20 && text[i] !== "\x1b") return i;
    }
    return 0;
  }
  if ("()*+#% ".includes(kind)) return text.length < 3 ? 0 : 3;
  return 2;
}

/** One stream of text on its way into lines. */
export class AnsiLines {
  private pen = plain();
  private rest = "";
  private open: Line | null = null;
  private length = 0;
  private returned = false;
  private stream: Line["stream"];
  private push: (line: Line) => void;
  private changed: (line: Line) => void;

  constructor(stream: Line["stream"], push: (line: Line) => void, changed: (line: Line) => void) {
    this.stream = stream;
    this.push = push;
    this.changed = changed;
  }

  private line(): Line {
    if (!this.open) {
      this.open = {spans: [], stream: this.stream};
      this.length = 0;
      this.push(this.open);
    }
    return this.open;
  }

  /** Ends the line that is open: what another stream writes begins a new one. */
  breakLine(): void {
    this.open = null;
    this.returned = false;
  }

  get isOpen(): boolean {
    return this.open !== null;
  }

  private text(text: string): void {
    while (text) {
      if (this.returned) {
        // "\r" and then text: the line is written anew (progress bars).
        const line = this.line();
        line.spans = [];
        this.length = 0;
        this.returned = false;
      }
      const line = this.line();
      const part = text.slice(0, MAX_LINE - this.length);
      text = text.slice(part.length);
      const style = styleOf(this.pen);
      const last = line.spans[line.spans.length - 1];
      if (last && last.style === style) last.text += part;
      else if (part) line.spans.push({text: part, style});
      this.length += part.length;
      this.changed(line);
      if (this.length >= MAX_LINE) this.open = null;
    }
  }

  write(chunk: string): void {
    let data = this.rest + chunk;
    this.rest = "";
    let from = 0;
    // eslint-disable-next-line no-control-regex
    const special = /[\x00-\x08\x0b-\x1f\x7f\n\u009b\u009d]/g;
    for (let m = special.exec(data); m; m = special.exec(data)) {
      if (m.index > from) this.text(data.slice(from, m.index));
      from = m.index + 1;
      const c = m[0];
      if (c === "\n") {
        this.line();
        this.breakLine();
      } else if (c === "\r") {
        if (data[from] !== "\n") this.returned = this.open !== null;
      } else if (c === "\x1b") {
        const length = escapeLength(data.slice(m.index, m.index + MAX_ESCAPE));
        if (length === 0) {
          if (data.length - m.index < MAX_ESCAPE) {
            this.rest = data.slice(m.index);
            return;
          }
          from = m.index + 2; // it has no end: only its beginning is dropped
          special.lastIndex = from;
          continue;
        }
        const sequence = data.slice(m.index + 2, m.index + length);
        if (data[m.index + 1] === "[" && /^[\d;:]*m$/.test(sequence)) select(this.pen, sequence.slice(0, -1).split(/[;:]/).map(Number));
        from = m.index + length;
        special.lastIndex = from;
      }
    }
    data = data.slice(from);
    if (data) this.text(data);
  }
}

export const textOf = (line: Line): string => line.spans.map((s) => s.text).join("");
