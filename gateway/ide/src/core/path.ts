// SPDX-License-Identifier: Apache-2.0
/** Paths of a workspace: relative, with "/" between components. */
export const baseName = (path: string): string => path.slice(path.lastIndexOf("/") + 1);
export const dirName = (path: string): string => (path.includes("/") ? path.slice(0, path.lastIndexOf("/")) : "");
export const join = (dir: string, name: string): string => (dir ? dir + "/" + name : name);
export const isInside = (path: string, dir: string): boolean => dir === "" || path === dir || path.startsWith(dir + "/");

export function extension(path: string): string {
  const name = baseName(path);
  const dot = name.lastIndexOf(".");
  return dot > 0 ? name.slice(dot + 1).toLowerCase() : "";
}

/** Why a path cannot be one, in words; "" when it can. */
export function pathProblem(path: string): string {
  if (path === "") return "A name is needed.";
  if (path.startsWith("/")) return "A path begins with a name, not with “/”.";
  const parts = path.split("/");
  if (parts.some((p) => p === "")) return "There is an empty name in the path.";
  if (parts.some((p) => p === "." || p === "..")) return "“.” and “..” are not names.";
  if (path.includes("\0")) return "A name has a character that cannot be.";
  if (new TextEncoder().encode(path).length > 1024) return "The path is too long.";
  return "";
}

/** A name beside "taken" ones: "a.txt", "a 2.txt", … */
export function freeName(path: string, taken: (path: string) => boolean): string {
  if (!taken(path)) return path;
  const ext = extension(path);
  const stem = ext ? path.slice(0, -ext.length - 1) : path;
  for (let n = 2; ; n++) {
    const candidate = stem + " " + n + (ext ? "." + ext : "");
    if (!taken(candidate)) return candidate;
  }
}
