// SPDX-License-Identifier: Apache-2.0
// Packages: what is installed, what the registry has, and installing in a terminal, through the cache.
import {test} from "node:test";
import {content, eventually, says, workspaceWith} from "./story.mjs";

const installed = (page) => page.getByRole("list", {name: "Installed"});
const offered = (page) => page.getByRole("list", {name: "In the registry"});
async function find(page, name) {
  await page.getByRole("textbox", {name: "Name of a package"}).fill(name);
  await page.keyboard.press("Enter");
}

test("python: find, install, use, remove", async (t) => {
  const {page, id} = await workspaceWith(t, {"main.py": "import six\nprint('six is', six.__name__)\n"});
  await page.getByRole("tab", {name: "Packages"}).click();
  await installed(page).getByText("pip", {exact: true}).waitFor();
  await find(page, "-r x");
  await page.getByText("This cannot be the name of a package.").waitFor();
  await find(page, "no-such-package-of-devbox-1");
  await page.getByText("The registry has no package").waitFor({timeout: 60_000});
  await find(page, "six");
  await offered(page).getByRole("button", {name: "Install six"}).click({timeout: 60_000});
  await page.locator(".terminals").getByText("Successfully installed six").waitFor({timeout: 60_000});
  await installed(page).getByText("six", {exact: true}).waitFor({timeout: 60_000});
  await eventually("it is written down", async () => (await content(id, "requirements.txt").catch(() => "")) === "six\n");
  await page.getByRole("button", {name: "Run", exact: true}).click();
  await page.getByText("six is six").waitFor();
  await installed(page).getByRole("button", {name: "Remove six"}).click();
  await page.locator(".terminals").getByText("Successfully uninstalled six").waitFor({timeout: 60_000});
  await installed(page).getByText("six", {exact: true}).waitFor({state: "detached", timeout: 60_000});
  await eventually("it is not written down any more", async () => (await content(id, "requirements.txt")) === "");
});

test("node: words find packages with what they are about", async (t) => {
  const {page, id} = await workspaceWith(t, {"main.js": "console.log(require('is-number')(5))\n"}, {template: "node"});
  await page.getByRole("tab", {name: "Packages"}).click();
  await find(page, "is-number");
  await offered(page).getByText(/returns? true if/i).first().waitFor({timeout: 60_000});
  await offered(page).getByRole("button", {name: "Install is-number", exact: true}).click({timeout: 60_000});
  await installed(page).getByText("is-number", {exact: true}).waitFor({timeout: 60_000});
  await eventually("it is written down", async () => /"is-number"/.test((await content(id, "package.json")) ?? ""));
  await page.getByRole("button", {name: "Run", exact: true}).click();
  await says(page, "true");
});
