// SPDX-License-Identifier: Apache-2.0
/** Bytes and text. */
export function toBase64(bytes: Uint8Array): string {
  let binary = "";
  for (let i = 0; i < bytes.length; i += 0x8000) binary += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(binary);
}

export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

/** The text, or null when the bytes are none (not UTF-8, or with a NUL). */
export function asText(bytes: Uint8Array): string | null {
  try {
    const text = new TextDecoder("utf-8", {fatal: true, ignoreBOM: true}).decode(bytes);
    return text.includes("\0") ? null : text;
  } catch {
    return null;
  }
}

export function sizeText(n: number): string {
  if (n < 1024) return n + " B";
  if (n < 1024 * 1024) return (n / 1024).toFixed(n < 10240 ? 1 : 0) + " KB";
  return (n / 1048576).toFixed(1) + " MB";
}

export function timeText(ms: number): string {
  if (ms < 1000) return Math.round(ms) + " ms";
  if (ms < 60000) return (ms / 1000).toFixed(1) + " s";
  return Math.floor(ms / 60000) + " min " + Math.round((ms % 60000) / 1000) + " s";
}

/** "just now", "5 minutes ago", "3 days ago". */
export function agoText(then: number, now = Date.now()): string {
  const s = Math.max(0, (now - then) / 1000);
  const say = (n: number, unit: string) => Math.floor(n) + " " + unit + (Math.floor(n) === 1 ? "" : "s") + " ago";
  if (s < 60) return "just now";
  if (s < 3600) return say(s / 60, "minute");
  if (s < 86400) return say(s / 3600, "hour");
  return say(s / 86400, "day");
}
