// SPDX-License-Identifier: Apache-2.0
/** Who else may see or change a workspace. */
import {createSignal, For, onMount, Show} from "solid-js";
import * as api from "../net/api";
import {CallError, words} from "../net/http";
import type {Sharing} from "../net/wire";
import type {Project} from "../project/project";
import {copy} from "./copy";
import {Dialog} from "./dialog";
import {Icon} from "./icons";

export const [sharing, setSharing] = createSignal<Project | null>(null);

const MODES: {mode: Sharing; title: string; about: string}[] = [
  {mode: "private", title: "Private", about: "You, the people below, and whoever has one of your links"},
  {mode: "view", title: "Whoever has the address may look", about: "They see files and live output; they change and run nothing"},
  {mode: "edit", title: "Whoever has the address may edit", about: "They change files and run programs"},
];

function Box(props: {project: Project}) {
  const address = () => location.origin + "/w/" + props.project.id;
  const [problem, setProblem] = createSignal("");
  const [people, setPeople] = createSignal<api.Member[]>([]);
  const [links, setLinks] = createSignal<api.ShareLink[]>([]);
  const [email, setEmail] = createSignal("");
  const [role, setRole] = createSignal("editor");
  const [linkRole, setLinkRole] = createSignal("viewer");
  const attempt = async (what: () => Promise<void>) => {
    setProblem("");
    try {
      await what();
    } catch (e) {
      setProblem(e instanceof CallError && e.isMissing ? "This server cannot do that yet. The setting above works." : words(e));
    }
  };
  onMount(() => {
    if (props.project.info().role !== "owner") return;
    void attempt(async () => void setPeople(await api.members(props.project.id)));
    void attempt(async () => void setLinks(await api.links(props.project.id)));
  });
  const Roles = (p: {value: string; change: (role: string) => void; label: string}) => (
    <select class="field" aria-label={p.label} value={p.value} onChange={(e) => p.change(e.currentTarget.value)}>
      <option value="viewer">may look</option>
      <option value="editor">may edit</option>
    </select>
  );
  return (
    <Dialog title={"Share “" + props.project.info().name + "”"} close={() => setSharing(null)}>
      <section>
        <div class="line">
          <input class="field" readonly value={address()} aria-label="Address of this workspace" onFocus={(e) => e.currentTarget.select()} />
          <button class="button primary" data-first onClick={() => void copy(address())}>
            <Icon name="link" /> Copy
          </button>
        </div>
        <div role="radiogroup" aria-label="Who may open the address" style={{"margin-top": "12px"}}>
          <For each={MODES}>
            {(m) => (
              <label class="choice">
                <input type="radio" name="mode" checked={props.project.info().sharing === m.mode} disabled={props.project.info().role !== "owner"} onChange={() => void attempt(async () => void props.project.setInfo(await api.changeWorkspace(props.project.id, {sharing_mode: m.mode})))} />
                <span>
                  {m.title}
                  <small>{m.about}</small>
                </span>
              </label>
            )}
          </For>
        </div>
      </section>
      <Show when={props.project.info().role === "owner"}>
        <section>
          <span class="label">People</span>
          <form
            class="line"
            onSubmit={(e) => {
              e.preventDefault();
              void attempt(async () => {
                await api.addMember(props.project.id, email(), role());
                setEmail("");
                setPeople(await api.members(props.project.id));
              });
            }}
          >
            <input class="field" type="email" required placeholder="name@example.org" aria-label="E-mail address of a person" value={email()} onInput={(e) => setEmail(e.currentTarget.value)} />
            <Roles value={role()} change={setRole} label="What this person may do" />
            <button class="button">Add</button>
          </form>
          <ul>
            <For each={people()}>
              {(p) => (
                <li class="line" style={{"margin-top": "8px"}}>
                  <span>{p.email}</span>
                  <span class="push" />
                  <span class="who">{(p.role === "viewer" ? "may look" : "may edit") + (p.pending ? ", no account yet: add again then" : p.verified ? "" : ", address not proven")}</span>
                  <button class="icon-button" aria-label={"Remove " + p.email} onClick={() => void attempt(async () => (await api.removeMember(props.project.id, p.email), void setPeople(people().filter((x) => x !== p))))}>
                    <Icon name="trash" />
                  </button>
                </li>
              )}
            </For>
          </ul>
        </section>
        <section>
          <span class="label">Links that can be taken back</span>
          <div class="line">
            <Roles value={linkRole()} change={setLinkRole} label="What the link lets people do" />
            <button class="button" onClick={() => void attempt(async () => void setLinks([...links(), await api.createLink(props.project.id, linkRole())]))}>
              <Icon name="plus" /> New link
            </button>
          </div>
          <ul>
            <For each={links()}>
              {(l) => (
                <li class="line" style={{"margin-top": "8px"}}>
                  <input class="field" readonly value={l.url} aria-label={"Link: " + (l.role === "viewer" ? "may look" : "may edit")} />
                  <button class="button" onClick={() => void copy(l.url)}>
                    Copy
                  </button>
                  <button class="icon-button" aria-label="Take this link back" onClick={() => void attempt(async () => (await api.deleteLink(props.project.id, l.id), void setLinks(links().filter((x) => x !== l))))}>
                    <Icon name="trash" />
                  </button>
                </li>
              )}
            </For>
          </ul>
        </section>
      </Show>
      <Show when={problem()}>
        <p class="error-text" role="alert">
          {problem()}
        </p>
      </Show>
    </Dialog>
  );
}

export function Share() {
  return (
    <Show when={sharing()} keyed>
      {(p) => <Box project={p} />}
    </Show>
  );
}
