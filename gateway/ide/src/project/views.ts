// SPDX-License-Identifier: Apache-2.0
/** Cursors and scroll positions, by group and file; kept over a reload. */
import {isObject, recall, remember} from "../core/store";

const MAX = 60;

export class Views {
  private key: string;
  private all: Record<string, unknown>;

  constructor(workspace: string) {
    this.key = "views." + workspace;
    this.all = recall<Record<string, unknown>>(this.key, isObject, {});
  }

  get(name: string): unknown {
    return this.all[name] ?? null;
  }
  put(name: string, view: unknown): void {
    delete this.all[name];
    this.all[name] = view;
    const names = Object.keys(this.all);
    for (const old of names.slice(0, Math.max(0, names.length - MAX))) delete this.all[old];
    remember(this.key, this.all);
  }
}
