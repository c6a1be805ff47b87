// SPDX-License-Identifier: Apache-2.0
/** Another password, by an administrator's link. Its token stands behind the "#", which no server and no log sees, and leaves the address
 *  as soon as it has been read. */
import {createSignal, Show} from "solid-js";
import {go, route} from "../app";
import {words} from "../net/http";
import {recover} from "../session";
import {toast} from "./toast";

const MIN = 8;

export default function Recover() {
  const r = route();
  const token = r.page === "recover" ? r.token : "";
  if (location.hash) history.replaceState(null, "", "/recover");
  const [password, setPassword] = createSignal("");
  const [shown, setShown] = createSignal(false);
  const [problem, setProblem] = createSignal("");
  const [busy, setBusy] = createSignal(false);
  const change = async (e: SubmitEvent) => {
    e.preventDefault();
    setProblem("");
    setBusy(true);
    try {
      await recover(token, password());
      go("/", true);
      toast("Your password is another one now; other browsers were signed out.");
    } catch (error) {
      setProblem(words(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <div class="start">
      <main class="recover">
        <img src="/icon.svg" alt="" width="40" height="40" />
        <section class="card" aria-labelledby="recover-title">
          <h1 id="recover-title">Choose another password</h1>
          <Show
            when={token}
            fallback={
              <div class="stack">
                <p class="who">This address is not whole. Open the link again as you were given it, or ask an administrator for another one.</p>
                <button class="button primary" onClick={() => go("/", true)}>
                  To the start page
                </button>
              </div>
            }
          >
            <p class="about">The link is good for one change. You are signed in with it, and signed out everywhere else.</p>
            <form onSubmit={(e) => void change(e)}>
              <label>
                <span class="label">New password, at least {MIN} characters</span>
                <input class="field" type={shown() ? "text" : "password"} required minlength={MIN} maxlength={1024} autocomplete="new-password" value={password()} onInput={(e) => setPassword(e.currentTarget.value)} />
              </label>
              <label class="line">
                <input type="checkbox" checked={shown()} onChange={(e) => setShown(e.currentTarget.checked)} /> Show it
              </label>
              <button class="button primary" disabled={busy()}>
                Change it
              </button>
            </form>
            <Show when={problem()}>
              <p class="error-text" role="alert" style={{"margin-top": "12px"}}>
                {problem()}
              </p>
            </Show>
          </Show>
        </section>
      </main>
    </div>
  );
}
