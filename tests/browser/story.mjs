// SPDX-License-Identifier: Apache-2.0
// What stories have in common: a browser, a page in a new workspace, and words for what a person does and sees.
import assert from "node:assert/strict";
import {after, before} from "node:test";
import {api, key, launch, open, signIn, url} from "./browser.mjs";

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

// A page with the start page on it, whose owner has come in.
export async function start(t, options) {
  const page = await open(browser, options);
  page.setDefaultTimeout(60_000);
  t.after(async () => {
    if (process.env.DEVBOX_SHOTS) await page.screenshot({path: process.env.DEVBOX_SHOTS + "/" + t.name.replace(/\W+/g, "-") + ".png"}).catch(() => {});
    await page.context().close();
    assert.deepEqual(page.complaints, [], "the page complained");
  });
  await signIn(page);
  await page.waitForSelector("[data-template=python]:enabled");
  return page;
}

export async function enter(page) {
  await page.goto(url);
  await page.getByRole("tab", {name: "API key"}).click();
  await page.fill("#api-key", key);
  await page.getByRole("button", {name: "Use this key"}).click();
}

// A new workspace of a template, with the editor painted.
export async function workspace(t, template = "python", options) {
  const page = await start(t, options);
  await page.click(`[data-template=${template}]`);
  await editor(page);
  const id = new URL(page.url()).pathname.split("/")[2];
  t.after(() => api("DELETE", "/api/workspaces/" + id).catch(() => {}));
  return {page, id};
}

// A workspace with files of the test's own.
export async function workspaceWith(t, files, options = {}) {
  const {template = "python", ...rest} = options;
  const w = await api("POST", "/api/workspaces", {name: options.name ?? "test", template});
  delete rest.name;
  t.after(() => api("DELETE", "/api/workspaces/" + w.id).catch(() => {}));
  for (const [path, content] of Object.entries(files)) await api("POST", `/api/workspaces/${w.id}/files`, {path, content});
  const page = await start(t, rest);
  await page.goto(url + "/w/" + w.id);
  await page.waitForSelector("[role=tree], .empty");
  return {page, id: w.id};
}

export const editor = (page) => page.waitForSelector(".monaco-editor .view-lines .view-line");

// What the editor in front shows, as its model has it: asked of the server after a save.
export async function content(id, path) {
  const entry = (await api("GET", `/api/workspaces/${id}/files`)).find((e) => e.path === path);
  return entry ? (await api("GET", "/api/files/" + entry.id)).content : null;
}

export async function type(page, text) {
  await page.locator(".group.focused .monaco-editor .view-lines").first().click();
  await page.keyboard.press("Control+A");
  await page.keyboard.insertText(text);
}

export const saved = (page) => page.locator(".foot").getByText("Saved", {exact: true}).waitFor();
export const output = (page) => page.locator(".output .output-space");
export const row = (page, path) => page.locator(`[role=treeitem][data-path="${path}"]`);

export async function says(page, text, selector = ".output .output-space") {
  await page.locator(selector).getByText(text).first().waitFor();
}

export async function verdict(page, text) {
  await page.locator(".panel .verdict").getByText(text).waitFor({timeout: 60_000});
}

export async function eventually(what, check, ms = 60_000) {
  const until = Date.now() + ms;
  for (;;) {
    const got = await check();
    if (got) return got;
    assert.ok(Date.now() < until, "it did not happen: " + what);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
// What stands on the screen in view: xterm draws rows as text.
export const screen = (page) =>
  page.evaluate(() => {
    const host = [...document.querySelectorAll(".terminal-host")].find((h) => h.style.visibility === "visible");
    return [...(host?.querySelectorAll(".xterm-rows > div") ?? [])].map((r) => r.textContent.replaceAll("\u00a0", " ").trimEnd()).join("\n");
  });
export async function shows(page, pattern) {
  let seen = "";
  try {
    await eventually("the screen shows " + pattern, async () => pattern.test((seen = await screen(page))));
  } catch (e) {
    throw new Error(e.message + "; it shows:\n" + seen.trimEnd());
  }
}

export async function shell(t, files = {"main.py": "print('from a file')\n"}) {
  const w = await workspaceWith(t, files);
  await editor(w.page);
  await w.page.keyboard.press("Control+`");
  await w.page.locator(".terminal-host .xterm-rows").waitFor();
  await shows(w.page, /[$#]$/m);
  return w;
}
export {api, key, url};
