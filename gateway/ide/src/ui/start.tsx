// SPDX-License-Identifier: Apache-2.0
/** The start page: begin something, or go on with it. */
import {createEffect, createResource, createSignal, For, on, Show} from "solid-js";
import {agoText} from "../core/bytes";
import {create, go, newName} from "../app";
import * as api from "../net/api";
import {words} from "../net/http";
import type {WorkspaceInfo} from "../net/wire";
import {readZip} from "../core/zip";
import {chooseFiles} from "../project/dropped";
import {STARTERS} from "../project/starters";
import {asGuest, register, signIn, signOut, useKey, who} from "../session";
import {setAccess, themeItems} from "./account";
import {ask} from "./dialog";
import {Icon, Mark} from "./icons";
import {openMenu} from "./menu";
import {progress, toast} from "./toast";

const KNOWN: {name: string; title: string}[] = [
  {name: "python", title: "Python"},
  {name: "node", title: "Node.js"},
  {name: "go", title: "Go"},
  {name: "rust", title: "Rust"},
];

type Way = "guest" | "account" | "key";

function SignIn() {
  const [way, setWay] = createSignal<Way>("guest");
  const [problem, setProblem] = createSignal("");
  const [busy, setBusy] = createSignal(false);
  const [key, setKey] = createSignal("");
  const [email, setEmail] = createSignal("");
  const [password, setPassword] = createSignal("");
  const attempt = async (what: () => Promise<void>) => {
    setProblem("");
    setBusy(true);
    try {
      await what();
    } catch (e) {
      setProblem(words(e));
    } finally {
      setBusy(false);
    }
  };
  const ways: {id: Way; title: string}[] = [
    {id: "guest", title: "Guest"},
    {id: "account", title: "Account"},
    {id: "key", title: "API key"},
  ];
  const step = (e: KeyboardEvent) => {
    const i = ways.findIndex((w) => w.id === way());
    const by = e.key === "ArrowRight" ? 1 : e.key === "ArrowLeft" ? 2 : 0;
    if (!by) return;
    e.preventDefault();
    setWay(ways[(i + by) % 3]!.id);
    (e.currentTarget as HTMLElement).querySelector<HTMLElement>('[aria-selected="true"]')?.focus();
  };
  return (
    <section class="card" aria-labelledby="enter-title">
      <h2 id="enter-title">Come in</h2>
      <p class="about">Your workspaces belong to whoever you are here.</p>
      <div class="switcher" role="tablist" aria-label="How to come in" onKeyDown={step}>
        <For each={ways}>
          {(w) => (
            <button role="tab" id={"way-" + w.id} aria-selected={way() === w.id} aria-controls="way-body" tabIndex={way() === w.id ? 0 : -1} onClick={() => (setWay(w.id), setProblem(""))}>
              {w.title}
            </button>
          )}
        </For>
      </div>
      <div role="tabpanel" id="way-body" aria-labelledby={"way-" + way()}>
        <Show when={way() === "guest"}>
          <div class="stack">
            <p class="who">No name, no password. What you make stays in this browser’s session until you take an account.</p>
            <button class="button primary" disabled={busy()} onClick={() => void attempt(asGuest)}>
              Go on as a guest
            </button>
          </div>
        </Show>
        <Show when={way() === "account"}>
          <form
            onSubmit={(e) => {
              e.preventDefault();
              const make = (e.submitter as HTMLButtonElement | null)?.value === "register";
              void attempt(() => (make ? register(email(), password()) : signIn(email(), password())));
            }}
          >
            <label>
              <span class="label">E-mail</span>
              <input class="field" type="email" required autocomplete="username" value={email()} onInput={(e) => setEmail(e.currentTarget.value)} />
            </label>
            <label>
              <span class="label">Password</span>
              <input class="field" type="password" required autocomplete="current-password" value={password()} onInput={(e) => setPassword(e.currentTarget.value)} />
            </label>
            <div class="line">
              <button class="button primary" value="login" disabled={busy()} style={{flex: 1}}>
                Sign in
              </button>
              <button class="button" value="register" disabled={busy()}>
                Make an account
              </button>
            </div>
          </form>
        </Show>
        <Show when={way() === "key"}>
          <form
            onSubmit={(e) => {
              e.preventDefault();
              void attempt(() => useKey(key().trim()));
            }}
          >
            <label>
              <span class="label">API key</span>
              <input class="field" id="api-key" type="password" required autocomplete="off" spellcheck={false} value={key()} onInput={(e) => setKey(e.currentTarget.value)} />
            </label>
            <p class="who">
              <code>./devbox env</code> prints it. It is kept in this tab only.
            </p>
            <button class="button primary" disabled={busy()}>
              Use this key
            </button>
          </form>
        </Show>
      </div>
      <Show when={problem()}>
        <p class="error-text" role="alert" style={{"margin-top": "12px"}}>
          {problem()}
        </p>
      </Show>
    </section>
  );
}

