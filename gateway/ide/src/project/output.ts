// SPDX-License-Identifier: Apache-2.0
import {createSignal} from "solid-js";
import {AnsiLines, textOf, type Line} from "../core/ansi";

export const MAX_LINES = 100_000;
const DROP = 5_000;

/** The lines of one program's output. The oldest go when there are too many; who shows them draws once a frame. */
export class Output {
  lines: Line[] = [];
  dropped = 0;
  private widest = 0;
  private scheduled = false;
  private signal = createSignal(0);
  private streams: Record<Line["stream"], AnsiLines>;

  constructor() {
    const push = (line: Line) => this.push(line);
    const changed = (line: Line) => this.measure(line);
    const stream = (name: Line["stream"]) => new AnsiLines(name, push, changed);
    this.streams = {stdout: stream("stdout"), stderr: stream("stderr"), note: stream("note"), input: stream("input")};
  }

  /** Changes whenever there is something new to draw. */
  get version(): number {
    return this.signal[0]();
  }
  /** Characters of the longest line there was. */
  get width(): number {
    return this.widest;
  }

  private measure(line: Line): void {
    let n = 0;
    for (const s of line.spans) n += s.text.length;
    if (n > this.widest) this.widest = n;
  }

  private push(line: Line): void {
    this.lines.push(line);
    if (this.lines.length > MAX_LINES) {
      this.lines.splice(0, DROP);
      this.dropped += DROP;
    }
  }

  write(stream: Line["stream"], text: string): void {
    for (const other of Object.values(this.streams)) if (other !== this.streams[stream] && other.isOpen) other.breakLine();
    this.streams[stream].write(text);
    this.touch();
  }

  /** A line of ours among the program's. */
  note(text: string): void {
    this.write("note", text + "\n");
  }

  clear(): void {
    for (const s of Object.values(this.streams)) s.breakLine();
    this.lines = [];
    this.dropped = 0;
    this.widest = 0;
    this.touch();
  }

  private touch(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    const draw = () => {
      if (!this.scheduled) return;
      this.scheduled = false;
      this.signal[1]((v) => v + 1);
    };
    requestAnimationFrame(draw);
    setTimeout(draw, 250); // a hidden page has no frames
  }

  *texts(): Generator<string> {
    for (const line of this.lines) yield textOf(line);
  }
}
