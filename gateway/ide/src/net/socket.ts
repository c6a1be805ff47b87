// SPDX-License-Identifier: Apache-2.0
/** The one socket of a workspace: channels over it, each of a kind, opened again whenever the connection is. What happens to the files and
 *  to one's role is told here; other modules open channels of their own. */
import {Emitter} from "../core/event";
import {isNumber, isObject, isString} from "../core/store";
import {call, CallError, hasKey} from "./http";
import {entries, type Entry} from "./wire";

const MAX_DELAY = 5_000;
export type Message = Record<string, unknown>;

/** What a channel's owner hears. */
export interface ChannelEvents {
  /** Asked for each opening anew: the fields of `open`, "kind" among them. */
  fields(): Message;
  message(m: Message): void;
  /** It is there; messages may be sent. */
  opened?(): void;
  /** The server closed it: `code` is "" when all was said. It is not opened again by itself. */
  closed(code: string, message: string): void;
  /** The connection is gone. Returns whether the channel is wanted on the next one. */
  broken(): boolean;
}

export interface Channel {
  send(m: Message): void;
  close(): void;
  /** Opens it again after `closed`. */
  reopen(): void;
}

interface Held {
  on: ChannelEvents;
  /** On this connection; 0: not open. */
  number: number;
}

export class WorkspaceSocket {
  /** The tree is another one than it was: this, or (null) one that has to be asked for. */
  readonly tree = new Emitter<Entry[] | null>();
  readonly role = new Emitter<string>();
  /** Access was taken away, or the workspace is gone. */
  readonly revoked = new Emitter<void>();
  /** Whether the connection stands. */
  readonly state = new Emitter<boolean>();
  private socket: WebSocket | null = null;
  private channels = new Set<Held>();
  private byNumber = new Map<number, Held>();
  private next = 1;
  private ready = false;
  private since = "";
  private tries = 0;
  private timer = 0;
  private closed = false;

  constructor(private workspace: string) {
    this.openTree();
    void this.connect();
  }

  /** Whether changes are told; while they are not, one has to ask. */
  get live(): boolean {
    return this.ready;
  }

  private openTree(): void {
    const tree = this.open({
      fields: () => ({kind: "tree", ...(this.since && {since: this.since})}),
      message: (m) => {
        if (m["type"] !== "tree" && m["type"] !== "events") return;
        if (isString(m["seq"])) this.since = m["seq"];
        this.tree.emit(m["type"] === "tree" ? entries(m["entries"]) : null);
      },
      closed: (code) => code === "unavailable" && setTimeout(() => tree.reopen(), 1000),
      broken: () => true,
    });
  }

  open(on: ChannelEvents): Channel {
    const held: Held = {on, number: 0};
    this.channels.add(held);
    if (this.ready) this.begin(held);
    return {
      send: (m) => held.number && this.say({...m, ch: held.number}),
      close: () => {
        this.channels.delete(held);
        if (held.number && this.byNumber.delete(held.number)) this.say({ch: 0, type: "close", channel: held.number});
        held.number = 0;
      },
      reopen: () => this.channels.has(held) && this.ready && !held.number && this.begin(held),
    };
  }

  private begin(held: Held): void {
    held.number = this.next++;
    this.byNumber.set(held.number, held);
    this.say({ch: 0, type: "open", channel: held.number, ...held.on.fields()});
  }

  private say(m: Message): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(m));
  }

  /** A socket cannot carry the key: it is given a token instead. */
  private async token(): Promise<string> {
    if (!hasKey()) return "";
    const answer = await call("POST", "/api/workspaces/" + encodeURIComponent(this.workspace) + "/token", {body: {}});
    return isObject(answer) && isString(answer["token"]) ? "?token=" + encodeURIComponent(answer["token"]) : "";
  }

  private async connect(): Promise<void> {
    this.timer = 0;
    let query: string;
    try {
      query = await this.token();
    } catch (e) {
      if (e instanceof CallError && e.status === 404) this.revoked.emit();
      else this.again();
      return;
    }
    if (this.closed) return;
    const scheme = location.protocol === "https:" ? "wss://" : "ws://";
    const socket = new WebSocket(scheme + location.host + "/api/workspaces/" + encodeURIComponent(this.workspace) + "/socket" + query, "devbox.socket.v1");
    this.socket = socket;
    this.next = 1;
    socket.onmessage = (e) => {
      if (this.socket === socket && isString(e.data)) this.take(e.data);
    };
    socket.onclose = (e) => {
      if (this.closed || this.socket !== socket) return;
      this.drop();
      if (e.code === 1008 && e.reason === "revoked") this.revoked.emit();
      else this.again();
    };
  }

  private drop(): void {
    this.socket = null;
    this.ready = false;
    this.byNumber.clear();
    for (const held of [...this.channels]) {
      held.number = 0;
      if (!held.on.broken()) this.channels.delete(held);
    }
    this.state.emit(false);
  }

  private again(): void {
    if (!this.closed) this.timer = window.setTimeout(() => void this.connect(), Math.min(100 * 2 ** this.tries++, MAX_DELAY));
  }

  /** The network is back: do not wait for the next try. */
  wake(): void {
    if (!this.timer) return;
    clearTimeout(this.timer);
    void this.connect();
  }

  private take(text: string): void {
    let m: unknown;
    try {
      m = JSON.parse(text);
    } catch {
      return;
    }
    if (!isObject(m) || !isNumber(m["ch"])) return;
    if (m["ch"] === 0) this.control(m);
    else this.byNumber.get(m["ch"])?.on.message(m);
  }

  private control(m: Message): void {
    const number = isNumber(m["channel"]) ? m["channel"] : 0;
    const held = this.byNumber.get(number);
    switch (m["type"]) {
      case "hello":
        this.tries = 0;
        this.ready = true;
        this.state.emit(true);
        for (const h of this.channels) this.begin(h);
        break;
      case "opened":
        held?.on.opened?.();
        return;
      case "closed":
        if (!held) return;
        this.byNumber.delete(number);
        held.number = 0;
        held.on.closed(isString(m["code"]) ? m["code"] : "", isString(m["message"]) ? m["message"] : "");
        return;
    }
    if ((m["type"] === "hello" || m["type"] === "role") && isString(m["role"])) this.role.emit(m["role"]);
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    this.channels.clear();
    this.socket?.close();
    this.socket = null;
  }
}
