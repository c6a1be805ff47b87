// SPDX-License-Identifier: Apache-2.0
/** A shell's screen: xterm, bound to a process with a terminal. Bytes are acknowledged when they are drawn; while what was is played
 *  again, answers that the screen would give to old questions do not reach the shell. The screen outlives the connection; a reload plays
 *  again what the log has, from the last mark but one on. */
import {FitAddon} from "@xterm/addon-fit";
import {SearchAddon} from "@xterm/addon-search";
import {Unicode11Addon} from "@xterm/addon-unicode11";
import {WebLinksAddon} from "@xterm/addon-web-links";
import {Terminal as Xterm, type ITheme} from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";
import type {Dispose} from "../core/event";
import {Modes} from "../core/modes";
import {verdictWords} from "../core/verdict";
import * as api from "../net/api";
import {CallError, words} from "../net/http";
import type {Listener} from "../net/transport";
import {isOver, type Started} from "../net/wire";
import type {Project} from "../project/project";
import type {Mark} from "../project/terminals";
import {settings, themeChanged, token} from "../settings";

const ACK_EVERY = 32 << 10;
const MARK_EVERY = 256 << 10;
const EARLY_MAX = 4096;
/** What was is played again for as long as bytes keep coming, within reason. */
const REPLAY_PAUSE_MS = 150;
const REPLAY_MAX_MS = 5000;
/** What a terminal says by itself: who it is, where its cursor stands, its modes and colours. */
const ANSWER = /^\x1b(?:\[[?>]?[\d;]*(?:[cRn]|\$y)|[P\]][^]*|\[[IO])$/;
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

function open(e: MouseEvent, uri: string): void {
  if ((e.ctrlKey || e.metaKey) && /^https?:/i.test(uri)) window.open(uri, "_blank", "noopener,noreferrer");
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
  private marked = 0;
  /** Of what is drawn: another one since it began anew. */
  private turn = 0;
  private modes = new Modes();
  private replaying = false;
  private over = false;
  /** Typed before there was anything to type to. */
  private early = "";
  private timer = 0;

  constructor(
    private host: HTMLElement,
    private project: Project,
    private on: {started: (process: string) => void; mark: (mark: Mark) => void; ended: (words: string) => void; bell: () => void},
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
      // Programs name the targets of links as they like: only what the web has, and only when one asks for it.
      linkHandler: {activate: (e, uri) => open(e, uri), allowNonHttpProtocols: false},
      theme: theme(),
    });
    this.term.loadAddon(this.fit);
    this.term.loadAddon(this.search);
    this.term.loadAddon(new WebLinksAddon(open));
    this.term.loadAddon(new Unicode11Addon());
    this.term.unicode.activeVersion = "11";
    // Programs do not write to the clipboard, and do not rename anything here.
    this.term.parser.registerOscHandler(52, () => true);
    this.trackModes();
    this.term.open(host);
    this.term.textarea?.setAttribute("aria-label", "Terminal. Ctrl+Shift+E leaves to the files.");
    this.term.onData((data) => {
      if (this.replaying && ANSWER.test(data)) return;
      if (this.over) {
        if (data === "\r") void this.begin();
      } else if (this.ref) this.project.transport.input(this.ref, data);
      else this.early = (this.early + data).slice(0, EARLY_MAX);
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

  private trackModes(): void {
    const {parser} = this.term;
    const seen = (on: boolean) => (params: (number | number[])[]) => {
      this.modes.set(params, on);
      return false; // and xterm does it
    };
    const forgotten = () => {
      this.modes.reset();
      return false;
    };
    parser.registerCsiHandler({prefix: "?", final: "h"}, seen(true));
    parser.registerCsiHandler({prefix: "?", final: "l"}, seen(false));
    parser.registerEscHandler({final: "c"}, forgotten);
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

  async begin(command = SHELL): Promise<void> {
    this.over = false;
    this.ref = null;
    this.term.reset();
    try {
      const ref = await api.run(this.project.id, {command, pty: {cols: this.term.cols, rows: this.term.rows}, env: {TERM: "xterm-256color", COLORTERM: "truecolor"}});
      this.on.started(ref.process);
      this.attach(ref, {fresh: true});
    } catch (e) {
      const none = e instanceof CallError && (e.field === "pty" || e.isMissing);
      this.say(none ? "This server has no terminals yet. Use Run and its output instead." : words(e) + " Press Enter to try again.");
      this.over = !none;
      this.early = "";
    }
  }

  /** One that was there before the page was. */
  async resume(process: string, mark?: Mark): Promise<void> {
    try {
      const info = await api.process(process);
      if (isOver(info.status) && Date.now() - info.endedAt > 4 * 60_000) return void (await this.begin());
      this.attach({process, sandbox: info.sandbox, token: info.token}, {mark});
    } catch (e) {
      if (e instanceof CallError && e.status === 404) return void (await this.begin());
      this.say(words(e) + " Press Enter to try again.");
      this.over = true;
    }
  }

  private attach(ref: Started, {mark, fresh}: {mark?: Mark | undefined; fresh?: boolean}): void {
    this.leave?.();
    this.ref = ref;
    this.turn++;
    this.received = this.acked = this.marked = 0;
    let settled = 0;
    let since = 0;
    const settle = () => {
      clearTimeout(settled);
      settled = window.setTimeout(() => (this.replaying = false), REPLAY_PAUSE_MS);
    };
    const replay = () => {
      this.replaying = true;
      since = Date.now();
      settle();
    };
    if (!fresh) replay();
    if (mark) this.again(mark.modes);
    const listener: Listener = {
      output: (_stream, data, size, id) => {
        this.received += size;
        if (this.replaying && Date.now() - since < REPLAY_MAX_MS) settle();
        const upTo = this.received;
        const turn = this.turn;
        this.term.write(data, () => turn === this.turn && this.drawn(upTo, id));
      },
      running: () => undefined,
      gap: () => this.term.write("", () => this.again(this.modes.prefix())),
      reset: () => {
        replay();
        this.turn++;
        this.received = this.acked = this.marked = 0;
        // Behind what came before and is not drawn yet: it would be drawn on the empty screen, and come again.
        this.term.write("", () => {
          this.modes.reset();
          this.term.reset();
        });
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
      delayed: (message) => message && this.say(message),
    };
    this.leave = this.project.transport.follow(ref, listener, mark?.id);
    if (this.early) this.project.transport.input(ref, this.early);
    this.early = "";
    this.refit();
  }

  /** From here on the output is known, and before it only the modes: full-screen programs are made to draw themselves anew. */
  private again(modes: string): void {
    this.term.reset();
    this.modes.restore(modes);
    this.term.write(modes);
    if (!this.modes.fullScreen) return;
    setTimeout(() => this.ref && !this.over && this.project.transport.resize(this.ref, this.term.cols, Math.max(2, this.term.rows - 1)), 200);
    setTimeout(() => this.refit(), 400);
  }

  private drawn(upTo: number, id: string): void {
    if (!this.ref) return;
    if (upTo - this.marked >= MARK_EVERY) {
      this.marked = upTo;
      this.on.mark({id, modes: this.modes.prefix()});
    }
    if (upTo - this.acked < ACK_EVERY) return;
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
