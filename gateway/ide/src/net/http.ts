// SPDX-License-Identifier: Apache-2.0
import {Emitter} from "../core/event";
import {isObject, isString} from "../core/store";

/** A call that did not succeed, in words for people. status 0: the server was not reached. */
export class CallError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly code: string,
    readonly field: string,
  ) {
    super(message);
  }
  /** The server does not know this part of the contract (yet). */
  get isMissing(): boolean {
    return this.status === 501 || (this.status === 404 && this.message === "no such URL") || this.status === 405;
  }
}

export const offline = (e: unknown): boolean => e instanceof CallError && e.status === 0;
export const words = (e: unknown): string => (e instanceof Error ? e.message : String(e));

/** Whether the server answers. */
export const reached = new Emitter<boolean>();
/** The server does not know who we are (any more). */
export const unauthorized = new Emitter<void>();

let key: string | null = null;
let csrf: string | null = null;
export function setKey(value: string | null): void {
  key = value;
}
export function setCsrf(value: string | null): void {
  csrf = value;
}
/** Calls of its own that a module makes (the sockets) carry no header; this tells whether a cookie must do. */
export const hasKey = (): boolean => key !== null;

interface Options {
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

function failure(status: number, answer: unknown): CallError {
  const e = isObject(answer) && isObject(answer["error"]) ? answer["error"] : {};
  const field = isString(e["field"]) ? e["field"] : "";
  const message = isString(e["message"]) ? e["message"] : "The server answered " + status + ".";
  return new CallError(message, status, isString(e["code"]) ? e["code"] : "", field);
}

function identity(): Record<string, string> {
  return key ? {Authorization: "Bearer " + key} : csrf ? {"X-CSRF-Token": csrf} : {};
}

export async function request(method: string, path: string, options: Options = {}): Promise<Response> {
  const headers: Record<string, string> = {...options.headers, ...identity()};
  if (options.body !== undefined) headers["Content-Type"] = "application/json";
  let answer: Response;
  try {
    answer = await fetch(path, {
      method,
      headers,
      credentials: "same-origin",
      cache: "no-store",
      ...(options.body !== undefined && {body: JSON.stringify(options.body)}),
      ...(options.signal && {signal: options.signal}),
    });
  } catch (e) {
    if (options.signal?.aborted) throw e;
    reached.emit(false);
    throw new CallError("The server cannot be reached.", 0, "offline", "");
  }
  reached.emit(true);
  if (answer.ok) return answer;
  const error = failure(answer.status, await answer.json().catch(() => null));
  if (error.status === 401) unauthorized.emit();
  throw error;
}

export async function call(method: string, path: string, options: Options = {}): Promise<unknown> {
  const answer = await request(method, path, options);
  if (answer.status === 204) return null;
  return answer.json().catch(() => null);
}

/** Sends much, and tells how many bytes have gone. */
export function send(path: string, body: Blob, type: string, progress: (bytes: number) => void, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const q = new XMLHttpRequest();
    q.open("POST", path);
    for (const [name, value] of Object.entries({...identity(), "Content-Type": type})) q.setRequestHeader(name, value);
    q.upload.onprogress = (e) => progress(e.loaded);
    q.onload = () => {
      reached.emit(true);
      if (q.status < 300) return resolve();
      let answer: unknown = null;
      try {
        answer = JSON.parse(q.responseText);
      } catch {
        /* then the status says it */
      }
      if (q.status === 401) unauthorized.emit();
      reject(failure(q.status, answer));
    };
    q.onerror = () => {
      reached.emit(false);
      reject(new CallError("The server cannot be reached.", 0, "offline", ""));
    };
    q.onabort = () => reject(new CallError("It was cancelled.", 0, "cancelled", ""));
    signal.addEventListener("abort", () => q.abort());
    if (signal.aborted) return reject(new CallError("It was cancelled.", 0, "cancelled", ""));
    q.send(body);
  });
}
