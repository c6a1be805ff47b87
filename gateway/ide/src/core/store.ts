// SPDX-License-Identifier: Apache-2.0
/** What the browser remembers. Nothing here may throw: storage can be full, forbidden, or hold anything. */
export function recall<T>(key: string, check: (value: unknown) => value is T, otherwise: T): T {
  try {
    const text = localStorage.getItem("devbox." + key);
    const value: unknown = text === null ? undefined : JSON.parse(text);
    return check(value) ? value : otherwise;
  } catch {
    return otherwise;
  }
}

export function remember(key: string, value: unknown): boolean {
  try {
    if (value === undefined) localStorage.removeItem("devbox." + key);
    else localStorage.setItem("devbox." + key, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

export function keysWith(prefix: string): string[] {
  try {
    return Object.keys(localStorage)
      .filter((k) => k.startsWith("devbox." + prefix))
      .map((k) => k.slice("devbox.".length));
  } catch {
    return [];
  }
}

export const isObject = (v: unknown): v is Record<string, unknown> => typeof v === "object" && v !== null && !Array.isArray(v);
export const isString = (v: unknown): v is string => typeof v === "string";
export const isNumber = (v: unknown): v is number => typeof v === "number" && Number.isFinite(v);
