// SPDX-License-Identifier: Apache-2.0
/** Who uses this page: an API key that this tab keeps, or a session that a cookie holds. */
import {createSignal} from "solid-js";
import {recall, remember, isString} from "./core/store";
import * as api from "./net/api";
import {call, CallError, setKey, unauthorized, words} from "./net/http";

export type Who = {state: "unknown"} | {state: "out"} | {state: "in"; name: string; guest: boolean; byKey: boolean};

const [who, setWho] = createSignal<Who>({state: "unknown"});
export {who};

const KEY = "devbox-key";
function keptKey(): string | null {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}
function keepKey(key: string | null): void {
  setKey(key);
  try {
    if (key) sessionStorage.setItem(KEY, key);
    else sessionStorage.removeItem(KEY);
  } catch {
    /* then it is good for this page only */
  }
}

async function identify(byKey: boolean): Promise<void> {
  try {
    const person = await api.me();
    setWho({state: "in", name: byKey && person.guest ? "API key" : person.name, guest: person.guest && !byKey, byKey});
  } catch (e) {
    if (!(e instanceof CallError) || !e.isMissing) throw e;
    // A server without people: the key is all there is.
    await call("GET", "/api/workspaces?limit=1");
    setWho({state: "in", name: "API key", guest: false, byKey});
  }
}

/** At start: whoever was here before. */
export async function resume(): Promise<void> {
  const key = keptKey();
  if (key) setKey(key);
  try {
    await identify(key !== null);
  } catch (e) {
    if (e instanceof CallError && e.status === 0) throw e;
    if (key) keepKey(null);
    setWho({state: "out"});
  }
}

export async function useKey(key: string): Promise<void> {
  keepKey(key);
  try {
    await identify(true);
  } catch (e) {
    keepKey(null);
    throw e instanceof CallError && e.status === 401 ? new Error("This key is not valid.") : e;
  }
}

const notYet = (what: string) => (e: unknown) => {
  throw e instanceof CallError && e.isMissing ? new Error("This server has no " + what + ". Use an API key: ./devbox env prints it.") : e;
};

async function withCookie(enter: Promise<unknown>, what: string): Promise<void> {
  await enter.catch(notYet(what));
  await identify(false);
}
export const asGuest = (): Promise<void> => withCookie(api.guest(), "guests");
export const signIn = (email: string, password: string): Promise<void> => withCookie(api.login(email, password), "accounts");
export const register = (email: string, password: string): Promise<void> => withCookie(api.signUp(email, password), "accounts");

export async function recover(token: string, password: string): Promise<void> {
  await api.recover(token, password);
  keepKey(null);
  await identify(false);
}

export async function signOut(): Promise<void> {
  const w = who();
  if (w.state === "in" && !w.byKey) await api.logout().catch((e: unknown) => console.warn(words(e)));
  keepKey(null);
  setWho({state: "out"});
}

unauthorized.on(() => {
  if (who().state === "in") {
    keepKey(null);
    setWho({state: "out"});
  }
});

/** Workspaces that were open here, for people without a list of their own. */
export const lastTemplate = () => recall("template", isString, "python");
export const keepTemplate = (name: string) => remember("template", name);
