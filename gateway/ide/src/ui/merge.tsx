// SPDX-License-Identifier: Apache-2.0
/** Somebody else saved first, at the same place: both texts side by side, and the person decides. */
import {createEffect, onCleanup} from "solid-js";
import type {MergeHandle} from "../editor/port";
import type {Document} from "../project/document";
import {editorPort} from "./editors";
import {Icon} from "./icons";

export function MergeView(props: {doc: Document}) {
  let host!: HTMLDivElement;
  let handle: MergeHandle | null = null;
  createEffect(() => {
    const port = editorPort();
    if (!port || handle) return;
    handle = port.merge(host, props.doc.path(), props.doc.theirs?.text ?? "", props.doc.buffer.get());
  });
  onCleanup(() => handle?.dispose());
  return (
    <div class="merge">
      <div class="notice" role="alert">
        <Icon name="warning" />
        <p>
          <strong>This file was saved elsewhere while you typed.</strong> Nothing is lost: change the right side until it is what you want, then save it.
        </p>
        <button class="button" onClick={() => void props.doc.resolve(props.doc.theirs?.text ?? "")}>
          Take theirs
        </button>
        <button class="button primary" onClick={() => handle && void props.doc.resolve(handle.text())}>
          Save the right side
        </button>
      </div>
      <div class="merge-head">
        <span>Saved elsewhere</span>
        <span>Yours</span>
      </div>
      <div class="merge-host" ref={host} />
    </div>
  );
}
