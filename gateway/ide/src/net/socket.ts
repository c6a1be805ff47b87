// SPDX-License-Identifier: Apache-2.0
/** The socket of a workspace: what happens to its files and to one's role, as it happens. Made again whenever it breaks. */
import {Emitter} from "../core/event";
import {isObject, isString} from "../core/store";
import {call, CallError, hasKey} from "./http";

const TREE = 1;
const MAX_DELAY = 10_000;

export class WorkspaceSocket {
  /** The tree is another one than it was. */
  readonly tree = new Emitter<void>();
  readonly role = new Emitter<string>();
  /** Access was taken away, or the workspace is gone. */
  readonly revoked = new Emitter<void>();
  private socket: WebSocket | null = null;
  private since = "";
  private tries = 0;
  private timer = 0;
  private closed = false;

  constructor(private workspace: string) {
    void this.open();
  }

  /** Whether changes are told; while they are not, one has to ask. */
  get live(): boolean {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  /** A socket cannot carry the key: it is given a token instead. */
  private async token(): Promise<string> {
    if (!hasKey()) return "";
    const answer = await call("POST", "/api/workspaces/" + encodeURIComponent(this.workspace) + "/token", {body: {}});
    return isObject(answer) && isString(answer["token"]) ? "?token=" + encodeURIComponent(answer["token"]) : "";
  }

  private async open(): Promise<void> {
    let query: string;
    try {
      query = await this.token();
    } catch (e) {
      if (!(e instanceof CallError && e.isMissing)) this.again();
      return;
    }
    if (this.closed) return;
    const scheme = location.protocol === "https:" ? "wss://" : "ws://";
    const socket = new WebSocket(scheme + location.host + "/api/workspaces/" + encodeURIComponent(this.workspace) + "/socket" + query, "devbox.socket.v1");
    this.socket = socket;
    socket.onopen = () => {
      this.tries = 0;
      socket.send(JSON.stringify({ch: 0, type: "open", channel: TREE, kind: "tree", ...(this.since && {since: this.since})}));
    };
    socket.onmessage = (e) => {
      if (isString(e.data)) this.take(e.data);
    };
    socket.onclose = (e) => {
      if (this.closed || this.socket !== socket) return;
      this.socket = null;
      if (e.code === 1008 && e.reason === "revoked") this.revoked.emit();
      else this.again();
    };
  }

  private again(): void {
    if (!this.closed) this.timer = window.setTimeout(() => void this.open(), Math.min(200 * 2 ** this.tries++, MAX_DELAY));
  }

  private take(text: string): void {
    let m: unknown;
    try {
      m = JSON.parse(text);
    } catch {
      return;
    }
    if (!isObject(m)) return;
    if (m["ch"] === 0 && (m["type"] === "hello" || m["type"] === "role") && isString(m["role"])) this.role.emit(m["role"]);
    if (m["ch"] !== TREE || (m["type"] !== "tree" && m["type"] !== "events")) return;
    if (isString(m["seq"])) this.since = m["seq"];
    this.tree.emit();
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    this.socket?.close();
  }
}
