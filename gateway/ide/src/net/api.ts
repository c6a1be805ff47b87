// SPDX-License-Identifier: Apache-2.0
import {asText, fromBase64, toBase64} from "../core/bytes";
import {isObject, isString} from "../core/store";
import {call, CallError, request, send, setCsrf} from "./http";
import * as wire from "./wire";

/** Content of a file: text, or bytes that are none. */
export type Content = string | Uint8Array;

const fields = (content: Content) => (typeof content === "string" ? {content} : {content_base64: toBase64(content)});
const quoted = (etag: string) => '"' + etag + '"';
const part = encodeURIComponent;

export interface FileContent {
  content: Content;
  etag: string;
}

// --- workspaces ---

export const templates = async () => wire.items(await call("GET", "/api/templates"), wire.template);
export const workspaces = () => wire.pages("/api/workspaces", wire.workspace);
export const workspace = async (id: string) => wire.workspace(await call("GET", "/api/workspaces/" + part(id)));
export const createWorkspace = async (name: string, template: string) =>
  wire.workspace(await call("POST", "/api/workspaces", {body: {name, template}}));
export const changeWorkspace = async (id: string, change: {name?: string; sharing_mode?: wire.Sharing}) =>
  wire.workspace(await call("PUT", "/api/workspaces/" + part(id), {body: change}));
export const deleteWorkspace = async (id: string) => void (await call("DELETE", "/api/workspaces/" + part(id)));
export const forkWorkspace = async (id: string) => wire.workspace(await call("POST", "/api/workspaces/" + part(id) + "/fork", {body: {}}));

// --- files ---

export const tree = async (id: string) => wire.entries(await call("GET", "/api/workspaces/" + part(id) + "/files"));

