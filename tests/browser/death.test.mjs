// SPDX-License-Identifier: Apache-2.0
// The gateway behind the page is killed: what was shown stays, what comes comes once, what is typed arrives.
import assert from "node:assert/strict";
import {execFileSync} from "node:child_process";
import {resolve} from "node:path";
import {test} from "node:test";
import {editor, eventually, output, says, screen, shell, shows, url, verdict, workspaceWith} from "./story.mjs";

const DEVBOX = resolve(import.meta.dirname, "../../devbox");
const daemons = () => JSON.parse(execFileSync(DEVBOX, ["status", "--json", "--state", process.env.DEVBOX_STATE], {encoding: "utf8"})).daemons;

// Of the gateway that serves the page, and returns once another one serves there.
async function kill(page) {
  const mine = () => daemons().find((d) => d.name === "gateway" && d.url === url);
  const {pid} = mine();
  process.kill(pid, "SIGKILL");
  await eventually("another gateway serves", async () => {
    const now = mine();
    return now && now.pid !== pid && (await fetch(url + "/readyz").catch(() => null))?.ok;
  });
  await page.locator(".foot").getByText("Connected").waitFor();
}

test("a program's output over two deaths of the gateway: each line once, in order", async (t) => {
  const program = "import sys, time\nn = 0\nfor line in sys.stdin:\n    for i in range(int(line)):\n        n += 1\n        print('line', n, 'é' * 40)\n        time.sleep(0.002)\nprint('over', n)\n";
  const {page} = await workspaceWith(t, {"main.py": program});
  await editor(page);
  await page.getByRole("button", {name: "Run", exact: true}).click();
  const input = page.locator(".panel input");
  await input.waitFor();
  const reached = (n) => eventually("line " + n, async () => Number([...(await output(page).innerText()).matchAll(/^line (\d+)/gm)].at(-1)?.[1]) >= n);
  for (let round = 0; round < 2; round++) {
    await input.fill("800");
    await input.press("Enter");
    await reached(round * 800 + 50);
    await kill(page);
    await reached(round * 800 + 800);
  }
  await input.press("Control+D");
  await verdict(page, "Finished");
  await says(page, "over 1600");
  await page.keyboard.press("F1");
  await page.keyboard.type("Copy the output");
  await page.keyboard.press("Enter");
  await eventually("it is copied", async () => (await page.evaluate(() => navigator.clipboard.readText())).includes("over 1600"));
  const lines = (await page.evaluate(() => navigator.clipboard.readText())).split("\n").filter((l) => l.startsWith("line "));
  assert.deepEqual(lines, Array.from({length: 1600}, (_, i) => `line ${i + 1} ${"é".repeat(40)}`));
  assert.ok(await output(page).isVisible());
});

test("a terminal over a death of the gateway, and over a reload after much output: its screen and its modes", async (t) => {
  const {page} = await shell(t);
  // More than two marks' worth; then a full screen, which the mark knows of.
  await page.keyboard.type("seq 1 100000; clear; printf 'on the ''shell\\n'\n");
  await shows(page, /^on the shell$/m);
  await page.keyboard.type("vi poem.txt\n");
  await shows(page, /^~$[^]*^~$/m);
  await page.keyboard.type("iroses");
  await shows(page, /^roses$/m);
  await kill(page);
  await shows(page, /^roses$[^]*^~$/m);
  await page.keyboard.type(" are red");
  await shows(page, /^roses are red$/m);
  await page.reload();
  await editor(page);
  await page.locator(".terminal-host .xterm-rows").waitFor();
  await shows(page, /^roses are red$[^]*^~$/m);
  await page.locator(".terminal-host").click();
  await page.keyboard.press("Escape");
  await page.keyboard.type(":q!\n");
  await shows(page, /^on the shell$/m);
  assert.doesNotMatch(await screen(page), /^~$/m);
});

test("a full screen that fills the whole log is there after a reload", async (t) => {
  const {page} = await shell(t);
  await page.keyboard.type("sh -c 'printf \"\\033[?1049h\\033[?25l\"; seq 1 150000; printf \"\\033[Hat the top\\n\"; read x; printf \"\\033[?25h\\033[?1049l\"; echo le''ft'\n");
  await shows(page, /^at the top/m);
  const marks = async () => JSON.parse(await page.evaluate(() => Object.entries(localStorage).find(([k]) => k.startsWith("devbox.terminals."))[1]))[0].marks;
  await eventually("two marks are kept", async () => (await marks()).length === 2);
  assert.equal((await marks())[0].modes, "\x1b[?1049h\x1b[?25l");
  await page.reload();
  await editor(page);
  await page.locator(".terminal-host .xterm-rows").waitFor();
  await shows(page, /^at the top/m);
  await page.locator(".terminal-host").click();
  await page.keyboard.press("Enter");
  await shows(page, /^left$/m);
});
