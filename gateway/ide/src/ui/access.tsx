// SPDX-License-Identifier: Apache-2.0
/** Keys for programs, and the browsers that are signed in. */
import {createSignal, For, onMount, Show} from "solid-js";
import {go} from "../app";
import {agoText} from "../core/bytes";
import * as account from "../net/account";
import {words} from "../net/http";
import {signOut, who} from "../session";
import {copy} from "./copy";
import {Dialog} from "./dialog";
import {Icon} from "./icons";

const ABOUT: Record<account.Scope, string> = {
  read: "see files and output",
  write: "change files",
  run: "run programs",
  account: "keys, sessions, sharing",
  admin: "administer this server",
};
const LIVES = [
  {days: 0, title: "until revoked"},
  {days: 7, title: "for 7 days"},
  {days: 30, title: "for 30 days"},
  {days: 365, title: "for a year"},
];
const date = (ms: number): string => new Date(ms).toLocaleDateString(undefined, {dateStyle: "medium"});

/** Asks once more before it does something that cannot be undone. */
function Twice(props: {label: string; title: string; run: () => void}) {
  const [sure, setSure] = createSignal(false);
  return (
    <button class="button" classList={{danger: sure()}} aria-label={(sure() ? "Really: " : "") + props.label} onBlur={() => setSure(false)} onClick={() => (sure() ? props.run() : setSure(true))}>
      {sure() ? "Really?" : props.title}
    </button>
  );
}

function NewKey(props: {scopes: account.Scope[]; make: (label: string, scopes: account.Scope[], days: number) => Promise<boolean>}) {
  const [label, setLabel] = createSignal("");
  const [days, setDays] = createSignal(30);
  const [off, setOff] = createSignal<account.Scope[]>(["account", "admin"]);
  const chosen = () => props.scopes.filter((s) => !off().includes(s));
  return (
    <form
      class="stack"
      onSubmit={(e) => {
        e.preventDefault();
        void props.make(label().trim(), chosen(), days()).then((made) => made && setLabel(""));
      }}
    >
      <div class="line">
        <input class="field" data-first required maxLength={100} placeholder="What it is for" aria-label="What the key is for" value={label()} onInput={(e) => setLabel(e.currentTarget.value)} />
        <select class="field" aria-label="How long the key is good" value={days()} onChange={(e) => setDays(Number(e.currentTarget.value))}>
          <For each={LIVES}>{(l) => <option value={l.days}>{l.title}</option>}</For>
        </select>
        <button class="button primary" disabled={!chosen().length}>
          Make a key
        </button>
      </div>
      <fieldset class="scopes">
        <legend class="label">It may</legend>
        <For each={props.scopes}>
          {(s) => (
            <label title={s}>
              <input type="checkbox" checked={!off().includes(s)} onChange={(e) => setOff(e.currentTarget.checked ? off().filter((x) => x !== s) : [...off(), s])} /> {ABOUT[s]}
            </label>
          )}
        </For>
      </fieldset>
    </form>
  );
}

export default function Access(props: {close: () => void}) {
  const [problem, setProblem] = createSignal("");
  const [scopes, setScopes] = createSignal<account.Scope[]>([]);
  const [keys, setKeys] = createSignal<account.Key[]>([]);
  const [sessions, setSessions] = createSignal<account.Session[]>([]);
  const [secret, setSecret] = createSignal("");
  const attempt = async (what: () => Promise<void>): Promise<boolean> => {
    setProblem("");
    try {
      await what();
      return true;
    } catch (e) {
      setProblem(words(e));
      return false;
    }
  };
  const leave = async () => {
    props.close();
    await signOut();
    go("/");
  };
  onMount(() => {
    void attempt(async () => void setScopes(await account.myScopes()));
    void attempt(async () => void setKeys(await account.keys()));
    void attempt(async () => void setSessions(await account.sessions()));
  });
  const make = (label: string, may: account.Scope[], days: number) =>
    attempt(async () => {
      const made = await account.createKey(label, may, days);
      setSecret(made.secret);
      setKeys([made.key, ...keys()]);
    });
  const life = (k: account.Key) => [k.scopes.join(", "), k.used ? "used " + agoText(k.used) : "never used", k.expires ? "until " + date(k.expires) : ""].filter(Boolean).join(" · ");
  const byKey = () => {
    const w = who();
    return w.state === "in" && w.byKey;
  };
  return (
    <Dialog title="API keys and sessions" class="wide" close={props.close}>
      <section aria-labelledby="keys-title">
        <h3 id="keys-title">API keys</h3>
        <p>For programs, and for the command line. Whoever has a key is you, as far as it may go.</p>
        <NewKey scopes={scopes()} make={make} />
        <Show when={secret()}>
          <div class="secret" role="status">
            <span>This is the key. It is shown this once: keep it now.</span>
            <div class="line">
              <input class="field" readonly value={secret()} aria-label="The new key" onFocus={(e) => e.currentTarget.select()} />
              <button class="button primary" onClick={() => void copy(secret())}>
                Copy
              </button>
              <button class="icon-button" aria-label="Hide the key" onClick={() => setSecret("")}>
                <Icon name="close" />
              </button>
            </div>
          </div>
        </Show>
        <ul class="access-list" aria-label="API keys">
          <For each={keys()} fallback={<li class="who">No keys yet.</li>}>
            {(k) => (
              <li class="line">
                <span class="access-what">
                  <b>{k.label || "no name"}</b>{" "}
                  <Show when={k.hint}>
                    <code>{k.hint}…</code>
                  </Show>
                  <small>{life(k)}</small>
                </span>
                <Twice title="Revoke" label={"Revoke " + (k.label || k.hint)} run={() => void attempt(async () => (await account.deleteKey(k.id), void setKeys(keys().filter((x) => x !== k))))} />
              </li>
            )}
          </For>
        </ul>
      </section>
      <section aria-labelledby="sessions-title">
        <h3 id="sessions-title">Signed in</h3>
        <ul class="access-list" aria-label="Sessions">
          <For each={sessions()} fallback={<li class="who">{byKey() ? "No browser is: this page uses a key." : "No browser is."}</li>}>
            {(s) => (
              <li class="line">
                <span class="access-what">
                  <b>{s.current ? "This browser" : "Another browser"}</b>
                  <small>{[s.created ? "since " + date(s.created) : "", s.used ? "used " + agoText(s.used) : ""].filter(Boolean).join(" · ")}</small>
                </span>
                <Twice
                  title={s.current ? "Sign out" : "End"}
                  label={s.current ? "Sign out here" : "End the session used " + agoText(s.used)}
                  run={() => void (s.current ? leave() : attempt(async () => (await account.deleteSession(s.id), void setSessions(sessions().filter((x) => x !== s)))))}
                />
              </li>
            )}
          </For>
        </ul>
      </section>
      <Show when={problem()}>
        <p class="error-text" role="alert">
          {problem()}
        </p>
      </Show>
    </Dialog>
  );
}
