// SPDX-License-Identifier: Apache-2.0
/** Files and folders that were dropped or chosen, flat, each with its path. */
export interface Dropped {
  path: string;
  size: number;
  data: () => Promise<Uint8Array>;
}

const MAX_FILES = 1000;
export const MAX_FILE = 1 << 20;

const dropped = (file: File, path: string): Dropped => ({path, size: file.size, data: async () => new Uint8Array(await file.arrayBuffer())});

function fileOf(entry: FileSystemFileEntry): Promise<File> {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}
function childrenOf(reader: FileSystemDirectoryReader): Promise<FileSystemEntry[]> {
  return new Promise((resolve, reject) => reader.readEntries(resolve, reject));
}

async function walk(entry: FileSystemEntry, path: string, into: Dropped[]): Promise<void> {
  if (into.length >= MAX_FILES) throw new Error("More than " + MAX_FILES + " files: that is too many at once.");
  if (entry.isFile) into.push(dropped(await fileOf(entry as FileSystemFileEntry), path));
  else if (entry.name !== ".git") {
    const reader = (entry as FileSystemDirectoryEntry).createReader();
    for (let list = await childrenOf(reader); list.length; list = await childrenOf(reader)) for (const child of list) await walk(child, path + "/" + child.name, into);
  }
}

export async function collectDropped(transfer: DataTransfer): Promise<Dropped[]> {
  // The items are gone after the first wait: take them all now.
  const entries = [...transfer.items].map((i) => i.webkitGetAsEntry()).filter((e) => e !== null);
  const files = [...transfer.files];
  const into: Dropped[] = [];
  if (!entries.length) return files.map((f) => dropped(f, f.name));
  for (const e of entries) await walk(e, e.name, into);
  return into;
}

export function chooseFiles(accept = ""): Promise<File[]> {
  return new Promise((resolve) => {
    const input = document.createElement("input");
    input.type = "file";
    input.multiple = !accept;
    input.accept = accept;
    input.onchange = () => resolve([...(input.files ?? [])]);
    input.click();
  });
}
export const fromFile = (file: File): Dropped => dropped(file, file.name);

export function saveAs(name: string, data: BlobPart): void {
  const url = URL.createObjectURL(new Blob([data]));
  const a = document.createElement("a");
  a.href = url;
  a.download = name;
  a.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
