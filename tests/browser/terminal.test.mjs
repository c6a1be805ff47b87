// SPDX-License-Identifier: Apache-2.0
// Terminals: a shell that is typed into, interrupted, resized, and there again after a reload.
import assert from "node:assert/strict";
import {test} from "node:test";
import {content, editor, eventually, row, screen, shell, shows} from "./story.mjs";

test("a shell: commands, Ctrl-C, the workspace's files, and again after a reload", async (t) => {
  const {page} = await shell(t);
  await page.keyboard.type("python3 main.py; tty\n");
  await shows(page, /from a file\s[^]*\/dev\/pts\//);
  // A key that comes while the shell starts a program is the shell's own, here as anywhere.
  await page.keyboard.type("sh -c \"echo wa''its; exec sleep 1000\"\n");
  await shows(page, /^waits/m);
  await page.keyboard.type("echo typed ahead\n");
  await page.keyboard.press("Control+C");
  await page.keyboard.type("echo st''ill here\n");
  await shows(page, /still here/);
  await page.reload();
  await editor(page);
  await page.locator(".terminal-host .xterm-rows").waitFor();
  await shows(page, /still here/);
  await page.locator(".terminal-host").click();
  await page.keyboard.type("echo af''ter\n");
  await shows(page, /^after/m);
});

test("a second shell; one that ends says so; a size of its own", async (t) => {
  const {page} = await shell(t);
  await page.keyboard.type("stty size\n");
  await shows(page, /^\d+ \d+$/m);
  const [, before] = /^(\d+) \d+$/m.exec(await screen(page));
  await page.getByRole("separator", {name: "Height of the panel"}).press("Shift+ArrowUp");
  await page.locator(".terminal-host").click();
  await eventually("the shell has more rows", async () => {
    await page.keyboard.type("clear; stty size\n");
    const m = /^(\d+) \d+$/m.exec(await screen(page));
    return m && Number(m[1]) > Number(before);
  });
  await page.getByRole("button", {name: "New terminal"}).first().click();
  await page.locator(".terminal-item").nth(1).waitFor();
  assert.equal(await page.locator(".terminal-item").count(), 2);
  await page.locator(".terminal-item").first().getByRole("button").first().click();
  await page.keyboard.type("exit\n");
  await shows(page, /Press Enter for a new shell/);
  await page.keyboard.type("\necho ea''rly\n");
  await shows(page, /^early/m);
});

test("split: two shells side by side, each with its own half; both are there after a reload", async (t) => {
  const {page} = await shell(t);
  await page.getByRole("button", {name: "Split the terminal"}).click();
  const hosts = page.locator(".terminal-host:visible");
  await eventually("two are shown", async () => (await hosts.count()) === 2 && (await page.locator(".terminal-item").count()) === 2);
  const [left, right] = [hosts.first(), hosts.nth(1)];
  await right.locator(".xterm-rows").getByText(/[$#]/).first().waitFor();
  const [a, b] = [await left.boundingBox(), await right.boundingBox()];
  assert.ok(a.x + a.width < b.x && Math.abs(a.width - b.width) < 2, JSON.stringify([a, b]));
  await eventually("the new one has the focus", () => right.evaluate((e) => e.contains(document.activeElement)));
  await page.keyboard.type("echo ri''ght; stty size\n");
  await right.getByText(/^right$/).waitFor();
  await eventually("it knows its width", async () => Number(/^\d+ (\d+)$/m.exec(await right.locator(".xterm-rows").evaluate((e) => [...e.children].map((r) => r.textContent.trim()).join("\n")))?.[1]) < 90);
  await page.keyboard.press("Alt+ArrowRight");
  await eventually("the first one has it", () => left.evaluate((e) => e.contains(document.activeElement)));
  await page.keyboard.type("echo le''ft\n");
  await left.getByText(/^left$/).waitFor();
  await page.reload();
  await editor(page);
  await left.getByText(/^left$/).waitFor();
  await right.getByText(/^right$/).waitFor();
  await page.getByRole("button", {name: "End Shell 2"}).click();
  await eventually("the other has it all", async () => (await hosts.count()) === 1 && (await hosts.first().boundingBox()).width > a.width * 1.8);
});

test("a program in a terminal cannot reach out of it", async (t) => {
  const {page} = await shell(t);
  await page.evaluate(() => navigator.clipboard.writeText("mine"));
  await page.keyboard.type("printf '\\033]52;c;cHduZWQ=\\007\\033]0;pwned\\007<img src=x onerror=window.pwned=1>\\n'\n");
  await shows(page, /^<img src=x/m);
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "mine");
  assert.equal(await page.evaluate(() => window.pwned), undefined);
  assert.doesNotMatch(await page.title(), /pwned/);
});

test("what a shell makes, changes and deletes shows in the tree and in the editor, live", async (t) => {
  const {page, id} = await shell(t);
  await page.keyboard.type("mkdir -p out && echo ma''de > out/by-shell.txt && echo 'print(1) # by the shell' > main.py\n");
  await row(page, "out").waitFor();
  await row(page, "out").click();
  await row(page, "out/by-shell.txt").waitFor();
  await page.locator(".view-lines").getByText("by the shell").waitFor();
  await eventually("it is a file of record", async () => (await content(id, "out/by-shell.txt")) === "made\n");
  await page.locator(".terminal-host").click();
  await page.keyboard.type("rm -r out\n");
  await row(page, "out").waitFor({state: "detached"});
});

test("vim: a full screen of its own, and what it writes", async (t) => {
  const {page, id} = await shell(t);
  await page.keyboard.type("vi poem.txt\n");
  await shows(page, /^~$[^]*^~$/m);
  await page.keyboard.type("iroses");
  await page.keyboard.press("Enter");
  await page.keyboard.type("violets");
  await page.keyboard.press("Escape");
  await page.keyboard.press("k");
  await page.keyboard.type("Ared");
  await page.keyboard.press("Escape");
  await shows(page, /^rosesred\nviolets\n~/);
  await page.keyboard.type(":wq\n");
  await eventually("vim is gone", async () => !/^~$/m.test(await screen(page)) && /[$#]$/m.test(await screen(page)));
  await row(page, "poem.txt").waitFor();
  await eventually("it is saved", async () => (await content(id, "poem.txt")) === "rosesred\nviolets\n");
});
