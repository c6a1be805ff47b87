// SPDX-License-Identifier: Apache-2.0
import {isNumber, isObject, isString} from "../core/store";
import {call} from "./http";

/** What the server says, checked: nothing of it is trusted to have a shape. */
export type Status = "pending" | "running" | "completed" | "failed" | "cancelled";

export interface Entry {
  id: string;
  path: string;
  type: "file" | "directory";
  size: number;
  etag: string | null;
}
export type Sharing = "private" | "view" | "edit";
export interface WorkspaceInfo {
  id: string;
  name: string;
  template: string;
  sharing: Sharing;
  updated: number;
  /** What the caller may do; servers that do not tell have no roles. */
  role: "owner" | "editor" | "viewer";
}
export interface Started {
  process: string;
  sandbox: string;
  token: string;
}
export interface Usage {
  wall: number;
  cpu: number;
  memory: number;
}
export interface Ended {
  status: Status;
  verdict: string;
  exitCode: number | null;
  signal: string | null;
  usage: Usage | null;
}
export interface Template {
  name: string;
  title: string;
}

export class BadAnswer extends Error {
  constructor(what: string) {
    super("The server gave an answer that makes no sense (" + what + ").");
  }
}

const object = (v: unknown, what: string): Record<string, unknown> => {
  if (!isObject(v)) throw new BadAnswer(what);
  return v;
};
const text = (v: unknown, what: string): string => {
  if (!isString(v)) throw new BadAnswer(what);
  return v;
};
const STATUSES: readonly string[] = ["pending", "running", "completed", "failed", "cancelled"];
export const isStatus = (v: unknown): v is Status => isString(v) && STATUSES.includes(v);
const time = (v: unknown): number => (isString(v) ? Date.parse(v) || 0 : 0);

export function entry(v: unknown): Entry {
  const o = object(v, "entry");
  const type = o["type"];
  if (type !== "file" && type !== "directory") throw new BadAnswer("type");
  return {
    id: text(o["id"], "id"),
    path: text(o["path"], "path"),
    type,
    size: isNumber(o["size"]) ? o["size"] : 0,
    etag: isString(o["etag"]) ? o["etag"] : null,
  };
}

export function entries(v: unknown): Entry[] {
  if (!Array.isArray(v)) throw new BadAnswer("files");
  return v.map(entry);
}

export const roleOf = (v: unknown): WorkspaceInfo["role"] => (v === "viewer" || v === "editor" ? v : "owner");

export function workspace(v: unknown): WorkspaceInfo {
  const o = object(v, "workspace");
  const sharing = o["sharing_mode"];
  const role = o["role"];
  return {
    id: text(o["id"], "id"),
    name: text(o["name"], "name"),
    template: text(o["template"], "template"),
    sharing: sharing === "view" || sharing === "edit" ? sharing : "private",
    updated: time(o["updated_at"]) || time(o["created_at"]),
    role: roleOf(role),
  };
}

export function items<T>(v: unknown, item: (v: unknown) => T): T[] {
  const list = object(v, "list")["items"];
  if (!Array.isArray(list)) throw new BadAnswer("items");
  return list.map(item);
}

const MAX_PAGES = 20;

/** A list to its end, page by page; of an endless one, its beginning. */
export async function pages<T>(path: string, item: (v: unknown) => T): Promise<T[]> {
  const all: T[] = [];
  let cursor: unknown = null;
  for (let n = 0; n < MAX_PAGES; n++) {
    const answer: unknown = await call("GET", path + "?limit=100" + (isString(cursor) ? "&cursor=" + encodeURIComponent(cursor) : ""));
    all.push(...items(answer, item));
    cursor = object(answer, "list")["next_cursor"];
    if (!isString(cursor)) break;
  }
  return all;
}

export function template(v: unknown): Template {
  const o = object(v, "template");
  return {name: text(o["name"], "name"), title: text(o["title"], "title")};
}

export function started(v: unknown): Started {
  const o = object(v, "process");
  return {process: text(o["process_id"], "process_id"), sandbox: text(o["sandbox_id"], "sandbox_id"), token: text(o["stream_token"], "stream_token")};
}

function usage(v: unknown): Usage | null {
  if (!isObject(v)) return null;
  const n = (x: unknown) => (isNumber(x) ? x : 0);
  return {wall: n(v["wall_ms"]), cpu: n(v["cpu_ms"]), memory: n(v["memory_peak_bytes"])};
}

export function ended(v: unknown): Ended {
  const o = object(v, "status");
  if (!isStatus(o["status"])) throw new BadAnswer("status");
  return {
    status: o["status"],
    verdict: isString(o["verdict"]) ? o["verdict"] : "",
    exitCode: isNumber(o["exit_code"]) ? o["exit_code"] : null,
    signal: isString(o["signal"]) ? o["signal"] : null,
    usage: usage(o["usage"]),
  };
}

export const isOver = (s: Status): boolean => s !== "pending" && s !== "running";
