// SPDX-License-Identifier: Apache-2.0
/** The editors that are shown, and the one chunk that brings them. */
import {createSignal} from "solid-js";
import type {Cursor, EditorHandle, EditorPort} from "../editor/port";

export const [editorPort, setEditorPort] = createSignal<EditorPort | null>(null);
export const [editorFailure, setEditorFailure] = createSignal("");
export const [cursor, setCursor] = createSignal<Cursor | null>(null);
export const handles = new Map<number, EditorHandle>();

let loading: Promise<void> | null = null;

/** Fetches Monaco; to be called as early as it is clear that somebody will edit. */
export function loadEditor(): Promise<void> {
  loading ??= import("../editor/monaco").then(
    (m) => void setEditorPort(m.port),
    (e: unknown) => {
      console.error(e);
      loading = null;
      setEditorFailure("The editor could not be loaded.");
    },
  );
  return loading;
}