async function importZip(file: File): Promise<void> {
  if (file.size > 32 << 20) throw new Error("The archive is larger than 32 MB.");
  const files = await readZip(await file.arrayBuffer());
  if (!files.length) throw new Error("The archive holds no files.");
  const has = (name: string) => files.some((f) => f.path === name);
  const template = has("Cargo.toml") ? "rust" : has("go.mod") || files.some((f) => f.path.endsWith(".go")) ? "go" : has("package.json") ? "node" : "python";
  const w = await api.createWorkspace(file.name.replace(/\.zip$/i, "").slice(0, 100) || newName(), template);
  const bar = progress("Bringing in " + file.name);
  try {
    await api.upload(w.id, "", files.map((f) => ({path: f.path, data: new Blob([f.data as BlobPart])})), bar.set, bar.signal);
  } catch (e) {
    await api.deleteWorkspace(w.id).catch(() => undefined); // half a project is none
    throw e;
  } finally {
    bar.done();
  }
  go("/w/" + w.id);
}

export function Start() {
  const [busy, setBusy] = createSignal("");
  const [over, setOver] = createSignal(false);
  const inside = () => who().state === "in";
  const [recent, {refetch, mutate}] = createResource(inside, async (yes) => (yes ? (await api.workspaces()).sort((a, b) => b.updated - a.updated) : []));
  createEffect(on(inside, () => void refetch(), {defer: true}));

  const begin = async (template: string) => {
    setBusy(template);
    try {
      if (!inside()) await asGuest();
      await create(template);
    } catch (e) {
      toast(words(e), {bad: true});
    } finally {
      setBusy("");
    }
  };
  const bring = async (file: File | undefined) => {
    if (!file) return;
    setBusy("zip");
    try {
      if (!inside()) await asGuest();
      await importZip(file);
    } catch (e) {
      toast(words(e), {bad: true});
    } finally {
      setBusy("");
    }
  };
  const [link, setLink] = createSignal("");
  const copyFrom = async (e: SubmitEvent) => {
    e.preventDefault();
    setBusy("link");
    try {
      if (!inside()) await asGuest();
      const w = await api.forkWorkspace(await api.workspaceBy(link()));
      go("/w/" + w.id);
    } catch (error) {
      toast(words(error), {bad: true});
    } finally {
      setBusy("");
    }
  };
  const remove = async (w: WorkspaceInfo) => {
    const yes = await ask({title: "Delete “" + w.name + "”?", text: "All its files go, and what runs in it ends. This cannot be undone.", ok: "Delete", danger: true});
    if (yes === null) return;
    try {
      await api.deleteWorkspace(w.id);
      mutate((all) => all?.filter((x) => x.id !== w.id));
    } catch (e) {
      toast(words(e), {bad: true});
    }
  };
  const name = () => {
    const w = who();
    return w.state === "in" ? w.name : "";
  };

  return (
    <div class="start">
      <div class="start-inner">
        <header class="start-head">
          <span class="brand">
            <img src="/icon.svg" alt="" width="26" height="26" /> DevBox
          </span>
          <span class="push" />
          <button class="button" aria-haspopup="menu" onClick={(e) => openMenu("Theme", themeItems(), e.currentTarget)}>
            Theme
          </button>
          <Show when={inside()}>
            <span class="who">{name()}</span>
            <button class="button" aria-haspopup="dialog" onClick={() => setAccess(true)}>
              Keys
            </button>
            <button class="button" onClick={() => void signOut()}>
              Sign out
            </button>
          </Show>
        </header>
        <main>
          <h1>Write it, run it, watch it.</h1>
          <p class="lead">A workspace is a folder of files and a sandbox of its own. Pick a language: you are in the editor at once, and Run works.</p>
          <div class="templates">
            <For each={KNOWN}>
              {(t) => (
                <button class="template" data-template={t.name} disabled={busy() !== "" || who().state === "unknown"} onClick={() => void begin(t.name)}>
                  <Mark template={t.name} />
                  <span class="template-name">{t.title}</span>
                  <span class="template-about">{busy() === t.name ? "Making it…" : STARTERS[t.name]!.description}</span>
                </button>
              )}
            </For>
          </div>
          <div class="start-columns" classList={{two: who().state === "out"}}>
            <section aria-labelledby="recent-title">
              <h2 id="recent-title">Your workspaces</h2>
              <Show
                when={recent()?.length}
                fallback={
                  <div class="empty" style={{padding: "4px 0 12px"}}>
                    <span>{recent.loading ? "Looking…" : recent.error ? words(recent.error) : inside() ? "None yet. Pick a language above, or bring a zip." : "Come in to see them, or pick a language above."}</span>
                  </div>
                }
              >
                <ul class="recent">
                  <For each={recent()}>
                    {(w) => (
                      <li>
                        <a href={"/w/" + w.id} onClick={(e) => !(e.ctrlKey || e.metaKey) && (e.preventDefault(), go("/w/" + w.id))}>
                          <Mark template={w.template} small />
                          <span class="recent-name">{w.name}</span>
                          <span class="recent-when">{agoText(w.updated)}</span>
                        </a>
                        <button class="icon-button" aria-label={"Delete " + w.name} title="Delete" onClick={() => void remove(w)}>
                          <Icon name="trash" />
                        </button>
                      </li>
                    )}
                  </For>
                </ul>
              </Show>
              <div
                class="drop-target"
                classList={{over: over()}}
                onDragOver={(e) => (e.preventDefault(), setOver(true))}
                onDragLeave={() => setOver(false)}
                onDrop={(e) => {
                  e.preventDefault();
                  setOver(false);
                  void bring(e.dataTransfer?.files[0]);
                }}
              >
                <Icon name="upload" />
                <span>{busy() === "zip" ? "Bringing it in…" : "Drop a zip of a project here"}</span>
                <span class="push" />
                <button class="button" disabled={busy() !== ""} onClick={() => void chooseFiles({accept: ".zip"}).then((f) => bring(f[0]))}>
                  Choose a zip
                </button>
              </div>
              <form class="from-link" onSubmit={(e) => void copyFrom(e)}>
                <Icon name="link" />
                <input class="field" required aria-label="Link to a workspace that somebody shares" placeholder="Or paste a link to somebody’s workspace" spellcheck={false} autocomplete="off" value={link()} onInput={(e) => setLink(e.currentTarget.value)} />
                <button class="button" disabled={busy() !== ""}>
                  {busy() === "link" ? "Copying…" : "Copy it"}
                </button>
              </form>
            </section>
            <Show when={who().state === "out"}>
              <SignIn />
            </Show>
          </div>
        </main>
      </div>
    </div>
  );
}
