// SPDX-License-Identifier: Apache-2.0
/** The program that Run started: its states, its output, and how it ended. */
import {createSignal, type Accessor, type Setter} from "solid-js";
import type {Dispose} from "../core/event";
import {readProblems, type Problem} from "../core/problems";
import {isNumber, isObject, isString, recall, remember} from "../core/store";
import {verdictWords, type Mood} from "../core/verdict";
import * as api from "../net/api";
import {words} from "../net/http";
import type {Transport} from "../net/transport";
import {isOver, type Ended, type Started} from "../net/wire";
import {Output} from "./output";

export type RunPhase = "idle" | "saving" | "starting" | "compiling" | "running" | "stopping" | "ended";

export interface Verdict {
  words: string;
  mood: Mood;
  usage: Ended["usage"];
}
interface Kept {
  process: string;
  command: string;
  at: number;
}
const isKept = (v: unknown): v is Kept => isObject(v) && isString(v["process"]) && isString(v["command"]) && isNumber(v["at"]);
const RECENT_MS = 4 * 60_000;

export class Run {
  readonly output = new Output();
  readonly phase: Accessor<RunPhase>;
  readonly verdict: Accessor<Verdict | null>;
  readonly command: Accessor<string>;
  readonly startedAt: Accessor<number>;
  readonly endedAt: Accessor<number>;
  readonly problems: Accessor<Problem[]>;
  readonly setProblems: Setter<Problem[]>;
  private setPhase: Setter<RunPhase>;
  private setVerdict: Setter<Verdict | null>;
  private setCommand: Setter<string>;
  private setStartedAt: Setter<number>;
  private setEndedAt: Setter<number>;
  private ref: Started | null = null;
  private leave: Dispose | null = null;
  private turn = 0;
  private decoders: Record<string, TextDecoder> = {};
  onStart: () => void = () => undefined;

  constructor(
    private workspace: string,
    private transport: Transport,
    private exists: (path: string) => boolean,
    /** Saves everything; returns the names of what could not be. */
    private flush: () => Promise<string[]>,
  ) {
    [this.phase, this.setPhase] = createSignal<RunPhase>("idle");
    [this.verdict, this.setVerdict] = createSignal<Verdict | null>(null);
    [this.command, this.setCommand] = createSignal("");
    [this.startedAt, this.setStartedAt] = createSignal(0);
    [this.endedAt, this.setEndedAt] = createSignal(0);
    [this.problems, this.setProblems] = createSignal<Problem[]>([]);
  }

  get busy(): boolean {
    const p = this.phase();
    return p !== "idle" && p !== "ended";
  }
  get acceptsInput(): boolean {
    return this.phase() === "running" || this.phase() === "starting" || this.phase() === "compiling";
  }

  private begin(command: string): number {
    this.leave?.();
    this.leave = null;
    this.ref = null;
    this.decoders = {};
    this.output.clear();
    this.setVerdict(null);
    this.setProblems([]);
    this.setCommand(command);
    return ++this.turn;
  }

  async start(command: string): Promise<void> {
    if (this.busy) return;
    const turn = this.begin(command);
    this.onStart();
    this.setPhase("saving");
    this.setStartedAt(Date.now());
    for (const name of await this.flush()) this.output.note(name + " could not be saved: what runs is what the server has.");
    if (turn !== this.turn) return;
    this.setPhase("starting");
    try {
      const ref = await api.run(this.workspace, {command});
      if (turn !== this.turn) {
        void api.cancel(ref.process).catch(() => undefined);
        return;
      }
      remember("run." + this.workspace, {process: ref.process, command, at: Date.now()});
      this.attach(ref, turn);
    } catch (e) {
      if (turn === this.turn) this.fail(words(e));
    }
  }

  private fail(text: string): void {
    this.setVerdict({words: text, mood: "bad", usage: null});
    this.setEndedAt(Date.now());
    this.setPhase("ended");
  }

