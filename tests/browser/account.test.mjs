// SPDX-License-Identifier: Apache-2.0
// Keys and sessions: made, used, taken back by whoever they belong to.
import assert from "node:assert/strict";
import {after, before, test} from "node:test";
import {launch, open} from "./browser.mjs";
import {editor, eventually, url, workspaceWith} from "./story.mjs";

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

async function person(t) {
  const page = await open(browser);
  page.setDefaultTimeout(60_000);
  t.after(async () => {
    await page.context().close();
    assert.deepEqual(page.complaints, []);
  });
  await page.goto(url);
  await page.getByRole("tab", {name: "Account"}).click();
  return page;
}

const PASSWORD = "correct horse battery staple";
async function enter(page, email, button) {
  await page.getByLabel("E-mail").fill(email);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", {name: button}).click();
  await page.getByText(email).waitFor();
}

// What a program with this key is told.
const withKey = async (key, method, path) => (await fetch(url + path, {method, headers: {Authorization: "Bearer " + key}})).status;

test("a key: made for reading, shown once, used, revoked; a second browser's session is ended", async (t) => {
  const page = await person(t);
  const email = `keys-${Date.now()}@example.org`;
  await enter(page, email, "Make an account");
  await page.getByRole("button", {name: "Keys"}).click();
  const dialog = page.getByRole("dialog", {name: "API keys and sessions"});
  await dialog.getByText("No keys yet.").waitFor();
  await dialog.getByLabel("What the key is for").fill("nightly <b>job</b>");
  await dialog.getByLabel("How long the key is good").selectOption("7");
  await dialog.getByLabel("change files").uncheck();
  await dialog.getByLabel("run programs").uncheck();
  await dialog.getByRole("button", {name: "Make a key"}).click();
  const secret = await dialog.getByLabel("The new key").inputValue();
  await dialog.getByRole("button", {name: "Copy"}).click();
  await eventually("it is copied", async () => (await page.evaluate(() => navigator.clipboard.readText())) === secret);
  const listed = dialog.getByRole("list", {name: "API keys"}).getByRole("listitem");
  await listed.getByText("nightly <b>job</b>").waitFor();
  assert.match(await listed.first().textContent(), /read · never used · until /);
  assert.equal(await withKey(secret, "GET", "/api/workspaces"), 200);
  assert.equal(await withKey(secret, "POST", "/api/workspaces"), 403);

  const other = await person(t);
  await enter(other, email, "Sign in");
  await page.keyboard.press("Escape");
  await page.getByRole("button", {name: "Keys"}).click();
  await listed.getByText("nightly <b>job</b>").waitFor();
  assert.equal(await dialog.getByLabel("The new key").count(), 0, "shown this once");
  await dialog.getByRole("button", {name: /^Revoke nightly/}).click();
  await dialog.getByRole("button", {name: /^Really: Revoke nightly/}).click();
  await dialog.getByText("No keys yet.").waitFor();
  assert.equal(await withKey(secret, "GET", "/api/workspaces"), 401);

  await dialog.getByText("Another browser").waitFor();
  await dialog.getByRole("button", {name: /^End the session/}).click();
  await dialog.getByRole("button", {name: /^Really: End/}).click();
  await dialog.getByText("Another browser").waitFor({state: "detached"});
  await other.reload();
  await other.getByRole("heading", {name: "Come in"}).waitFor();
  await dialog.getByRole("button", {name: "Sign out here"}).click();
  await dialog.getByRole("button", {name: /^Really: Sign out/}).click();
  await page.getByRole("heading", {name: "Come in"}).waitFor();
});

test("keys are reached from a workspace: by the palette, and by the account's menu", async (t) => {
  const {page} = await workspaceWith(t, {"main.py": "1\n"});
  await editor(page);
  await page.keyboard.press("F1");
  await page.keyboard.type("api keys");
  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog", {name: "API keys and sessions"});
  await dialog.getByRole("list", {name: "API keys"}).waitFor();
  await page.keyboard.press("Escape");
  await dialog.waitFor({state: "detached"});
  await page.getByRole("button", {name: /^Account/}).click();
  await page.getByRole("menuitem", {name: "API keys and sessions"}).click();
  await dialog.waitFor();
});
