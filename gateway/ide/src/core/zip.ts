// SPDX-License-Identifier: Apache-2.0
/** Reads zip archives: the files of one, with their paths. Sizes are bounded before anything is unpacked. */
export interface ZipFile {
  path: string;
  data: Uint8Array;
}

const MAX_FILES = 1000;
const MAX_TOTAL = 32 << 20;

async function inflate(data: Uint8Array<ArrayBuffer>, max: number): Promise<Uint8Array> {
  const reader = new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  const parts: Uint8Array[] = [];
  let length = 0;
  for (;;) {
    const {done, value} = await reader.read();
    if (done) break;
    length += value.length;
    if (length > max) throw new Error("a file in the archive is larger than it says");
    parts.push(value);
  }
  const all = new Uint8Array(length);
  let at = 0;
  for (const p of parts) {
    all.set(p, at);
    at += p.length;
  }
  return all;
}

/** A folder that all paths share is left out, as archives of repositories have one. */
function withoutCommonFolder(files: ZipFile[]): ZipFile[] {
  const first = files[0]?.path.split("/")[0];
  if (!first || !files.every((f) => f.path.startsWith(first + "/"))) return files;
  return files.map((f) => ({...f, path: f.path.slice(first.length + 1)}));
}

export async function readZip(buffer: ArrayBuffer): Promise<ZipFile[]> {
  const view = new DataView(buffer);
  let end = buffer.byteLength - 22;
  const lowest = Math.max(0, end - 65535);
  while (end >= lowest && view.getUint32(end, true) !== 0x06054b50) end--;
  if (end < lowest) throw new Error("this is no zip archive");
  const count = view.getUint16(end + 10, true);
  let at = view.getUint32(end + 16, true);
  const files: ZipFile[] = [];
  let total = 0;
  for (let i = 0; i < count; i++) {
    if (at + 46 > buffer.byteLength || view.getUint32(at, true) !== 0x02014b50) throw new Error("the archive is damaged");
    const method = view.getUint16(at + 10, true);
    const packed = view.getUint32(at + 20, true);
    const size = view.getUint32(at + 24, true);
    const nameLength = view.getUint16(at + 28, true);
    const local = view.getUint32(at + 42, true);
    const path = new TextDecoder().decode(new Uint8Array(buffer, at + 46, nameLength)).replaceAll("\\", "/");
    at += 46 + nameLength + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
    if (path.endsWith("/") || path.startsWith("__MACOSX/") || /(^|\/)\.git\//.test(path)) continue;
    if (path.startsWith("/") || path.split("/").some((p) => p === ".." || p === "." || p === "")) throw new Error("the archive has a path that leads out of it");
    total += size;
    if (files.length >= MAX_FILES) throw new Error("the archive has more than " + MAX_FILES + " files");
    if (total > MAX_TOTAL) throw new Error("the archive holds more than 32 MB");
    if (view.getUint32(local, true) !== 0x04034b50) throw new Error("the archive is damaged");
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    const raw = new Uint8Array(buffer, start, packed);
    if (method !== 0 && method !== 8) throw new Error("the archive uses a compression that is not known here");
    files.push({path, data: method === 0 ? raw : await inflate(raw, size)});
  }
  return withoutCommonFolder(files);
}
