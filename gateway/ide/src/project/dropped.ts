// SPDX-License-Identifier: Apache-2.0
/** Files and folders that were dropped or chosen, flat, each with its path. */
import type {Upload} from "../net/api";

/** data: null for a folder with nothing in it. */
export interface Dropped {
  path: string;
  data: File | null;
}
export const isFile = (d: Dropped): d is Dropped & Upload => d.data !== null;

const MAX_FILES = 1000;
export const MAX_FILE = 16 << 20;

function fileOf(entry: FileSystemFileEntry): Promise<File> {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}
function childrenOf(reader: FileSystemDirectoryReader): Promise<FileSystemEntry[]> {
  return new Promise((resolve, reject) => reader.readEntries(resolve, reject));
}

async function walk(entry: FileSystemEntry, path: string, into: Dropped[]): Promise<void> {
  if (into.length >= MAX_FILES) throw new Error("More than " + MAX_FILES + " files: that is too many at once.");
  if (entry.isFile) into.push({path, data: await fileOf(entry as FileSystemFileEntry)});
  else if (entry.name !== ".git") {
    const reader = (entry as FileSystemDirectoryEntry).createReader();
    let list = await childrenOf(reader);
    if (!list.length) into.push({path, data: null});
    for (; list.length; list = await childrenOf(reader)) for (const child of list) await walk(child, path + "/" + child.name, into);
  }
}

export async function collectDropped(transfer: DataTransfer): Promise<Dropped[]> {
  // The items are gone after the first wait: take them all now.
  const entries = [...transfer.items].map((i) => i.webkitGetAsEntry()).filter((e) => e !== null);
  const files = [...transfer.files];
  const into: Dropped[] = [];
  if (!entries.length) return files.map(fromFile);
  for (const e of entries) await walk(e, e.name, into);
  return into;
}

export function chooseFiles({accept = "", folder = false} = {}): Promise<File[]> {
  return new Promise((resolve) => {
    const input = document.createElement("input");
    input.type = "file";
    input.multiple = !accept;
    input.accept = accept;
    input.webkitdirectory = folder;
    // Outside of the page it may be collected while the person still chooses, and nothing comes of it.
    input.hidden = true;
    document.body.append(input);
    const done = () => {
      input.remove();
      resolve([...(input.files ?? [])]);
    };
    input.onchange = done;
    input.oncancel = done;
    input.click();
  });
}
export const fromFile = (file: File): Dropped => ({path: file.webkitRelativePath || file.name, data: file});

export function saveAs(name: string, data: BlobPart): void {
  const url = URL.createObjectURL(new Blob([data]));
  const a = document.createElement("a");
  a.href = url;
  a.download = name;
  a.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
