// SPDX-License-Identifier: Apache-2.0
/** How live things reach this page, and the one place that knows: the workspace's socket for what happens to files, a stream for what the
 *  processes of a sandbox write. That comes in order, each byte once, over any number of broken connections. */
import {Emitter, type Dispose} from "../core/event";
import {fromBase64} from "../core/bytes";
import {isNumber, isObject, isString} from "../core/store";
import * as api from "./api";
import {CallError} from "./http";
import {WorkspaceSocket} from "./socket";
import {ended, isOver, type Ended, type Started} from "./wire";

export type StreamName = "stdout" | "stderr" | "pty";

export interface Listener {
  /** text of a stream; bytes that are no text come as bytes. size: what it counts for acknowledgements. */
  output(stream: StreamName, data: string | Uint8Array, size: number, phase: string): void;
  running(phase: string): void;
  ended(end: Ended): void;
  /** Bytes that the server does not have any more. */
  gap(stream: StreamName, bytes: number): void;
  /** Everything comes again from its first byte. */
  reset(): void;
  /** A word about what was asked (input that was not taken ...). */
  failed(message: string, code: string): void;
}

interface Followed {
  ref: Started;
  listener: Listener;
  last: string;
  got: boolean;
  over: boolean;
  asked: number;
  /** Sent anew when the connection is. */
  size?: {cols: number; rows: number};
}

const MAX_DELAY = 5000;
const encoder = new TextEncoder();

/** The stream of one sandbox: lives while somebody follows a process in it. */
class SandboxStream {
  private socket: WebSocket | null = null;
  private processes = new Map<string, Followed>();
  private tries = 0;
  private timer = 0;
  private queue: string[] = [];

  constructor(
    private sandbox: string,
    private token: string,
    private state: (live: boolean) => void,
  ) {}

  get idle(): boolean {
    return this.processes.size === 0;
  }

  follow(f: Followed): void {
    this.processes.set(f.ref.process, f);
    this.token = f.ref.token;
    if (!this.socket && !this.timer) this.open();
    else if (this.socket?.readyState === WebSocket.OPEN) this.send({type: "resume", process_id: f.ref.process, last_seen_id: "0"});
  }

  leave(process: string): void {
    this.processes.delete(process);
    if (this.idle) this.close();
  }

  close(): void {
    clearTimeout(this.timer);
    this.timer = 0;
    const s = this.socket;
    this.socket = null;
    s?.close();
  }

  wake(): void {
    if (!this.timer) return;
    clearTimeout(this.timer);
    this.timer = 0;
    this.open();
  }

  send(message: Record<string, unknown>): void {
    const text = JSON.stringify(message);
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(text);
    else if (this.queue.length < 1000) this.queue.push(text);
  }

  resize(process: string, cols: number, rows: number): void {
    const f = this.processes.get(process);
    if (!f) return;
    f.size = {cols, rows};
    if (this.socket?.readyState === WebSocket.OPEN) this.send({type: "resize", process_id: process, cols, rows});
  }

  private open(): void {
    const resume = [...this.processes.values()]
      .filter((f) => f.last)
      .map((f) => "&resume=" + f.ref.process + ":" + encodeURIComponent(f.last))
      .join("");
    const scheme = location.protocol === "https:" ? "wss://" : "ws://";
    const socket = new WebSocket(scheme + location.host + "/api/stream/" + this.sandbox + "?token=" + encodeURIComponent(this.token) + resume, "devbox.json.v1");
    let opened = false;
    this.socket = socket;
    socket.onopen = () => {
      opened = true;
      this.tries = 0;
      this.state(true);
      for (const f of this.processes.values()) {
        if (!f.last && f.got) f.listener.reset();
        if (f.size) this.send({type: "resize", process_id: f.ref.process, ...f.size});
      }
      for (const text of this.queue.splice(0)) socket.send(text);
    };
    socket.onmessage = (e) => {
      if (typeof e.data === "string") this.take(e.data);
    };
    socket.onclose = () => {
      if (this.socket !== socket) return;
      this.socket = null;
      if (this.idle) return;
      if ([...this.processes.values()].every((f) => f.over)) return;
      this.state(false);
      const delay = Math.min(100 * 2 ** this.tries++, MAX_DELAY);
      this.timer = window.setTimeout(() => void this.reopen(opened), delay);
    };
  }

