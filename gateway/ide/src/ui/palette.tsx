// SPDX-License-Identifier: Apache-2.0
/** One box for commands (">"), files, lines (":"), and what the file in front defines ("@"). */
import {createEffect, createMemo, createSignal, For, onMount, Show} from "solid-js";
import {execute, keysOf, listed, type Command} from "../core/commands";
import {fuzzy, type Match} from "../core/fuzzy";
import {languageOf} from "../core/languages";
import {baseName, dirName} from "../core/path";
import {isString, recall, remember} from "../core/store";
import {hasSymbols, symbolsOf, type Symbol} from "../core/symbols";
import {isIgnored} from "../project/files";
import {project} from "../app";
import {FileIcon} from "./icons";

interface Choice {
  title: string;
  about: string;
  keys: string;
  path?: string;
  indent?: number;
  at: number[];
  run: () => unknown;
}

const [opened, setOpened] = createSignal<{text: string} | null>(null);
export const openPalette = (text: string): void => void setOpened({text});

const MAX = 100;
const recentCommands = (): string[] => recall<unknown[]>("commands", Array.isArray, []).filter(isString);

function ranked<T>(list: T[], text: (x: T) => string, q: string, bonus: (x: T) => number): {item: T; match: Match}[] {
  const found: {item: T; match: Match; score: number}[] = [];
  for (const item of list) {
    const match = fuzzy(q, text(item));
    if (match) found.push({item, match, score: match.score + bonus(item)});
  }
  return found.sort((a, b) => b.score - a.score).slice(0, MAX);
}

function commandChoices(q: string): Choice[] {
  const recent = recentCommands();
  const title = (c: Command) => (c.category ? c.category + ": " + c.title : c.title);
  const list = [...listed()].sort((a, b) => title(a).localeCompare(title(b)));
  return ranked(list, title, q, (c) => (recent.includes(c.id) ? 50 - recent.indexOf(c.id) : 0)).map(({item, match}) => ({
    title: title(item),
    about: "",
    keys: keysOf(item.id),
    at: match.at,
    run: () => {
      remember("commands", [item.id, ...recent.filter((r) => r !== item.id)].slice(0, 20));
      return execute(item.id);
    },
  }));
}

function fileChoices(q: string): Choice[] {
  const p = project();
  if (!p) return [];
  const [name, line] = q.split(":");
  const recent = p.layout.recentFiles;
  const files = p.files.entries().filter((e) => e.type === "file" && (name || !isIgnored(e.path)));
  const bonus = (id: string) => (recent.includes(id) ? (name ? 20 : 500) - recent.indexOf(id) : 0);
  return ranked(files, (e) => e.path, name!, (e) => bonus(e.id) + (isIgnored(e.path) ? -500 : 0)).map(({item, match}) => ({
    title: baseName(item.path),
    about: dirName(item.path),
    keys: "",
    path: item.path,
    at: match.at.map((i) => i - (item.path.length - baseName(item.path).length)).filter((i) => i >= 0),
    run: () => execute("file.open", {id: item.id, line: Number(line) || undefined}),
  }));
}

/** In the order of the text until something is typed. */
function symbolChoices(q: string): Choice[] {
  const d = project()?.active;
  if (!d) return [];
  const all = symbolsOf(d.buffer.get(), languageOf(d.path()));
  const least = Math.min(...all.map((s) => s.depth));
  const go = (s: Symbol) => execute("editor.goTo", {line: s.line, column: s.column});
  const found = q ? ranked(all, (s) => s.name, q, () => 0) : all.slice(0, 500).map((item) => ({item, match: {at: []}}));
  return found.map(({item, match}) => ({title: item.name, indent: q ? 0 : Math.min(8, item.depth - least), about: item.kind + " · line " + item.line, keys: "", at: match.at, run: () => go(item)}));
}

function choices(text: string): Choice[] {
  if (text.startsWith(">")) return commandChoices(text.slice(1).trim());
  if (text.startsWith("@")) return symbolChoices(text.slice(1).trim());
  const line = /^:(\d*)(?::(\d+))?$/.exec(text);
  if (!line) return fileChoices(text.trim());
  const n = Number(line[1]);
  return n ? [{title: "Go to line " + n, about: "", keys: "", at: [], run: () => execute("editor.goTo", {line: n, column: Number(line[2]) || 1})}] : [];
}

