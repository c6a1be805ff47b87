// SPDX-License-Identifier: Apache-2.0
/** Search in files: found while one types, file by file; replaced in all with one undo. */
import {createEffect, createSignal, For, on, onCleanup, Show} from "solid-js";
import {execute} from "../core/commands";
import {baseName, dirName} from "../core/path";
import {words} from "../net/http";
import * as api from "../net/api";
import type {Project} from "../project/project";
import {find, pattern, replaceAll, type FileHits, type Found, type Query} from "../project/search";
import {focusOn} from "./focus";
import {FileIcon, Icon} from "./icons";
import {toast} from "./toast";

export const [searchFocus, setSearchFocus] = createSignal(0);

export function SearchView(props: {project: Project}) {
  let input!: HTMLInputElement;
  const project = props.project;
  const [query, setQuery] = createSignal<Query>({text: "", regex: false, matchCase: false, wholeWord: false, where: ""});
  const [by, setBy] = createSignal("");
  const [found, setFound] = createSignal<FileHits[]>([]);
  const [state, setState] = createSignal<"idle" | "busy" | "done" | "more">("idle");
  const [tooHard, setTooHard] = createSignal(0);
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

  /** What comes is shown once a frame. */
  let waiting: FileHits[] = [];
  let frame = 0;
  const show = () => {
    frame = 0;
    const all = new Map(found().map((f) => [f.id, f]));
    for (const f of waiting.splice(0)) all.set(f.id, {...f, hits: [...(all.get(f.id)?.hits ?? []), ...f.hits]});
    setFound([...all.values()]);
  };
  const forget = () => {
    cancelAnimationFrame(frame);
    frame = 0;
    waiting = [];
    setFound([]);
  };
  const start = async () => {
    abort.abort();
    abort = new AbortController();
    const {signal} = abort;
    const q = query();
    forget();
    setProblem("");
    setTooHard(0);
    if (!q.text) return void setState("idle");
    setState("busy");
    const add = (f: FileHits) => {
      if (signal.aborted) return;
      waiting.push(f);
      frame ||= requestAnimationFrame(show);
    };
    try {
      await project.flush(); // what is searched is what the server has
      if (signal.aborted) return;
      ended(await find(project.transport.socket, q, {found: add, reset: () => !signal.aborted && forget()}, signal), signal);
    } catch (e) {
      if (signal.aborted) return;
      setProblem(words(e).replace(/^query: /, ""));
      setState("idle");
    }
  };
  const ended = (f: Found, signal: AbortSignal) => {
    if (signal.aborted) return;
    cancelAnimationFrame(frame);
    show();
    setTooHard(f.tooHard);
    setState(f.more ? "more" : "done");
  };
  const change = (part: Partial<Query>) => {
    setQuery({...query(), ...part});
    if (query().text) setState("busy"); // what is shown is not what is asked for
    clearTimeout(timer);
    timer = window.setTimeout(() => void start(), 180);
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
    const hard = tooHard() ? "; lines that took too long are left out" : "";
    return (state() === "more" ? "The first " : "") + n + (n === 1 ? " place in " : " places in ") + files + (files === 1 ? " file" : " files") + hard + (state() === "busy" ? "…" : "");
  };

  const replaceEverywhere = async () => {
    const q = query();
    const undo: {id: string; text: string; etag: string}[] = [];
    try {
      pattern(q);
    } catch {
      return void toast("This pattern can be searched for, but not replaced.", {bad: true});
    }
    try {
      await project.flush();
      for (const f of found()) {
        const {content, etag} = await api.readFile(f.id);
        const text = replaceAll(content, q, by());
        if (text === null || typeof content !== "string") continue;
        const after = await api.writeFile(f.id, text, etag);
        undo.push({id: f.id, text: content, etag: after.etag ?? ""});
      }
    } catch (e) {
      toast("Not everything was replaced: " + words(e), {bad: true});
    }
    await project.files.refresh().catch(() => undefined);
    void start();
    if (!undo.length) return;
    toast("Replaced in " + undo.length + (undo.length === 1 ? " file" : " files"), {
      action: {
        label: "Undo",
        run: async () => {
          const kept = (await Promise.allSettled(undo.map((u) => api.writeFile(u.id, u.text, u.etag)))).filter((r) => r.status === "rejected").length;
          if (kept) toast(kept + (kept === 1 ? " file was" : " files were") + " changed since, and stays as it is.", {bad: true});
          await project.files.refresh().catch(() => undefined);
          void start();
        },
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
        <div class="search-row">
          <input class="field" style={{height: "28px"}} placeholder="Where, such as *.py, src, !test" aria-label="Where to search: globs; with ! before it a folder or file is left out" spellcheck={false} value={query().where} onInput={(e) => change({where: e.currentTarget.value})} />
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
                      {h.text.slice(0, h.from)}
                      <mark>{h.text.slice(h.from, h.to)}</mark>
                      {h.text.slice(h.to)}
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
