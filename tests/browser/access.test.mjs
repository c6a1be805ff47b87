// SPDX-License-Identifier: Apache-2.0
// For everybody: axe finds nothing in any theme, and all can be done by keys alone.
import assert from "node:assert/strict";
import {readFileSync} from "node:fs";
import {test} from "node:test";
import {axeSource} from "./browser.mjs";
import {content, editor, eventually, row, saved, says, start, verdict, url, workspace, workspaceWith} from "./story.mjs";

const axe = readFileSync(axeSource, "utf8");

// The page as it is; breaches are told with what they are about. Monaco's inside is Monaco's.
async function clean(page, where) {
  await page.waitForTimeout(250); // transitions of colours
  await page.evaluate(axe); // by the debugger: the page's policy is not loosened
  const {violations} = await page.evaluate(() =>
    window.axe.run({exclude: [[".monaco-editor"], [".xterm"]]}, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], resultTypes: ["violations"]}),
  );
  const told = violations.map((v) => `${v.id} (${v.impact}): ${v.nodes.slice(0, 4).map((n) => n.html.slice(0, 160) + " " + (n.any[0]?.message ?? n.all[0]?.message ?? "")).join(" | ")}`);
  assert.deepEqual(told, [], where);
}

for (const theme of ["dark", "light", "contrast"])
  test("axe, " + theme, async (t) => {
    const options = theme === "contrast" ? {contrast: "more"} : {colorScheme: theme};
    const page = await start(t, options);
    await clean(page, "start page");
    const {page: out} = {page: await page.context().newPage()};
    await out.addInitScript(() => sessionStorage.clear());
    await out.goto(page.url());
    await out.getByRole("heading", {name: "Come in"}).waitFor();
    await clean(out, "start page, not signed in");
    await out.getByRole("tab", {name: "Account"}).click();
    await clean(out, "account");
    await out.goto(url + "/recover#" + "a".repeat(43));
    await out.getByRole("heading", {name: "Choose another password"}).waitFor();
    await clean(out, "another password");
    await out.goto(url + "/s/leads-nowhere");
    await out.getByRole("heading", {name: "This link leads nowhere"}).waitFor();
    await clean(out, "a link that leads nowhere");
    await out.close();

    const w = await workspaceWith(t, {"main.py": "def f():\n    return 1 / 0\n\nprint('\\x1b[31mred \\x1b[2mdim\\x1b[0m')\nf()\n", "lib/a.py": "", "node_modules/x.js": ""}, options);
    const p = w.page;
    await editor(p);
    await clean(p, "workspace, nothing ran");
    assert.ok((await p.getByRole("tablist", {name: "Side"}).boundingBox()).height < 30, "the side's tabs are one row");
    await row(p, "lib").click();
    await p.getByRole("button", {name: "Run", exact: true}).click();
    await verdict(p, "Ended with exit code 1");
    await clean(p, "output");
    await p.getByRole("tab", {name: /Problems/}).click();
    await clean(p, "problems");
    await p.keyboard.press("Control+Shift+F");
    await p.keyboard.type("return");
    await says(p, "1 place in 1 file", ".search-sum");
    await clean(p, "search");
    await p.keyboard.press("F1");
    await p.locator(".palette-item").first().waitFor();
    await clean(p, "palette");
    await p.keyboard.press("Escape");
    await p.getByRole("button", {name: /^Share/}).click();
    await clean(p, "share");
    await p.keyboard.press("Escape");
    await p.keyboard.press("F1");
    await p.keyboard.type("api keys");
    await p.keyboard.press("Enter");
    await p.getByRole("list", {name: "Sessions"}).waitFor();
    await clean(p, "keys and sessions");
    await p.keyboard.press("Escape");
    await p.getByRole("button", {name: "Run configurations"}).click();
    await clean(p, "menu");
    await p.keyboard.press("Escape");
    await p.getByRole("button", {name: /^Account/}).click();
    await p.getByRole("menuitem", {name: "Keyboard shortcuts"}).click();
    await clean(p, "help");
  });

test("keys alone: begin, edit, run, answer, rename, find, theme", async (t) => {
  const page = await start(t);
  const press = (...keys) => keys.reduce((done, k) => done.then(() => page.keyboard.press(k)), Promise.resolve());
  const focused = (what) => page.evaluate((s) => document.activeElement?.matches(s) ?? false, what);
  for (let i = 0; i < 20 && !(await focused("[data-template=python]")); i++) await press("Tab");
  assert.ok(await focused("[data-template=python]"));
  await press("Enter");
  await editor(page);
  const id = new URL(page.url()).pathname.split("/")[2];
  await press("Control+1", "Control+A");
  await page.keyboard.insertText("name = input()\nprint('hi ' + name)");
  await press("Control+S");
  await saved(page);
  await press("Control+Enter");
  await page.locator("#stdin").waitFor();
  for (let i = 0; i < 6 && !(await focused(".panel *")); i++) await press("F6");
  for (let i = 0; i < 8 && !(await focused("#stdin")); i++) await press("Tab");
  await page.keyboard.type("Ada");
  await press("Enter");
  await verdict(page, "Finished");
  await says(page, "hi Ada");

  await press("Control+Shift+E");
  await eventually("the tree has the focus", () => focused("[data-path='main.py']"));
  await press("F2", "Control+A");
  await page.keyboard.type("hello.py");
  await press("Enter");
  await row(page, "hello.py").waitFor();
  await press("Alt+N");
  await page.locator(".tree-edit").waitFor();
  await page.keyboard.type("b/c.txt");
  await press("Enter");
  await row(page, "b").waitFor();
  await press("Control+Shift+E", "Home", "ArrowRight", "ArrowRight");
  await eventually("the file in the folder has the focus", () => focused("[data-path='b/c.txt'], [data-path='b']"));
  await press("Control+P");
  await page.keyboard.type("hello");
  await press("Enter");
  await page.locator(".tab.current").getByText("hello.py").waitFor();
  assert.match(await content(id, "hello.py"), /hi /);

  await press("F1");
  await page.keyboard.type("theme light");
  await press("Enter");
  await page.locator("html[data-theme=light]").waitFor();
  await press("Control+Shift+E");
  await eventually("focus", () => focused("[role=treeitem]"));
  await press("Shift+F10");
  await page.getByRole("menu").waitFor();
  await press("ArrowDown", "Escape");
  await eventually("focus is where it was", () => focused("[role=treeitem]"));
});

test("nothing moves for those who do not want it", async (t) => {
  const {page} = await workspace(t, "python", {reducedMotion: "reduce"});
  const moving = await page.evaluate(() => document.getAnimations().filter((a) => a.effect?.getTiming().duration > 10).length);
  assert.equal(moving, 0);
});
