// SPDX-License-Identifier: Apache-2.0
/** Dialogs: the browser's own, so that focus stays inside, Escape closes, and focus goes back. */
import {createSignal, onMount, Show, type JSX} from "solid-js";
import {Icon} from "./icons";

export function Dialog(props: {title: string; class?: string; close: () => void; children: JSX.Element}) {
  let box!: HTMLDialogElement;
  onMount(() => {
    box.showModal();
    box.querySelector<HTMLElement>("[data-first]")?.focus();
  });
  return (
    <dialog
      class={"dialog " + (props.class ?? "")}
      ref={box}
      aria-labelledby="dialog-title"
      onClose={() => props.close()}
      onPointerDown={(e) => {
        if (e.target === box) box.close();
      }}
    >
      <div class="dialog-head">
        <h2 id="dialog-title">{props.title}</h2>
        <button class="icon-button" aria-label="Close" onClick={() => box.close()}>
          <Icon name="close" />
        </button>
      </div>
      <div class="dialog-body">{props.children}</div>
    </dialog>
  );
}

interface Question {
  title: string;
  text?: string;
  /** A line of text is asked for, beginning with this. */
  value?: string;
  label?: string;
  ok: string;
  danger?: boolean;
  check?: (value: string) => string;
  answer: (value: string | null) => void;
}
const [question, setQuestion] = createSignal<Question | null>(null);

/** The text (or "" where none was asked for); null: cancelled. */
export function ask(q: Omit<Question, "answer">): Promise<string | null> {
  return new Promise((answer) => setQuestion({...q, answer}));
}

function QuestionBox(props: {q: Question}) {
  const [value, setValue] = createSignal(props.q.value ?? "");
  const problem = () => props.q.check?.(value()) ?? "";
  let done = false;
  const finish = (answer: string | null) => {
    if (done) return;
    done = true;
    setQuestion(null);
    props.q.answer(answer);
  };
  return (
    <Dialog title={props.q.title} close={() => finish(null)}>
      <Show when={props.q.text}>
        <p>{props.q.text}</p>
      </Show>
      <form
        class="stack"
        onSubmit={(e) => {
          e.preventDefault();
          if (!problem()) finish(value().trim());
        }}
      >
        <Show when={props.q.value !== undefined}>
          <label>
            <span class="label">{props.q.label ?? "Name"}</span>
            <input class="field" data-first value={value()} spellcheck={false} onInput={(e) => setValue(e.currentTarget.value)} onFocus={(e) => e.currentTarget.select()} />
          </label>
          <Show when={problem()}>
            <p class="error-text" role="alert">
              {problem()}
            </p>
          </Show>
        </Show>
        <div class="dialog-actions">
          <button class="button" type="button" onClick={() => finish(null)}>
            Cancel
          </button>
          <button class="button primary" classList={{danger: props.q.danger === true}} disabled={problem() !== ""}>
            {props.q.ok}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

export function Questions() {
  return (
    <Show when={question()} keyed>
      {(q) => <QuestionBox q={q} />}
    </Show>
  );
}
