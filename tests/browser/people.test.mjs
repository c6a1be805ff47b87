// SPDX-License-Identifier: Apache-2.0
// Guests, accounts, and what is shared with them.
import assert from "node:assert/strict";
import {after, before, test} from "node:test";
import {launch, open} from "./browser.mjs";
import {api, editor, eventually, row, saved, says, type, url, verdict, workspaceWith} from "./story.mjs";

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

// Somebody of their own: another context, with no key.
async function person(t) {
  const page = await open(browser);
  page.setDefaultTimeout(60_000);
  t.after(async () => {
    await page.context().close();
    assert.deepEqual(page.complaints, []);
  });
  return page;
}

test("a guest is in the editor with one click, and still there after a reload", async (t) => {
  const page = await person(t);
  await page.goto(url);
  await page.locator("[data-template=python]:enabled").click();
  await editor(page);
  await type(page, 'print("by a guest")');
  await page.keyboard.press("Control+Enter");
  await says(page, "by a guest");
  await verdict(page, "Finished");
  await page.reload();
  await editor(page);
  await says(page, "by a guest");
  await page.getByRole("link", {name: "All workspaces"}).click();
  await page.locator(".recent li").first().waitFor();
  await page.getByRole("button", {name: "Sign out"}).click();
  await page.getByRole("heading", {name: "Come in"}).waitFor();
});

test("an account: made, left, and come back to", async (t) => {
  const page = await person(t);
  const email = `ide-${Date.now()}@example.org`;
  await page.goto(url);
  await page.getByRole("tab", {name: "Account"}).click();
  await page.getByLabel("E-mail").fill(email);
  await page.getByLabel("Password").fill("correct horse battery staple");
  await page.getByRole("button", {name: "Make an account"}).click();
  await page.getByText(email).waitFor();
  await page.getByRole("button", {name: "Sign out"}).click();
  await page.getByRole("tab", {name: "Account"}).click();
  await page.getByLabel("E-mail").fill(email);
  await page.getByLabel("Password").fill("wrong horse battery staple");
  await page.getByRole("button", {name: "Sign in"}).click();
  await page.locator(".card .error-text").waitFor();
  await page.getByLabel("Password").fill("correct horse battery staple");
  await page.getByRole("button", {name: "Sign in"}).click();
  await page.getByText(email).waitFor();
});

test("a link shows files and lets nothing be changed; the owner's changes appear", async (t) => {
  const {page} = await workspaceWith(t, {"main.py": "print('shared')\n"});
  await editor(page);
  await page.getByRole("button", {name: /^Share/}).click();
  await page.getByRole("button", {name: "New link"}).click();
  const link = await page.getByLabel("Link: may look").inputValue();
  await page.keyboard.press("Escape");
  const viewer = await person(t);
  await viewer.goto(link);
  await editor(viewer);
  await viewer.locator(".view-lines").getByText("shared").waitFor();
  await viewer.locator(".head").getByText("view only").waitFor();
  assert.ok(await viewer.getByRole("button", {name: "Run", exact: true}).isDisabled());
  assert.equal(await viewer.getByRole("button", {name: "New file"}).count(), 0);
  await viewer.locator(".view-lines").click();
  await viewer.keyboard.type("hacked");
  await viewer.locator(".view-lines").getByText("hacked").waitFor({state: "hidden"});
  await type(page, "print('changed by the owner')\n");
  await saved(page);
  await viewer.locator(".view-lines").getByText("changed by the owner").waitFor();
  // A copy of one's own may be changed.
  await viewer.keyboard.press("F1");
  await viewer.keyboard.type("copy of my own");
  await viewer.keyboard.press("Enter");
  await viewer.getByText("This is your copy.").waitFor();
  await eventually("it may be run", () => viewer.getByRole("button", {name: "Run", exact: true}).isEnabled());
  await row(viewer, "main.py").waitFor();
});

