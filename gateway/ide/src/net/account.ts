// SPDX-License-Identifier: Apache-2.0
/** Keys and sessions of whoever uses the page. */
import {isObject, isString} from "../core/store";
import {call} from "./http";
import {BadAnswer, pages} from "./wire";

export const SCOPES = ["read", "write", "run", "account", "admin"] as const;
export type Scope = (typeof SCOPES)[number];

export interface Key {
  id: string;
  label: string;
  /** Its first characters. */
  hint: string;
  scopes: Scope[];
  /** Milliseconds; 0: never. */
  expires: number;
  used: number;
}
export interface Session {
  id: string;
  current: boolean;
  created: number;
  used: number;
}

const part = encodeURIComponent;
const time = (v: unknown): number => (isString(v) ? Date.parse(v) || 0 : 0);
const scopes = (v: unknown): Scope[] => (Array.isArray(v) ? SCOPES.filter((s) => v.includes(s)) : []);

function key(v: unknown): Key {
  if (!isObject(v) || !isString(v["id"]) || !isString(v["label"]) || !isString(v["hint"])) throw new BadAnswer("key");
  return {id: v["id"], label: v["label"], hint: v["hint"], scopes: scopes(v["scopes"]), expires: time(v["expires_at"]), used: time(v["last_used_at"])};
}

function session(v: unknown): Session {
  if (!isObject(v) || !isString(v["id"])) throw new BadAnswer("session");
  return {id: v["id"], current: v["current"] === true, created: time(v["created_at"]), used: time(v["last_used_at"])};
}

/** What the caller may do, and so may let a key do. */
export async function myScopes(): Promise<Scope[]> {
  const o = await call("GET", "/api/me");
  return isObject(o) ? scopes(o["scopes"]) : [];
}
export const keys = (): Promise<Key[]> => pages("/api/keys", key);
/** The key with its secret, which is told this once. */
export async function createKey(label: string, scopes: Scope[], days: number): Promise<{key: Key; secret: string}> {
  const expires = days ? {expires_at: new Date(Date.now() + days * 86_400_000).toISOString()} : {};
  const o = await call("POST", "/api/keys", {body: {label, scopes, ...expires}});
  if (!isObject(o) || !isString(o["key"])) throw new BadAnswer("key");
  return {key: key(o), secret: o["key"]};
}
export const deleteKey = async (id: string): Promise<void> => void (await call("DELETE", "/api/keys/" + part(id)));
export const sessions = (): Promise<Session[]> => pages("/api/sessions", session);
export const deleteSession = async (id: string): Promise<void> => void (await call("DELETE", "/api/sessions/" + part(id)));
