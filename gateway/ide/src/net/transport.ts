// SPDX-License-Identifier: Apache-2.0
/** What processes write, and what they are given: a channel of the workspace's socket for each sandbox. Output comes in order, each byte
 *  once, over any number of broken connections and dead gateways. */
import type {Dispose} from "../core/event";
import {fromBase64} from "../core/bytes";
import {isNumber, isString} from "../core/store";
import {WorkspaceSocket, type Channel, type Message} from "./socket";
import {ended, isOver, type Ended, type Started} from "./wire";

export type StreamName = "stdout" | "stderr" | "pty";

export interface Listener {
  /** text of a stream; bytes that are no text come as bytes. size: what it counts for acknowledgements; id: what to go on behind. */
  output(stream: StreamName, data: string | Uint8Array, size: number, id: string): void;
  running(phase: string): void;
  ended(end: Ended): void;
  /** Bytes that the server does not have any more. */
  gap(stream: StreamName, bytes: number): void;
  /** Everything comes again from its first byte. */
  reset(): void;
  /** A word about what was asked (input that was not taken ...). */
  failed(message: string, code: string): void;
  /** The server's log went away (the message says it), or came back (""). */
  delayed(message: string): void;
}

interface Followed {
  ref: Started;
  listener: Listener;
  /** The last message that was seen; "": none. */
  last: string;
  got: boolean;
  /** It was named when this channel was opened, so it is shown. */
  named: boolean;
  over: boolean;
  asked: number;
  /** Bytes of output since the listener began, and how many of them before this connection. */
  bytes: number;
  before: number;
  /** Sent anew when the connection is. */
  size?: {cols: number; rows: number};
}

const RETRY_MS = 300;
const MAX_RESUME = 32;
const encoder = new TextEncoder();
const isStream = (v: unknown): v is StreamName => v === "stdout" || v === "stderr" || v === "pty";

/** The processes of one sandbox: lives while somebody follows one. */
class SandboxChannel {
  private channel: Channel;
  private processes = new Map<string, Followed>();
  private ready = false;
  private queue: Message[] = [];
  private timer = 0;

  constructor(socket: WorkspaceSocket, sandbox: string) {
    this.channel = socket.open({
      fields: () => {
        const all = [...this.processes.values()].slice(0, MAX_RESUME);
        for (const f of all) f.named = true;
        return {kind: "processes", sandbox_id: sandbox, resume: all.map((f) => f.ref.process + ":" + (f.last || "0"))};
      },
      message: (m) => this.take(m),
      closed: (code, message) => {
        this.ready = false;
        for (const f of this.processes.values()) f.named = false;
        if (code === "not_found") return this.gone(message);
        if (code === "invalid") for (const f of this.processes.values()) this.restart(f); // an id that was kept here is none
        this.timer = window.setTimeout(() => this.channel.reopen(), RETRY_MS);
      },
      broken: () => {
        this.ready = false;
        for (const f of this.processes.values()) f.named = false;
        clearTimeout(this.timer);
        return true;
      },
    });
  }

  get idle(): boolean {
    return this.processes.size === 0;
  }

  follow(f: Followed): void {
    this.processes.set(f.ref.process, f);
    if (this.ready) this.resume(f);
  }
  private resume(f: Followed): void {
    this.send({type: "resume", process_id: f.ref.process, last_seen_id: f.last || "0"});
  }

  leave(process: string): void {
    this.processes.delete(process);
    if (!this.idle) return;
    clearTimeout(this.timer);
    this.channel.close();
  }

  send(m: Message): void {
    if (this.ready) this.channel.send(m);
    else if (this.queue.length < 1000) this.queue.push(m);
  }

  resize(process: string, cols: number, rows: number): void {
    const f = this.processes.get(process);
    if (!f) return;
    f.size = {cols, rows};
    if (this.ready) this.channel.send({type: "resize", process_id: process, cols, rows});
  }

  ack(process: string, bytes: number): void {
    const f = this.processes.get(process);
    if (f && this.ready && bytes > f.before) this.channel.send({type: "ack", process_id: process, bytes: bytes - f.before});
  }

