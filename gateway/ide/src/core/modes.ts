// SPDX-License-Identifier: Apache-2.0
/** The modes of a terminal that outlive the bytes that set them. A screen that is made again from some point of the output on gets them
 *  first, as the escapes that set them: otherwise an editor's screen would be drawn into the shell's. */
const STICKY = [47, 1047, 1049, 1, 6, 7, 9, 25, 66, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 2004];
/** These are on in a terminal that was just made. */
const AT_FIRST = new Set([7, 25]);
const SCREENS = new Set([47, 1047, 1049]);

export class Modes {
  private changed = new Map<number, boolean>();

  /** CSI ? Pm h, CSI ? Pm l. */
  set(params: readonly (number | readonly number[])[], on: boolean): void {
    for (const p of params) {
      if (typeof p !== "number" || !STICKY.includes(p)) continue;
      // One is left by any of its names.
      if (SCREENS.has(p)) for (const other of SCREENS) this.changed.delete(other);
      if (on === AT_FIRST.has(p)) this.changed.delete(p);
      else this.changed.set(p, on);
    }
  }
  reset(): void {
    this.changed.clear();
  }
  get fullScreen(): boolean {
    return [...SCREENS].some((s) => this.changed.get(s) === true);
  }

  /** What sets them, on a terminal that was just made. */
  prefix(): string {
    return STICKY.filter((m) => this.changed.has(m))
      .map((m) => "\x1b[?" + m + (this.changed.get(m) ? "h" : "l"))
      .join("");
  }
  /** As prefix() gave it; anything else in it counts for nothing. */
  restore(prefix: string): void {
    this.reset();
    for (const m of prefix.matchAll(/\x1b\[\?(\d{1,4})([hl])/g)) this.set([Number(m[1])], m[2] === "h");
  }
}
