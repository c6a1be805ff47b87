// SPDX-License-Identifier: Apache-2.0
/** A text file that is open: what stands in the editor, and how it gets to the server. Saves carry the ETag of what was edited; when
 *  somebody else saved first, both are merged, or the person decides. Later a shared document takes the place of `buffer`. */
import {createSignal, type Accessor, type Setter} from "solid-js";
import {Emitter} from "../core/event";
import {merge} from "../core/merge";
import {isObject, isString, recall, remember} from "../core/store";
import * as api from "../net/api";
import {CallError, offline, words} from "../net/http";
import * as ahead from "./ahead";

export type SaveState = "loading" | "saved" | "dirty" | "saving" | "offline" | "conflict" | "gone" | "binary" | "failed";

export interface Buffer {
  get(): string;
  /** Puts another text in its place, keeping cursors where they can be kept. */
  set(text: string): void;
}

class PlainBuffer implements Buffer {
  constructor(private text: string) {}
  get(): string {
    return this.text;
  }
  set(text: string): void {
    this.text = text;
  }
}

interface Draft {
  etag: string;
  text: string;
}
const isDraft = (v: unknown): v is Draft => isObject(v) && isString(v["etag"]) && isString(v["text"]);

export const AUTOSAVE_MS = 400;

export class Document {
  buffer: Buffer = new PlainBuffer("");
  /** What the server has. */
  base = "";
  etag = "";
  /** The other text, while the person decides. */
  theirs: {text: string; etag: string} | null = null;
  readonly loaded: Promise<void>;
  readonly merged = new Emitter<void>();
  readonly state: Accessor<SaveState>;
  readonly path: Accessor<string>;
  readonly setPath: Setter<string>;
  problem = "";
  private setState: Setter<SaveState>;
  private version = 0;
  private timer = 0;
  private running: Promise<void> | null = null;
  private closed = false;

  constructor(
    private workspace: string,
    readonly id: string,
    path: string,
    readonly readOnly: () => boolean,
  ) {
    [this.state, this.setState] = createSignal<SaveState>("loading");
    [this.path, this.setPath] = createSignal(path);
    this.loaded = this.load();
  }

  private get draftKey(): string {
    return "draft." + this.workspace + "." + this.id;
  }

  private async load(): Promise<void> {
    try {
      const {content, etag} = await ahead.content(this.id);
      if (typeof content !== "string") {
        this.setState("binary");
        return;
      }
      this.base = content.replaceAll("\r\n", "\n");
      this.etag = etag;
      this.buffer.set(this.base);
      this.setState("saved");
      this.restore();
    } catch (e) {
      this.problem = words(e);
      this.setState(e instanceof CallError && e.status === 404 ? "gone" : "failed");
    }
  }

  /** What was typed and could not be saved before the page went. */
  private restore(): void {
    const draft = recall<Draft | null>(this.draftKey, (v): v is Draft => isDraft(v), null);
    if (!draft || draft.text === this.base) {
      remember(this.draftKey, undefined);
      return;
    }
    if (draft.etag === this.etag) {
      this.buffer.set(draft.text);
      this.edited();
    } else {
      this.theirs = {text: this.base, etag: this.etag};
      this.buffer.set(draft.text);
      this.setState("conflict");
    }
  }

  get dirty(): boolean {
    const s = this.state();
    return s === "dirty" || s === "saving" || s === "offline" || s === "conflict";
  }
  get editable(): boolean {
    const s = this.state();
    return s !== "loading" && s !== "binary" && !this.readOnly();
  }

  /** The text in the buffer was changed by a person. */
  edited(): void {
    if (this.closed || this.readOnly()) return;
    this.version++;
    const s = this.state();
    if (s === "saved" || s === "failed") this.setState("dirty");
    if (s === "offline") this.keepDraft();
    if (s === "conflict" || s === "gone") return;
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.save(), AUTOSAVE_MS);
  }

  /** Keeps what is not saved in this browser; returns whether that worked. */
  keepDraft(): boolean {
    return !this.dirty || remember(this.draftKey, {etag: this.etag, text: this.buffer.get()});
  }

  /** Until what stands in the buffer now is saved, or cannot be. */
  async save(): Promise<void> {
    clearTimeout(this.timer);
    await this.loaded;
    while (this.running) await this.running;
    const s = this.state();
    if (s === "saved" || s === "binary" || s === "conflict" || s === "gone" || this.readOnly()) return;
    this.running = this.write();
    try {
      await this.running;
    } finally {
      this.running = null;
    }
  }

  private async write(): Promise<void> {
    for (let tries = 0; tries < 5; tries++) {
      const version = this.version;
      const text = this.buffer.get();
      if (text === this.base) {
        this.saved();
        return;
      }
      this.setState("saving");
      try {
        const entry = await api.writeFile(this.id, text, this.etag);
        this.etag = entry.etag ?? "";
        this.base = text;
        if (version === this.version) {
          this.saved();
          return;
        }
      } catch (e) {
        if (!(e instanceof CallError && e.status === 412 && (await this.reconcile()))) {
          this.refused(e);
          return;
        }
      }
    }
    this.setState("dirty");
    this.timer = window.setTimeout(() => void this.save(), AUTOSAVE_MS);
  }

  private saved(): void {
    this.setState("saved");
    remember(this.draftKey, undefined);
  }

  private refused(e: unknown): void {
    if (this.theirs) return;
    this.problem = words(e);
    if (offline(e)) this.setState("offline");
    else if (e instanceof CallError && e.status === 404) this.setState("gone");
    else this.setState("failed");
    this.keepDraft();
  }

  /** Somebody else saved first. Returns whether saving may go on. */
  private async reconcile(): Promise<boolean> {
    const now = await api.readFile(this.id).catch(() => null);
    if (!now || typeof now.content !== "string") return false;
    const theirs = now.content.replaceAll("\r\n", "\n");
    const mine = this.buffer.get();
    const both = merge(this.base, mine, theirs);
    if (both === null) {
      this.theirs = {text: theirs, etag: now.etag};
      this.setState("conflict");
      this.keepDraft();
      return false;
    }
    this.base = theirs;
    this.etag = now.etag;
    if (both !== mine) {
      this.buffer.set(both);
      this.merged.emit();
    }
    return true;
  }

  /** The tree says that the file has this content now. */
  async changedElsewhere(etag: string): Promise<void> {
    await this.loaded;
    if (etag === this.etag || this.running || this.state() === "binary" || this.state() === "conflict") return;
    if (this.state() !== "saved") {
      void this.save();
      return;
    }
    const now = await api.readFile(this.id).catch(() => null);
    if (!now || typeof now.content !== "string" || this.closed || this.state() !== "saved" || this.running) return;
    this.base = now.content.replaceAll("\r\n", "\n");
    this.etag = now.etag;
    this.buffer.set(this.base);
  }

  /** The person has decided what the text is to be. */
  async resolve(text: string): Promise<void> {
    if (!this.theirs) return;
    this.base = this.theirs.text;
    this.etag = this.theirs.etag;
    this.theirs = null;
    this.buffer.set(text);
    this.version++;
    this.setState("dirty");
    await this.save();
  }

  /** It was deleted elsewhere; made again under its path it has another id. */
  markGone(): void {
    if (this.state() !== "loading") this.setState("gone");
  }

  retry(): void {
    if (this.state() === "offline" || this.state() === "failed") void this.save();
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    clearTimeout(this.timer);
    // The editor takes its buffer back; what is on its way may still ask for the text.
    this.buffer = new PlainBuffer(this.buffer.get());
  }
}
