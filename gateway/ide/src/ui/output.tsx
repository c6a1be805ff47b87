// SPDX-License-Identifier: Apache-2.0
/** A program's output: only the lines in view are made, so that 100,000 of them scroll as ten do. */
import {createEffect, createMemo, createSignal, For, on, onCleanup, onMount, Show} from "solid-js";
import {textOf, type Line} from "../core/ansi";
import {execute} from "../core/commands";
import {findLinks} from "../core/links";
import type {Output} from "../project/output";
import type {Project} from "../project/project";
import {Icon} from "./icons";

const ROW = 19;
const SPARE = 20;

interface Part {
  text: string;
  style: string;
  link?: () => void;
  href?: string;
}

interface Shown {
  line: Line;
  at: number;
  text: string;
  parts: Part[];
}

/** The spans of a line, cut where links begin and end. */
function partsOf(line: Line, project: Project): Part[] {
  const text = textOf(line);
  const marks: {from: number; to: number; link?: () => void; href?: string}[] = findLinks(text, project.files.exists).map((l) => ({
    from: l.from,
    to: l.to,
    link: () => execute("file.open", {id: project.files.byPath().get(l.path)?.id, line: l.line, column: l.column}),
  }));
  if (!marks.length) for (const m of text.matchAll(/https?:\/\/[^\s"'<>()]{3,500}/g)) marks.push({from: m.index, to: m.index + m[0].length, href: m[0]});
  const parts: Part[] = [];
  let at = 0;
  for (const span of line.spans) {
    let from = at;
    const end = at + span.text.length;
    while (from < end) {
      const mark = marks.find((m) => from < m.to && m.from < end);
      const to = !mark ? end : from < mark.from ? mark.from : Math.min(mark.to, end);
      const inside = mark && from >= mark.from ? mark : undefined;
      parts.push({text: span.text.slice(from - at, to - at), style: span.style, ...(inside?.link && {link: inside.link}), ...(inside?.href && {href: inside.href})});
      from = to;
    }
    at = end;
  }
  return parts;
}

export function OutputView(props: {project: Project; output: Output}) {
  let box!: HTMLDivElement;
  const [top, setTop] = createSignal(0);
  const [height, setHeight] = createSignal(300);
  const [following, setFollowing] = createSignal(true);
  const count = createMemo(() => (props.output.version, props.output.lines.length));
  const range = createMemo(() => {
    void props.output.version;
    const first = Math.max(0, Math.floor(top() / ROW) - SPARE);
    return {first, last: Math.min(count(), Math.ceil((top() + height()) / ROW) + SPARE)};
  });
  // A line that is as it was keeps its elements: what is selected in it stays selected.
  const shown = createMemo<Shown[]>((before) => {
    void props.output.version;
    const {first, last} = range();
    const kept = new Map(before.map((s) => [s.line, s]));
    return props.output.lines.slice(first, last).map((line, i) => {
      const text = textOf(line);
      const old = kept.get(line);
      return old && old.at === first + i && old.text === text ? old : {line, at: first + i, text, parts: partsOf(line, props.project)};
    });
  }, []);
  const toEnd = () => {
    box.scrollTop = box.scrollHeight;
    setTop(box.scrollTop);
  };
  createEffect(
    on(
      () => props.output.version,
      () => {
        if (following()) toEnd();
      },
    ),
  );
  onMount(() => {
    const observer = new ResizeObserver(() => {
      setHeight(box.clientHeight);
      if (following()) toEnd();
    });
    observer.observe(box);
    onCleanup(() => observer.disconnect());
    toEnd();
  });
  const scrolled = () => {
    setTop(box.scrollTop);
    setFollowing(box.scrollHeight - box.scrollTop - box.clientHeight < ROW * 2);
  };
  const copyAll = (e: KeyboardEvent) => {
    if (!(e.ctrlKey || e.metaKey) || e.key.toLowerCase() !== "a") return;
    // What is not in view is not there to be selected: take the text itself.
    e.preventDefault();
    execute("output.copy");
  };
  return (
    <>
      <div class="output" ref={box} tabIndex={0} role="log" aria-label="Output of the program" aria-live="off" onScroll={scrolled} onKeyDown={copyAll}>
        <Show when={props.output.version >= 0 && props.output.dropped}>
          <div class="output-line note" style={{position: "static"}}>
            {props.output.dropped.toLocaleString()} earlier lines are not kept here
          </div>
        </Show>
        <div class="output-space" style={{height: count() * ROW + "px", width: "max(100%, " + (Math.min(props.output.version >= 0 ? props.output.width : 0, 2000) + 4) + "ch)"}}>
          <For each={shown()}>
            {(row) => (
              <div class={"output-line " + row.line.stream} style={{top: row.at * ROW + "px"}}>
                <For each={row.parts}>
                  {(p) =>
                    p.link ? (
                      <a
                        href="#"
                        class={p.style}
                        onClick={(e) => {
                          e.preventDefault();
                          p.link?.();
                        }}
                      >
                        {p.text}
                      </a>
                    ) : p.href ? (
                      <a href={p.href} target="_blank" rel="noopener noreferrer" class={p.style}>
                        {p.text}
                      </a>
                    ) : (
                      <span class={p.style}>{p.text}</span>
                    )
                  }
                </For>
              </div>
            )}
          </For>
        </div>
      </div>
      <Show when={!following() && count() * ROW > height()}>
        <button class="button to-end" onClick={() => (setFollowing(true), toEnd())}>
          <Icon name="down" /> Newest
        </button>
      </Show>
    </>
  );
}

/** A line that goes to the program's standard input. */
export function InputLine(props: {project: Project}) {
  const run = props.project.run;
  const [history, setHistory] = createSignal<string[]>([]);
  let at = -1;
  let input!: HTMLInputElement;
  const key = (e: KeyboardEvent) => {
    const move = (to: number) => {
      at = Math.max(-1, Math.min(to, history().length - 1));
      input.value = history()[at] ?? "";
    };
    if (e.key === "Enter") {
      run.input(input.value + "\n");
      if (input.value) setHistory([input.value, ...history()].slice(0, 100));
      input.value = "";
      at = -1;
    } else if (e.key === "ArrowUp") move(at + 1);
    else if (e.key === "ArrowDown") move(at - 1);
    else if (e.ctrlKey && e.key.toLowerCase() === "d") run.eof();
    else if (e.ctrlKey && e.key.toLowerCase() === "c" && input.selectionStart === input.selectionEnd) execute("run.stop");
    else return;
    e.preventDefault();
    e.stopPropagation();
  };
  return (
    <div class="stdin">
      <span class="prompt" aria-hidden="true">
        ›
      </span>
      <input ref={input} id="stdin" aria-label="Input for the program; Enter sends the line" placeholder="Type input for the program, Enter sends it" spellcheck={false} autocomplete="off" onKeyDown={key} />
      <button class="button quiet" title="No more input follows (Ctrl+D)" onClick={() => run.eof()}>
        End input
      </button>
    </div>
  );
}