function Marked(props: {text: string; at: number[]}) {
  const parts = createMemo(() => {
    const out: {text: string; hit: boolean}[] = [];
    const at = new Set(props.at);
    for (let i = 0; i < props.text.length; i++) {
      const hit = at.has(i);
      const last = out.at(-1);
      if (last && last.hit === hit) last.text += props.text[i];
      else out.push({text: props.text[i]!, hit});
    }
    return out;
  });
  return <For each={parts()}>{(p) => (p.hit ? <b>{p.text}</b> : <>{p.text}</>)}</For>;
}

function PaletteBox(props: {start: string}) {
  let box!: HTMLDialogElement;
  let input!: HTMLInputElement;
  let list!: HTMLDivElement;
  const [text, setText] = createSignal(props.start);
  const [at, setAt] = createSignal(0);
  const found = createMemo(() => choices(text()));
  const close = () => box.close();
  const choose = (c: Choice | undefined) => {
    if (!c) return;
    close();
    c.run();
  };
  createEffect(() => {
    text();
    setAt(0);
  });
  createEffect(() => list.children[at()]?.scrollIntoView({block: "nearest"}));
  onMount(() => {
    box.showModal();
    input.focus();
    input.setSelectionRange(props.start.length, props.start.length);
  });
  const key = (e: KeyboardEvent) => {
    const n = found().length;
    if (e.key === "ArrowDown") setAt((at() + 1) % Math.max(n, 1));
    else if (e.key === "ArrowUp") setAt((at() - 1 + n) % Math.max(n, 1));
    else if (e.key === "PageDown") setAt(Math.min(at() + 10, Math.max(n - 1, 0)));
    else if (e.key === "PageUp") setAt(Math.max(at() - 10, 0));
    else if (e.key === "Enter") choose(found()[at()]);
    else return;
    e.preventDefault();
  };
  const none = () => {
    if (text().startsWith(">")) return "No command has this name.";
    if (text().startsWith(":")) return "Type the number of a line.";
    if (text().startsWith("@")) {
      const d = project()?.active;
      if (!d) return "No file is open.";
      return hasSymbols(languageOf(d.path())) ? "This file defines no such name." : "In files of this kind no names are known.";
    }
    return "No file has this name. Type > for commands, : for a line, @ for a name in this file.";
  };
  return (
    <dialog
      class="palette"
      ref={box}
      aria-label="Go to a file or run a command"
      onClose={() => setOpened(null)}
      onPointerDown={(e) => {
        if (e.target === box) close();
      }}
    >
      <input
        class="palette-input"
        ref={input}
        role="combobox"
        aria-expanded="true"
        aria-controls="palette-list"
        aria-activedescendant={found().length ? "palette-" + at() : undefined}
        aria-label="Name of a file; > for commands, : for a line, @ for a name in this file"
        placeholder="Name of a file   ( > commands   : line   @ name in it )"
        value={text()}
        spellcheck={false}
        autocomplete="off"
        onInput={(e) => setText(e.currentTarget.value)}
        onKeyDown={key}
      />
      <div class="palette-list" id="palette-list" role="listbox" aria-label="Choices" ref={list}>
        <For each={found()}>
          {(c, i) => (
            <div class="palette-item" id={"palette-" + i()} role="option" aria-selected={i() === at()} onPointerMove={() => setAt(i())} onClick={() => choose(c)}>
              <Show when={c.path}>{(path) => <FileIcon path={path()} />}</Show>
              <span style={c.indent ? {"padding-left": c.indent * 4 + "px"} : undefined}>
                <Marked text={c.title} at={c.at} />
              </span>
              <span class="about">{c.about}</span>
              <Show when={c.keys}>
                <kbd>{c.keys}</kbd>
              </Show>
            </div>
          )}
        </For>
      </div>
      <Show when={!found().length}>
        <div class="palette-none" role="status">
          {none()}
        </div>
      </Show>
    </dialog>
  );
}

export function Palette() {
  return (
    <Show when={opened()} keyed>
      {(o) => <PaletteBox start={o.text} />}
    </Show>
  );
}
