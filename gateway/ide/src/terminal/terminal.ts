// SPDX-License-Identifier: Apache-2.0
/** A shell's screen: xterm, bound to a process with a terminal. Bytes are acknowledged when they are drawn; while what was is played
 *  again, answers that the screen would give to old questions do not reach the shell. */
import {FitAddon} from "@xterm/addon-fit";
import {SearchAddon} from "@xterm/addon-search";
import {Unicode11Addon} from "@xterm/addon-unicode11";
import {WebLinksAddon} from "@xterm/addon-web-links";
import {Terminal as Xterm, type ITheme} from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";
import type {Dispose} from "../core/event";
import {verdictWords} from "../core/verdict";
import * as api from "../net/api";
import {CallError, words} from "../net/http";
import {isOver, type Started} from "../net/wire";
import type {Project} from "../project/project";
import {settings, themeChanged, token} from "../settings";

const ACK_EVERY = 32 << 10;
const SHELL = "if command -v bash >/dev/null; then exec bash -i; else exec sh -i; fi";
const FONT = '"JetBrains Mono Variable", ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace';

function theme(): ITheme {
  const names = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"] as const;
  const colours: ITheme = {
    background: token("canvas"),
    foreground: token("text"),
    cursor: token("accent"),
    cursorAccent: token("canvas"),
    selectionBackground: token("edit-selection"),
  };
  names.forEach((name, i) => {
    colours[name] = token("ansi-" + i);
    colours[("bright" + name[0]!.toUpperCase() + name.slice(1)) as "brightBlack"] = token("ansi-" + (i + 8));
  });
  return colours;
}

export class Shell {
  private term: Xterm;
  private fit = new FitAddon();
  readonly search = new SearchAddon();
  private ref: Started | null = null;
  private leave: Dispose | null = null;
  private stops: Dispose[] = [];
  private received = 0;
  private acked = 0;
  private replaying = false;
  private over = false;
  private timer = 0;

  constructor(
    private host: HTMLElement,
    private project: Project,
    private on: {started: (process: string) => void; ended: (words: string) => void; bell: () => void},
  ) {
    this.term = new Xterm({
      allowProposedApi: true,
      fontFamily: FONT,
      fontSize: settings().fontSize,
      lineHeight: 1.25,
      cursorBlink: false,
      scrollback: 5000,
      minimumContrastRatio: 4.5,
      screenReaderMode: settings().screenReader,
      macOptionIsMeta: true,
      theme: theme(),
    });
    this.term.loadAddon(this.fit);
    this.term.loadAddon(this.search);
    this.term.loadAddon(new WebLinksAddon((e, uri) => (e.ctrlKey || e.metaKey) && window.open(uri, "_blank", "noopener,noreferrer")));
    this.term.loadAddon(new Unicode11Addon());
    this.term.unicode.activeVersion = "11";
    // Programs do not write to the clipboard, and do not rename anything here.
    this.term.parser.registerOscHandler(52, () => true);
    this.term.open(host);
    this.term.textarea?.setAttribute("aria-label", "Terminal. Ctrl+Shift+E leaves to the files.");
    this.term.onData((data) => {
      if (this.replaying) return;
      if (this.over) {
        if (data === "\r") void this.begin();
      } else if (this.ref) this.project.transport.input(this.ref, data);
    });
    this.term.onBell(() => this.on.bell());
    this.term.attachCustomKeyEventHandler((e) => this.key(e));
    this.stops.push(themeChanged.on(() => (this.term.options.theme = theme())));
    const observer = new ResizeObserver(() => {
      clearTimeout(this.timer);
      this.timer = window.setTimeout(() => this.refit(), 60);
    });
    observer.observe(host);
    this.stops.push(() => observer.disconnect());
    this.refit();
  }

  /** Ctrl-C copies when something is selected; Ctrl-Shift-C and -V always mean the clipboard. */
  private key(e: KeyboardEvent): boolean {
    if (e.type !== "keydown" || !e.ctrlKey || e.altKey || e.metaKey) return true;
    const key = e.key.toLowerCase();
    if (key === "c" && (e.shiftKey || this.term.hasSelection())) {
      if (this.term.hasSelection()) void navigator.clipboard.writeText(this.term.getSelection());
      this.term.clearSelection();
      e.preventDefault();
      return false;
    }
    // The browser pastes into xterm's own field, which brackets it.
    return !(key === "v" && e.shiftKey);
  }

  private refit(): void {
    if (!this.host.offsetParent) return;
    this.fit.fit();
    if (this.ref && !this.over) this.project.transport.resize(this.ref, this.term.cols, this.term.rows);
  }

  /** A new shell. */
  async begin(): Promise<void> {
    this.over = false;
    this.term.reset();
    try {
      const ref = await api.run(this.project.id, {command: SHELL, pty: {cols: this.term.cols, rows: this.term.rows}, env: {TERM: "xterm-256color", COLORTERM: "truecolor"}});
      this.on.started(ref.process);
      this.attach(ref);
    } catch (e) {
      const none = e instanceof CallError && (e.field === "pty" || e.isMissing);
      this.say(none ? "This server has no terminals yet. Use Run and its output instead." : words(e) + " Press Enter to try again.");
      this.over = !none;
    }
  }

  /** One that was there before the page was. */
  async resume(process: string): Promise<void> {
    try {
      const info = await api.process(process);
      if (isOver(info.status) && Date.now() - info.endedAt > 4 * 60_000) return void (await this.begin());
      this.attach({process, sandbox: info.sandbox, token: info.token});
    } catch (e) {
      if (e instanceof CallError && e.status === 404) return void (await this.begin());
      this.say(words(e) + " Press Enter to try again.");
      this.over = true;
    }
  }

  private attach(ref: Started): void {
    this.leave?.();
    this.ref = ref;
    this.received = this.acked = 0;
    this.replaying = true;
    const settle = () => setTimeout(() => (this.replaying = false), 150);
    settle();
    this.leave = this.project.transport.follow(ref, {
      output: (_stream, data, size) => {
        this.received += size;
        const upTo = this.received;
        this.term.write(data, () => this.drawn(upTo));
      },
      running: () => undefined,
      gap: () => this.term.reset(),
      reset: () => {
        this.replaying = true;
        this.received = this.acked = 0;
        this.term.reset();
        settle();
      },
      ended: (end) => {
        this.over = true;
        const said = verdictWords(end).words;
        this.say(said + ". Press Enter for a new shell.");
        this.on.ended(said);
      },
      failed: (message, code) => {
        if (code !== "gone" && code !== "not_running") return;
        this.over = true;
        this.say(message + " Press Enter for a new shell.");
      },
    });
    this.refit();
  }

  private drawn(upTo: number): void {
    if (!this.ref || upTo - this.acked < ACK_EVERY) return;
    this.acked = upTo;
    this.project.transport.ack(this.ref, upTo);
  }

  private say(text: string): void {
    this.term.write("\r\n\x1b[2m" + text.replace(/[\x00-\x1f\x7f]/g, " ") + "\x1b[0m\r\n");
  }

  focus(): void {
    this.refit();
    this.term.focus();
  }
  clear(): void {
    this.term.clear();
  }
  async kill(): Promise<void> {
    if (this.ref && !this.over) await api.cancel(this.ref.process).catch(() => undefined);
  }
  dispose(): void {
    clearTimeout(this.timer);
    this.leave?.();
    for (const stop of this.stops) stop();
    this.term.dispose();
  }
}