  /** A token may have run out, and a sandbox may be gone: the process itself knows. */
  private async reopen(wasOpen: boolean): Promise<void> {
    if (!wasOpen) {
      const one = [...this.processes.values()].find((f) => !f.over);
      try {
        if (one) this.token = (await api.process(one.ref.process)).token;
      } catch (e) {
        if (e instanceof CallError && (e.status === 404 || e.status === 403) && one) {
          this.processes.delete(one.ref.process);
          one.listener.failed("This program is not there any more.", "gone");
        }
      }
    }
    this.timer = 0;
    if (!this.idle && !this.socket) this.open();
  }

  private take(text: string): void {
    let m: unknown;
    try {
      m = JSON.parse(text);
    } catch {
      return;
    }
    if (!isObject(m) || !isString(m["process_id"])) return;
    const f = this.processes.get(m["process_id"]);
    if (!f) return;
    if (isString(m["id"])) f.last = m["id"];
    switch (m["type"]) {
      case "output": {
        const stream = m["stream"];
        if (!isString(m["data"]) || (stream !== "stdout" && stream !== "stderr" && stream !== "pty")) return;
        const data = m["encoding"] === "base64" ? fromBase64(m["data"]) : m["data"];
        f.got = true;
        f.listener.output(stream, data, typeof data === "string" ? encoder.encode(data).length : data.length, isString(m["phase"]) ? m["phase"] : "run");
        return;
      }
      case "status":
        this.takeStatus(f, m);
        return;
      case "gap": {
        const {from, to, stream} = m;
        if (isNumber(from) && isNumber(to) && (stream === "stdout" || stream === "stderr" || stream === "pty")) f.listener.gap(stream, to - from);
        return;
      }
      case "resumed":
        if (f.got && m["last_seen_id"] === "0") f.listener.reset();
        f.got = false;
        return;
      case "error":
        if (m["code"] === "unknown_process" && !f.got && f.asked++ < 50) {
          // It was started a moment ago, and this gateway has not heard of it.
          setTimeout(() => this.send({type: "resume", process_id: f.ref.process, last_seen_id: "0"}), 100);
          return;
        }
        f.listener.failed(isString(m["message"]) ? m["message"] : "", isString(m["code"]) ? m["code"] : "");
    }
  }

  private takeStatus(f: Followed, m: Record<string, unknown>): void {
    const end = ended(m);
    if (!isOver(end.status)) {
      f.listener.running(isString(m["phase"]) ? m["phase"] : "run");
      return;
    }
    f.over = true;
    f.listener.ended(end);
  }
}

export class Transport {
  /** Whether live connections stand; false while one is being made again. */
  readonly live = new Emitter<boolean>();
  readonly socket: WorkspaceSocket;
  private streams = new Map<string, SandboxStream>();

  constructor(workspace: string) {
    this.socket = new WorkspaceSocket(workspace);
  }

  private streamOf(ref: Started): SandboxStream {
    let s = this.streams.get(ref.sandbox);
    if (!s) {
      s = new SandboxStream(ref.sandbox, ref.token, (live) => this.live.emit(live));
      this.streams.set(ref.sandbox, s);
    }
    return s;
  }

  follow(ref: Started, listener: Listener): Dispose {
    const stream = this.streamOf(ref);
    stream.follow({ref, listener, last: "", got: false, over: false, asked: 0});
    return () => {
      stream.leave(ref.process);
      if (stream.idle && this.streams.get(ref.sandbox) === stream) this.streams.delete(ref.sandbox);
    };
  }

  private send(ref: Started, type: string, fields: Record<string, unknown> = {}): void {
    this.streams.get(ref.sandbox)?.send({type, process_id: ref.process, ...fields});
  }
  input(ref: Started, data: string): void {
    this.send(ref, "input", {data});
  }
  eof(ref: Started): void {
    this.send(ref, "eof");
  }
  resize(ref: Started, cols: number, rows: number): void {
    this.streams.get(ref.sandbox)?.resize(ref.process, cols, rows);
  }
  ack(ref: Started, bytes: number): void {
    this.send(ref, "ack", {bytes});
  }

  /** The network is back: do not wait for the next try. */
  wake(): void {
    for (const s of this.streams.values()) s.wake();
  }
  close(): void {
    this.socket.close();
    for (const s of this.streams.values()) s.close();
    this.streams.clear();
  }
}