  private attach(ref: Started, turn: number): void {
    this.ref = ref;
    this.leave = this.transport.follow(ref, {
      output: (stream, data) => {
        if (turn === this.turn && stream !== "pty") this.output.write(stream, this.decode(stream, data));
      },
      running: (phase) => {
        if (turn !== this.turn || this.phase() === "stopping") return;
        if (phase !== "compile" && this.phase() !== "running") this.setStartedAt(this.startedAt() || Date.now());
        this.setPhase(phase === "compile" ? "compiling" : "running");
      },
      ended: (end) => turn === this.turn && this.end(end),
      gap: (stream, bytes) => turn === this.turn && this.output.note("[" + bytes + " bytes of " + stream + " are gone]"),
      reset: () => turn === this.turn && this.output.clear(),
      failed: (message, code) => {
        if (turn !== this.turn) return;
        if (code === "gone") this.fail(message);
        else this.output.note(message);
      },
      delayed: (message) => turn === this.turn && this.output.note("[" + (message || "the output log is there again") + "]"),
    });
  }

  private decode(stream: string, data: string | Uint8Array): string {
    if (typeof data === "string") return data;
    const decoder = (this.decoders[stream] ??= new TextDecoder());
    return decoder.decode(data, {stream: true});
  }

  private end(end: Ended): void {
    this.setVerdict({...verdictWords(end), usage: end.usage});
    this.setEndedAt(Date.now());
    this.setPhase("ended");
    this.setProblems(readProblems(this.output.texts(), this.exists));
    this.leave?.();
    this.leave = null;
  }

  async stop(): Promise<void> {
    const phase = this.phase();
    if (phase === "saving" || (phase === "starting" && !this.ref)) {
      this.turn++;
      this.setPhase("idle");
      return;
    }
    if (!this.ref || !this.busy) return;
    this.setPhase("stopping");
    try {
      await api.cancel(this.ref.process);
    } catch (e) {
      this.output.note("It could not be stopped: " + words(e));
      this.setPhase("running");
    }
  }

  input(text: string): void {
    if (!this.ref || !this.acceptsInput) return;
    this.output.write("input", text);
    this.transport.input(this.ref, text);
  }
  eof(): void {
    if (!this.ref || !this.acceptsInput) return;
    this.output.note("[end of input]");
    this.transport.eof(this.ref);
  }

  /** After a reload: the program that ran, or what the last one said. */
  async restore(): Promise<void> {
    const kept = recall<Kept | null>("run." + this.workspace, (v): v is Kept => isKept(v), null);
    if (!kept || this.busy) return;
    const info = await api.process(kept.process).catch(() => null);
    if (!info || this.busy) return;
    const turn = this.begin(kept.command);
    this.setStartedAt(info.startedAt || kept.at);
    const ref = {process: kept.process, sandbox: info.sandbox, token: info.token};
    if (!isOver(info.status) || Date.now() - info.endedAt < RECENT_MS) {
      this.setPhase(isOver(info.status) ? "ended" : "running");
      this.attach(ref, turn);
      if (isOver(info.status)) this.setVerdict({...verdictWords(info), usage: info.usage});
      this.setEndedAt(info.endedAt);
      return;
    }
    for (const stream of ["stdout", "stderr"] as const) {
      const text = await api.output(kept.process, stream).catch(() => "");
      if (turn !== this.turn) return;
      if (text) this.output.write(stream, text);
    }
    this.end(info);
    this.setEndedAt(info.endedAt);
  }

  clear(): void {
    if (this.busy) return;
    this.begin("");
    this.setPhase("idle");
    remember("run." + this.workspace, undefined);
  }

  /** Everything the program wrote, from the server: this page keeps the last lines only. */
  get process(): string | null {
    return this.ref?.process ?? null;
  }

  close(): void {
    this.turn++;
    this.leave?.();
  }
}