test("an address that is not shared is not there", async (t) => {
  const {page} = await workspaceWith(t, {"main.py": "1"});
  const stranger = await person(t);
  await stranger.goto(page.url());
  await stranger.getByRole("heading", {name: "Come in"}).waitFor();
  await stranger.getByRole("button", {name: "Go on as a guest"}).click();
  await stranger.getByText("There is no such workspace, or it is not shared with you.").waitFor();
});

test("a link: its page when it is taken back, and a copy from it on the start page", async (t) => {
  const {page, id} = await workspaceWith(t, {"main.py": "print('shared')\n"}, {name: "to copy"});
  const link = await api("POST", `/api/workspaces/${id}/links`, {role: "viewer"});
  const other = await person(t);
  await other.goto(url);
  const field = other.getByLabel("Link to a workspace that somebody shares");
  await field.fill("what is this");
  await other.getByRole("button", {name: "Copy it"}).click();
  await other.getByText("This is no link to a workspace").waitFor();
  await field.fill(url + "/s/" + link.slug);
  await other.getByRole("button", {name: "Copy it"}).click();
  await editor(other);
  await other.locator(".view-lines").getByText("shared").waitFor();
  assert.notEqual(new URL(other.url()).pathname, "/w/" + id);
  await eventually("it is his own", () => other.getByRole("button", {name: "Run", exact: true}).isEnabled());
  await api("DELETE", `/api/workspaces/${id}/links/${link.id}`);
  const late = await person(t);
  const answer = await late.goto(url + "/s/" + link.slug);
  assert.equal(answer.status(), 404);
  await late.getByRole("heading", {name: "This link leads nowhere"}).waitFor();
  await late.getByRole("button", {name: "To the start page"}).click();
  await late.locator("[data-template=python]:enabled").waitFor();
  assert.ok(await page.locator(".head").isVisible());
});

test("another password by an administrator's link, once", async (t) => {
  const email = `lost-${Date.now()}@example.org`;
  await fetch(url + "/api/auth/register", {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({email, password: "forgotten long ago"})});
  const user = (await api("GET", "/api/users?email=" + encodeURIComponent(email))).items.find((u) => u.email === email);
  const {token} = await api("POST", `/api/users/${user.id}/recovery`);
  const page = await person(t);
  await page.goto(url + "/recover#" + token);
  await page.getByRole("heading", {name: "Choose another password"}).waitFor();
  assert.equal(new URL(page.url()).hash, "", "the token does not stay in the address");
  await page.getByLabel(/New password/).fill("remembered this time");
  await page.getByRole("button", {name: "Change it"}).click();
  await page.getByText("Your password is another one now").waitFor();
  await page.getByText(email).waitFor();
  await page.reload();
  await page.getByText(email).waitFor();
  const again = await person(t);
  await again.goto(url + "/recover#" + token);
  await again.getByLabel(/New password/).fill("somebody else's");
  await again.getByRole("button", {name: "Change it"}).click();
  await again.getByText("this link was used, has expired, or never was").waitFor();
  await again.goto(url + "/recover");
  await again.reload();
  await again.getByText("This address is not whole.").waitFor();
});

test("taking a share back ends what the other one sees; a changed role changes what he may do", async (t) => {
  const {page, id} = await workspaceWith(t, {"main.py": "1\n"});
  await api("PUT", "/api/workspaces/" + id, {sharing_mode: "view"});
  const other = await person(t);
  await other.goto(url);
  await other.getByRole("button", {name: "Go on as a guest"}).click();
  await other.getByRole("button", {name: "Sign out"}).waitFor();
  await other.goto(page.url());
  await editor(other);
  await other.locator(".head").getByText("view only").waitFor();
  await api("PUT", "/api/workspaces/" + id, {sharing_mode: "edit"});
  await other.locator(".head").getByText("view only").waitFor({state: "detached"});
  await eventually("Run works", () => other.getByRole("button", {name: "Run", exact: true}).isEnabled());
  await api("PUT", "/api/workspaces/" + id, {sharing_mode: "private"});
  await other.getByText("This workspace is not shared with you any more").waitFor();
});
