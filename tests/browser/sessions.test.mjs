// SPDX-License-Identifier: Apache-2.0
// Sessions in a real browser: the cookies it takes on plain loopback, the CSRF token, and coming by a link.
import assert from "node:assert/strict";
import {test} from "node:test";
import {launch, open, url} from "./browser.mjs";

// A call of the page itself, with its cookies.
const ask = (page, method, path, body, csrf) =>
  page.evaluate(
    async ([method, path, body, csrf]) => {
      const headers = {"Content-Type": "application/json", ...(csrf && {"X-CSRF-Token": csrf})};
      const r = await fetch(path, {method, headers, ...(body && {body: JSON.stringify(body)})});
      return {status: r.status, body: await r.json().catch(() => null)};
    },
    [method, path, body, csrf],
  );

test("a guest's session, and a friend who comes by his link", async (t) => {
  const browser = await launch();
  t.after(() => browser.close());
  const page = await open(browser);
  await page.goto(url);
  const guest = await ask(page, "POST", "/api/auth/guest", {});
  assert.equal(guest.status, 201);
  const cookies = await page.context().cookies();
  const host = cookies.find((c) => c.name === "__Host-devbox");
  assert.ok(host?.secure && host.httpOnly && host.sameSite === "Lax", "Chromium keeps a Secure cookie of plain loopback");
  assert.equal(await page.evaluate(() => document.cookie), "", "no script reads them");
  await page.context().clearCookies({name: "devbox"});
  const me = await ask(page, "GET", "/api/me");
  assert.equal(me.status, 200, "the prefixed one is sent, alone");
  const made = {name: "shared", template: "python"};
  assert.equal((await ask(page, "POST", "/api/workspaces", made)).body.error.code, "csrf");
  const w = await ask(page, "POST", "/api/workspaces", made, me.body.csrf_token);
  assert.equal(w.status, 201);
  const link = await ask(page, "POST", `/api/workspaces/${w.body.id}/links`, {role: "viewer"}, me.body.csrf_token);
  assert.equal(link.status, 201);

  const friend = await open(browser);
  await friend.goto(link.body.url);
  assert.equal(new URL(friend.url()).pathname, "/w/" + w.body.id);
  const he = await ask(friend, "GET", "/api/me");
  assert.ok(he.body.guest && he.body.id !== me.body.id);
  assert.equal((await ask(friend, "GET", "/api/workspaces/" + w.body.id)).body.role, "viewer");
  const write = await ask(friend, "POST", `/api/workspaces/${w.body.id}/files`, {path: "x", content: ""}, he.body.csrf_token);
  assert.equal(write.status, 403);
  assert.equal(write.body.error.code, "forbidden");

  const account = await ask(page, "POST", "/api/auth/register", {email: `b${Date.now()}@example.org`, password: "correct horse"}, me.body.csrf_token);
  assert.equal(account.status, 201);
  assert.equal((await ask(page, "GET", "/api/workspaces/" + w.body.id)).body.role, "owner", "what the guest made is kept");
});
