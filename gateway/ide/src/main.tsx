// SPDX-License-Identifier: Apache-2.0
/** Begins: who is here, what the address asks for, and the parts that are always there. */
import "@fontsource-variable/inter/wght.css";
import "@fontsource-variable/jetbrains-mono/wght.css";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/start.css";
import "./styles/shell.css";
import "./styles/tree.css";
import "./styles/editor.css";
import "./styles/panel.css";
import "./styles/overlays.css";
import {createEffect, lazy, Match, Show, Switch, untrack} from "solid-js";
import {render} from "solid-js/web";
import {dispatch} from "./core/commands";
import {failure, go, project, route, show} from "./app";
import {words} from "./net/http";
import * as ahead from "./project/ahead";
import {resume, who} from "./session";
import {applyTheme} from "./settings";
import "./commands/editor";
import "./commands/files";
import "./commands/packages";
import "./commands/run";
import "./commands/shell";
import {Questions} from "./ui/dialog";
import {access, setAccess} from "./ui/account";
import {editorPort, loadEditor} from "./ui/editors";
import {Help} from "./ui/help";
import {Menus} from "./ui/menu";
import {Palette} from "./ui/palette";
import {Share} from "./ui/share";
import {Shell} from "./ui/shell";
import {Start} from "./ui/start";
import {toast, Toasts} from "./ui/toast";

const Recover = lazy(() => import("./ui/recover"));
const Access = lazy(() => import("./ui/access"));

applyTheme();

function Waiting() {
  return (
    <div class="nothing-open" style={{position: "fixed"}}>
      <Show when={failure()} fallback={<img src="/icon.svg" alt="Opening the workspace" width="56" height="56" />}>
        <p role="alert">{failure()}</p>
        <button class="button" onClick={() => go("/")}>
          All workspaces
        </button>
      </Show>
    </div>
  );
}

function BadLink() {
  return (
    <main class="nothing-open" style={{position: "fixed"}}>
      <img src="/icon.svg" alt="" width="56" height="56" />
      <h1>This link leads nowhere</h1>
      <p>It was taken back, it has run out, or a part of it is missing. Ask whoever gave it to you for another one.</p>
      <button class="button primary" onClick={() => go("/")}>
        To the start page
      </button>
    </main>
  );
}

function App() {
  createEffect(() => {
    const port = editorPort();
    const p = project();
    if (port && p) port.setProblems(p.run.problems());
  });
  createEffect(() => {
    const port = editorPort();
    const p = project();
    if (port && p) port.onEdit.on((d) => p.layout.keep(d.id));
  });
  return (
    <>
      <Switch fallback={<Start />}>
        <Match when={route().page === "recover"}>
          <Recover />
        </Match>
        <Match when={route().page === "link"}>
          <BadLink />
        </Match>
        <Match when={who().state === "out"}>
          <Start />
        </Match>
        <Match when={project()} keyed>
          {(p) => <Shell project={p} />}
        </Match>
        <Match when={route().page === "workspace"}>
          <Waiting />
        </Match>
      </Switch>
      <Palette />
      <Share />
      <Show when={access() && who().state === "in"}>
        <Access close={() => setAccess(false)} />
      </Show>
      <Help />
      <Questions />
      <Menus />
      <Toasts />
    </>
  );
}

addEventListener("keydown", (e) => !document.querySelector("dialog[open]") && dispatch(e), true);
addEventListener("dragover", (e) => e.preventDefault());
addEventListener("drop", (e) => e.preventDefault());

const root = document.getElementById("app")!;
root.textContent = "";
render(() => <App />, root);

// Monaco is on its way while the rest is asked for.
const at = untrack(route);
if (at.page === "start" || at.page === "workspace") void loadEditor();
const begun = resume();
if (at.page === "workspace") ahead.ask(at.id);
begun.catch((e: unknown) => {
  toast(words(e), {bad: true});
  setTimeout(() => location.reload(), 5000);
});
// Whoever comes in at the address of a workspace goes on there.
let inside = false;
createEffect(() => {
  const now = who().state === "in";
  if (now && !inside && untrack(route).page === "workspace") untrack(show);
  inside = now;
});