  /** The channel stands; what is shown comes behind what was seen. */
  private begin(): void {
    this.ready = true;
    for (const f of this.processes.values()) {
      if (!f.last && f.got) this.restart(f);
      f.before = f.bytes;
      if (!f.named) this.resume(f);
      if (f.size) this.channel.send({type: "resize", process_id: f.ref.process, ...f.size});
    }
    for (const m of this.queue.splice(0)) this.channel.send(m);
  }

  private restart(f: Followed): void {
    f.got = false;
    f.bytes = f.before = 0;
    f.last = "";
    f.listener.reset();
  }

  private gone(message: string): void {
    for (const f of [...this.processes.values()]) {
      this.processes.delete(f.ref.process);
      if (!f.over) f.listener.failed(message || "This program is not there any more.", "gone");
    }
  }

  private take(m: Message): void {
    if (m["type"] === "ready") return this.begin();
    if (m["type"] === "log") return this.takeLog(m);
    const f = isString(m["process_id"]) ? this.processes.get(m["process_id"]) : undefined;
    if (!f) return;
    if (isString(m["id"])) f.last = m["id"];
    switch (m["type"]) {
      case "output": {
        if (!isString(m["data"]) || !isStream(m["stream"])) return;
        const data = m["encoding"] === "base64" ? fromBase64(m["data"]) : m["data"];
        const size = typeof data === "string" ? encoder.encode(data).length : data.length;
        f.got = true;
        f.bytes += size;
        f.listener.output(m["stream"], data, size, f.last);
        return;
      }
      case "status":
        return this.takeStatus(f, m);
      case "gap": {
        const {from, to, stream} = m;
        if (isNumber(from) && isNumber(to) && isStream(stream)) f.listener.gap(stream, to - from);
        return;
      }
      case "resumed":
        if (m["last_seen_id"] === "0" && f.got) this.restart(f);
        f.before = f.bytes;
        return;
      case "error":
        return this.takeError(f, m);
    }
  }

  private takeLog(m: Message): void {
    const message = m["status"] === "away" && isString(m["message"]) ? m["message"] : "";
    for (const f of this.processes.values()) if (!f.over) f.listener.delayed(message);
  }

  private takeError(f: Followed, m: Message): void {
    if (m["code"] === "unknown_process" && !f.got && f.asked++ < 50) {
      // It was started a moment ago, and this gateway has not heard of it.
      setTimeout(() => this.processes.get(f.ref.process) === f && this.ready && this.resume(f), 100);
      return;
    }
    f.listener.failed(isString(m["message"]) ? m["message"] : "", isString(m["code"]) ? m["code"] : "");
  }

  private takeStatus(f: Followed, m: Message): void {
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
  readonly socket: WorkspaceSocket;
  private sandboxes = new Map<string, SandboxChannel>();

  constructor(workspace: string) {
    this.socket = new WorkspaceSocket(workspace);
  }

  /** behind: the id of a message of this process that was seen before; "": from its first byte. */
  follow(ref: Started, listener: Listener, behind = ""): Dispose {
    let channel = this.sandboxes.get(ref.sandbox);
    if (!channel) {
      channel = new SandboxChannel(this.socket, ref.sandbox);
      this.sandboxes.set(ref.sandbox, channel);
    }
    const mine = channel;
    mine.follow({ref, listener, last: behind, got: false, named: false, over: false, asked: 0, bytes: 0, before: 0});
    return () => {
      mine.leave(ref.process);
      if (mine.idle && this.sandboxes.get(ref.sandbox) === mine) this.sandboxes.delete(ref.sandbox);
    };
  }

  private send(ref: Started, type: string, fields: Message = {}): void {
    this.sandboxes.get(ref.sandbox)?.send({type, process_id: ref.process, ...fields});
  }
  input(ref: Started, data: string): void {
    this.send(ref, "input", {data});
  }
  eof(ref: Started): void {
    this.send(ref, "eof");
  }
  resize(ref: Started, cols: number, rows: number): void {
    this.sandboxes.get(ref.sandbox)?.resize(ref.process, cols, rows);
  }
  /** bytes: of its output that was drawn, counted since the listener began or was reset. */
  ack(ref: Started, bytes: number): void {
    this.sandboxes.get(ref.sandbox)?.ack(ref.process, bytes);
  }

  /** The network is back: do not wait for the next try. */
  wake(): void {
    this.socket.wake();
  }
  close(): void {
    this.socket.close();
    this.sandboxes.clear();
  }
}