export async function readFile(id: string): Promise<FileContent> {
  const answer = await request("GET", "/api/files/" + part(id));
  const body: unknown = await answer.json();
  const etag = (answer.headers.get("ETag") ?? "").replace(/^W\/|"/g, "");
  if (isObject(body) && isString(body["content_base64"])) {
    const bytes = fromBase64(body["content_base64"]);
    return {content: asText(bytes) ?? bytes, etag};
  }
  if (isObject(body) && isString(body["content"])) return {content: body["content"].includes("\0") ? new TextEncoder().encode(body["content"]) : body["content"], etag};
  // A large one comes as bytes alone, and is not for the editor.
  const bytes = await request("GET", "/api/files/" + part(id) + "/content");
  return {content: new Uint8Array(await bytes.arrayBuffer()), etag};
}

/** All files, as a zip. */
export const archive = async (workspace: string): Promise<Blob> => (await request("GET", "/api/workspaces/" + part(workspace) + "/archive?format=zip")).blob();

export const createFile = async (workspace: string, path: string, content: Content) =>
  wire.entry(await call("POST", "/api/workspaces/" + part(workspace) + "/files", {body: {path, ...fields(content)}}));
export const createFolder = async (workspace: string, path: string) =>
  wire.entry(await call("POST", "/api/workspaces/" + part(workspace) + "/files", {body: {path, type: "directory"}}));
export const writeFile = async (id: string, content: Content, etag?: string) =>
  wire.entry(await call("PUT", "/api/files/" + part(id), {body: fields(content), ...(etag && {headers: {"If-Match": quoted(etag)}})}));
export const moveFile = async (id: string, path: string) => wire.entry(await call("POST", "/api/files/" + part(id) + "/move", {body: {path}}));
export const deleteFile = async (id: string) => void (await call("DELETE", "/api/files/" + part(id)));

export interface Upload {
  path: string;
  data: Blob;
}
const MAX_UPLOAD_FILES = 500;
const MAX_UPLOAD_BYTES = 16 << 20;

/** As few calls as the server's limits let be. */
function batches(files: Upload[]): Upload[][] {
  const all: Upload[][] = [];
  let bytes = Infinity;
  for (const f of files) {
    if (bytes + f.data.size > MAX_UPLOAD_BYTES || all.at(-1)!.length === MAX_UPLOAD_FILES) {
      all.push([]);
      bytes = 0;
    }
    all.at(-1)!.push(f);
    bytes += f.data.size;
  }
  return all;
}

/** Files into a folder; what has the same path is replaced. progress: from 0 to 1. */
export async function upload(workspace: string, dir: string, files: Upload[], progress: (part: number) => void, signal: AbortSignal): Promise<void> {
  const total = Math.max(1, files.reduce((n, f) => n + f.data.size, 0));
  let done = 0;
  for (const batch of batches(files)) {
    const boundary = "devbox" + crypto.randomUUID();
    // Not FormData: it writes names in a way of its own.
    const parts = batch.flatMap((f) => ["--" + boundary + '\r\nContent-Disposition: form-data; name="file"; filename="' + f.path.replace(/["\\]/g, "\\$&") + '"\r\n\r\n', f.data, "\r\n"]);
    const size = batch.reduce((n, f) => n + f.data.size, 0);
    const path = "/api/workspaces/" + part(workspace) + "/upload" + (dir ? "?path=" + part(dir) : "");
    await send(path, new Blob([...parts, "--" + boundary + "--\r\n"]), "multipart/form-data; boundary=" + boundary, (bytes) => progress(Math.min(1, (done + Math.min(bytes, size)) / total)), signal);
    done += size;
  }
}

// --- processes ---

export interface RunRequest {
  command: string | string[];
  cwd?: string;
  env?: Record<string, string>;
  pty?: {cols: number; rows: number};
}
export const run = async (workspace: string, what: RunRequest) =>
  wire.started(await call("POST", "/api/workspaces/" + part(workspace) + "/run", {body: what}));

export interface ProcessInfo extends wire.Ended {
  sandbox: string;
  token: string;
  startedAt: number;
  endedAt: number;
}
export async function process(id: string): Promise<ProcessInfo> {
  const o = await call("GET", "/api/processes/" + part(id));
  if (!isObject(o) || !isString(o["sandbox_id"]) || !isString(o["stream_token"])) throw new wire.BadAnswer("process");
  const time = (v: unknown) => (isString(v) ? Date.parse(v) || 0 : 0);
  return {...wire.ended(o), sandbox: o["sandbox_id"], token: o["stream_token"], startedAt: time(o["started_at"]), endedAt: time(o["ended_at"])};
}
export const cancel = async (id: string) => void (await call("POST", "/api/processes/" + part(id) + "/cancel"));
export async function output(id: string, stream: "stdout" | "stderr" | "pty"): Promise<string> {
  return (await request("GET", "/api/processes/" + part(id) + "/output?stream=" + stream)).text();
}

// --- people ---

export interface Person {
  name: string;
  guest: boolean;
}
export async function me(): Promise<Person> {
  const o = await call("GET", "/api/me");
  if (isObject(o) && isString(o["csrf_token"])) setCsrf(o["csrf_token"]);
  const user = isObject(o) && isObject(o["user"]) ? o["user"] : o;
  const email = isObject(user) && isString(user["email"]) ? user["email"] : "";
  return {name: email || "Guest", guest: !email || (isObject(user) && user["guest"] === true)};
}
export const login = (email: string, password: string) => call("POST", "/api/auth/login", {body: {email, password}});
export const signUp = (email: string, password: string) => call("POST", "/api/auth/register", {body: {email, password}});
export const recover = (token: string, password: string) => call("POST", "/api/auth/recover", {body: {token, password}});
export const guest = () => call("POST", "/api/auth/guest", {body: {}});
export const logout = () => call("POST", "/api/auth/logout", {body: {}});

export interface ShareLink {
  id: string;
  url: string;
  role: string;
}
export interface Member {
  email: string;
  role: string;
  pending: boolean;
  verified: boolean;
}
export const members = async (id: string): Promise<Member[]> =>
  wire.pages("/api/workspaces/" + part(id) + "/members", (v) => {
    if (!isObject(v) || !isString(v["email"]) || !isString(v["role"])) throw new wire.BadAnswer("member");
    return {email: v["email"], role: v["role"], pending: v["pending"] === true, verified: v["verified"] === true};
  });
export const links = async (id: string): Promise<ShareLink[]> => wire.pages("/api/workspaces/" + part(id) + "/links", link);
export const addMember = async (id: string, email: string, role: string) =>
  void (await call("PUT", "/api/workspaces/" + part(id) + "/members/" + part(email), {body: {role}}));
export const removeMember = async (id: string, email: string) => void (await call("DELETE", "/api/workspaces/" + part(id) + "/members/" + part(email)));
export async function createLink(id: string, role: string): Promise<ShareLink> {
  return link(await call("POST", "/api/workspaces/" + part(id) + "/links", {body: {role}}));
}
/** By a link, or by a workspace's address: which workspace it is. Following a link gives its role. */
export async function workspaceBy(address: string): Promise<string> {
  const [, kind, name] = /^(?:https?:\/\/[^/]+)?\/?(s|w)\/([\w-]+)\/?(?:[?#].*)?$/.exec(address.trim()) ?? [];
  if (!kind || !name) throw new Error("This is no link to a workspace: one looks like " + location.origin + "/s/…");
  if (kind === "w") return name;
  const o = await call("POST", "/s/" + name, {body: {}}).catch((e: unknown) => {
    throw e instanceof CallError && e.status === 404 ? new Error("This link leads nowhere: it was taken back, or has run out.") : e;
  });
  if (!isObject(o) || !isString(o["workspace_id"])) throw new wire.BadAnswer("link");
  return o["workspace_id"];
}

function link(o: unknown): ShareLink {
  if (!isObject(o) || !isString(o["id"]) || !isString(o["slug"])) throw new wire.BadAnswer("link");
  // The address of this page, whatever name the server knows itself by.
  return {id: o["id"], role: isString(o["role"]) ? o["role"] : "viewer", url: new URL("/s/" + part(o["slug"]), location.href).href};
}
export const deleteLink = async (id: string, link: string) => void (await call("DELETE", "/api/workspaces/" + part(id) + "/links/" + part(link)));
