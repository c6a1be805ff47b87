// SPDX-License-Identifier: Apache-2.0
/** What the IDE wants of an editor. Only this folder knows that it is Monaco. */
import type {Dispose, Emitter} from "../core/event";
import type {Problem} from "../core/problems";
import type {Document} from "../project/document";

export interface Cursor {
  line: number;
  column: number;
  selected: number;
  language: string;
  indent: string;
}

export interface EditorHandle {
  readonly cursor: Emitter<Cursor>;
  readonly focused: Emitter<void>;
  show(doc: Document, view: unknown): void;
  /** Where cursor and scroll stand; give it back to show. */
  view(): unknown;
  reveal(line: number, column: number): void;
  focus(): void;
  action(id: string): void;
  now(): Cursor | null;
  dispose(): void;
}

export interface MergeHandle {
  text(): string;
  dispose(): void;
}

export interface EditorPort {
  create(host: HTMLElement): EditorHandle;
  merge(host: HTMLElement, path: string, theirs: string, mine: string): MergeHandle;
  setProblems(problems: Problem[]): void;
  /** Documents that no tab shows any more give their models back. */
  release(keep: (doc: string) => boolean): void;
  onEdit: Emitter<Document>;
  ready: Promise<void>;
}

export type {Dispose};
