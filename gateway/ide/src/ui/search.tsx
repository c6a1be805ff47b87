// SPDX-License-Identifier: Apache-2.0
/** Search in files: found while one types, file by file; replaced in all with one undo. */
import {createEffect, createSignal, For, on, onCleanup, Show} from "solid-js";
import {execute} from "../core/commands";
import {baseName, dirName} from "../core/path";
import {words} from "../net/http";
import * as api from "../net/api";
import type {Project} from "../project/project";
import {pattern, replaceAll, type FileHits, type Query} from "../project/search";
import {focusOn} from "./focus";
import {FileIcon, Icon} from "./icons";
import {toast} from "./toast";

export const [searchFocus, setSearchFocus] = createSignal(0);

export function SearchView(props: {project: Project}) {
  let input!: HTMLInputElement;
  const project = props.project;
  const [query, setQuery] = createSignal<Query>({text: "", regex: false, matchCase: false, wholeWord: false});
  const [by, setBy] = createSignal("");
  const [found, setFound] = createSignal<FileHits[]>([]);
  const [state, setState] = createSignal<"idle" | "busy" | "done" | "more">("idle");
  const [problem, setProblem] = createSignal("");
  const [folded, setFolded] = createSignal<ReadonlySet<string>>(new Set());
  let abort = new AbortController();
  let timer = 0;

  createEffect(
    on(searchFocus, () => {
      focusOn(() => input);
      input.select();
    }),
  );

  const openText = (id: string) => {
    const d = project.opened(id);
    return d && d.state() !== "loading" && d.state() !== "binary" ? d.buffer.get() : null;
  };
  const start = () => {
    abort.abort();
    abort = new AbortController();
    const {signal} = abort;
    const q = query();
    setFound([]);
    setProblem("");
    if (!q.text) return void setState("idle");
    try {
      pattern(q);
    } catch {
      setProblem("This is no regular expression.");
      return void setState("idle");
    }
    setState("busy");
    const add = (f: FileHits) => setFound((all) => [...all, f].sort((a, b) => (a.path < b.path ? -1 : 1)));
    void project.search.find(q, project.files.entries(), openText, add, signal).then((more) => {
      if (!signal.aborted) setState(more ? "more" : "done");
    });
  };
  const change = (part: Partial<Query>) => {
    setQuery({...query(), ...part});
    clearTimeout(timer);
    timer = window.setTimeout(start, 180);
  };
  onCleanup(() => {
    clearTimeout(timer);
    abort.abort();
  });

  const total = () => found().reduce((n, f) => n + f.hits.length, 0);
  const sum = () => {
    if (problem()) return problem();
    if (state() === "idle") return "";
    const n = total();
    if (!n) return state() === "busy" ? "Searching…" : "Nothing found. Folders that tools fill are left out.";
    const files = found().length;
    return (state() === "more" ? "The first " : "") + n + (n === 1 ? " place in " : " places in ") + files + (files === 1 ? " file" : " files");
  };

  const replaceEverywhere = async () => {
    const q = query();
    const undo: {id: string; text: string}[] = [];
    try {
      await project.flush();
      for (const f of found()) {
        const {content, etag} = await api.readFile(f.id);
        const text = replaceAll(content, q, by());
        if (text === null || typeof content !== "string") continue;
        await api.writeFile(f.id, text, etag);
        undo.push({id: f.id, text: content});
      }
    } catch (e) {
      toast("Not everything was replaced: " + words(e), {bad: true});
    }
    await project.files.refresh().catch(() => undefined);
    start();
    if (!undo.length) return;
    toast("Replaced in " + undo.length + (undo.length === 1 ? " file" : " files"), {
      action: {
        label: "Undo",
        run: () => void Promise.all(undo.map((u) => api.writeFile(u.id, u.text))).then(() => project.files.refresh().then(start)),
      },
    });
  };
  const fold = (id: string) => {
    const next = new Set(folded());
    if (!next.delete(id)) next.add(id);
    setFolded(next);
  };
  const toggle = (name: "matchCase" | "wholeWord" | "regex", text: string, title: string) => (
    <button class="icon-button" aria-pressed={query()[name]} aria-label={title} title={title} data-text={text} onClick={() => change({[name]: !query()[name]})} />
  );

  return (
    <>
      <div class="search-form" role="search">
        <div class="search-field with-options">
          <input class="field" ref={input} placeholder="Search" aria-label="Search in files" spellcheck={false} value={query().text} onInput={(e) => change({text: e.currentTarget.value})} onKeyDown={(e) => e.key === "Enter" && start()} />
          <div class="search-options">
            {toggle("matchCase", "Aa", "Match case")}
            {toggle("wholeWord", "ab", "Whole words")}
            {toggle("regex", ".*", "Regular expression")}
          </div>
        </div>
        <Show when={!project.readOnly}>
          <div class="search-row">
            <input class="field" style={{height: "28px"}} placeholder="Replace" aria-label="Replace by" spellcheck={false} value={by()} onInput={(e) => setBy(e.currentTarget.value)} />
            <button class="button" style={{height: "28px"}} disabled={!total() || state() === "busy"} onClick={() => void replaceEverywhere()}>
              All
            </button>
          </div>
        </Show>
      </div>
      <p class="search-sum" role="status">
        {sum()}
      </p>
      <div class="side-scroll">
        <For each={found()}>
          {(f) => (
            <>
              <button class="hit-file" aria-expanded={!folded().has(f.id)} onClick={() => fold(f.id)}>
                <FileIcon path={f.path} />
                <span>{baseName(f.path)}</span>
                <span class="path">{dirName(f.path)}</span>
                <span class="count">{f.hits.length}</span>
              </button>
              <Show when={!folded().has(f.id)}>
                <For each={f.hits}>
                  {(h) => (
                    <button class="hit" title={f.path + ":" + h.line} onClick={() => execute("file.open", {id: f.id, line: h.line, column: h.column, preview: true})}>
                      {h.text.slice(0, h.at)}
                      <mark>{h.text.slice(h.at, h.at + h.length)}</mark>
                      {h.text.slice(h.at + h.length)}
                    </button>
                  )}
                </For>
              </Show>
            </>
          )}
        </For>
        <Show when={state() === "idle" && !problem()}>
          <div class="empty">
            <Icon name="search" />
            <span>Type to search in all files of this workspace.</span>
          </div>
        </Show>
      </div>
    </>
  );
}
