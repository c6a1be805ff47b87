// SPDX-License-Identifier: Apache-2.0
/** Packages: what is there, what the registry has, and installing in a terminal of its own. */
import {createEffect, createSignal, For, on, onCleanup, onMount, Show} from "solid-js";
import {execute} from "../core/commands";
import {words} from "../net/http";
import {installed, isName, managerOf, search, type Package} from "../project/packages";
import type {Project} from "../project/project";
import {focusOn} from "./focus";
import {Icon} from "./icons";

export const [packagesFocus, setPackagesFocus] = createSignal(0);
/** An installer has ended: what is there may be something else. */
export const [packagesChanged, setPackagesChanged] = createSignal(0);

export function PackagesView(props: {project: Project}) {
  let input!: HTMLInputElement;
  const project = props.project;
  const manager = managerOf(project);
  const [name, setName] = createSignal("");
  const [list, setList] = createSignal<Package[] | null>(null);
  const [found, setFound] = createSignal<Package[] | null>(null);
  const [asked, setAsked] = createSignal("");
  const [busy, setBusy] = createSignal(false);
  const [problem, setProblem] = createSignal("");
  let turn = 0;
  onCleanup(() => turn++);

  const refresh = () => {
    if (!manager || project.readOnly) return;
    installed(project).then(
      (l) => (setList(l), setProblem("")),
      (e: unknown) => setProblem(words(e)),
    );
  };
  onMount(refresh);
  createEffect(on(packagesChanged, refresh, {defer: true}));
  createEffect(on(packagesFocus, () => focusOn(() => input)));

  const look = async () => {
    const wanted = name().trim();
    const mine = ++turn;
    setFound(null);
    setAsked(wanted);
    if (!wanted) return;
    if (!isName(wanted)) return void setProblem("This cannot be the name of a package.");
    setProblem("");
    setBusy(true);
    try {
      const got = await search(project, wanted);
      if (mine === turn) setFound(got);
    } catch (e) {
      if (mine === turn) setProblem(words(e));
    } finally {
      if (mine === turn) setBusy(false);
    }
  };
  const sum = () => {
    if (problem()) return problem();
    if (busy()) return "Asking the registry…";
    if (found()?.length === 0) return "The registry has no package “" + asked() + "”.";
    return list() || !manager ? "" : "Asking " + manager.name + " what is there…";
  };
  const entry = (p: Package, there: boolean) => (
    <li class="package">
      <span class="package-name" title={p.about || p.name}>
        {p.name}
      </span>
      <span class="package-version">{p.version}</span>
      <Show
        when={there}
        fallback={
          <button class="button" disabled={project.readOnly} aria-label={"Install " + p.name} onClick={() => execute("packages.install", p.name)}>
            Install
          </button>
        }
      >
        <button class="icon-button" disabled={project.readOnly} aria-label={"Remove " + p.name} title={"Remove " + p.name} onClick={() => execute("packages.remove", p.name)}>
          <Icon name="trash" />
        </button>
      </Show>
      <Show when={!there && p.about}>
        <span class="package-about">{p.about}</span>
      </Show>
    </li>
  );

  return (
    <Show when={manager && !project.readOnly} fallback={<div class="empty">{manager ? "You may look at this workspace, not install into it." : "This template has no installer."}</div>}>
      <form class="search-form" role="search" onSubmit={(e) => (e.preventDefault(), void look())}>
        <div class="search-row">
          <input class="field" ref={input} placeholder={"Package, such as " + manager!.example} aria-label="Name of a package" spellcheck={false} autocapitalize="off" value={name()} onInput={(e) => setName(e.currentTarget.value)} />
          <button class="button" type="submit" disabled={busy()}>
            Find
          </button>
        </div>
      </form>
      <p class="search-sum" role="status">
        {sum()}
      </p>
      <div class="side-scroll">
        <Show when={found()?.length}>
          <h2 class="package-title">In the registry</h2>
          <ul class="packages" aria-label="In the registry">
            <For each={found()}>{(p) => entry(p, false)}</For>
          </ul>
        </Show>
        <Show when={list()}>
          <h2 class="package-title">Installed</h2>
          <Show when={list()!.length} fallback={<p class="search-sum">Nothing yet.</p>}>
            <ul class="packages" aria-label="Installed">
              <For each={list()}>{(p) => entry(p, true)}</For>
            </ul>
          </Show>
        </Show>
      </div>
    </Show>
  );
}
