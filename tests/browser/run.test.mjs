// SPDX-License-Identifier: Apache-2.0
// From a template to a program that runs, is answered, is stopped, and is still there after a reload.
import assert from "node:assert/strict";
import {test} from "node:test";
import {content, editor, enter, eventually, output, row, saved, says, start, type, verdict, workspace, workspaceWith} from "./story.mjs";

test("python: edit, run, answer, stop, reload", async (t) => {
  const {page, id} = await workspace(t);
  await type(page, 'import sys\nprint("ready")\nfor line in sys.stdin:\n    print("you said", line.strip())');
  await page.keyboard.press("Control+Enter");
  await says(page, "ready");
  assert.match(await content(id, "main.py"), /you said/, "running saves first");
  await page.fill("#stdin", "hello there");
  await page.press("#stdin", "Enter");
  await says(page, "you said hello there");
  await page.getByRole("button", {name: "Stop"}).click();
  await verdict(page, "Stopped");
  await page.keyboard.press("Control+B");
  await page.locator(".side").waitFor({state: "hidden"});
  await page.reload();
  await editor(page);
  await says(page, "you said hello there");
  await verdict(page, "Stopped");
  await page.locator(".side").waitFor({state: "hidden"});
  await page.locator(".view-lines").getByText("you said").waitFor();
});

test("a program that runs goes on over a reload", async (t) => {
  const {page} = await workspaceWith(t, {"main.py": "import time\nfor i in range(600):\n    print('tick', i)\n    time.sleep(.1)\n"});
  await page.getByRole("button", {name: "Run", exact: true}).click();
  await says(page, "tick 3");
  await page.reload();
  await output(page).waitFor();
  await eventually("all of it is there", async () => { // above what is in view by now
    await page.locator(".output").evaluate((e) => (e.scrollTop = 0));
    return /^tick 0$/m.test(await output(page).innerText());
  });
  await eventually("it goes on", async () => /tick [2-9]\d/.test(await output(page).innerText()));
  await page.keyboard.press("Control+Enter"); // the same key stops
  await verdict(page, "Stopped");
});

for (const [template, expected] of [
  ["node", "Hello, Ada!"],
  ["go", "Hello, Ada!"],
  ["rust", "Hello, Ada!"],
])
  test(template + ": the starter runs as it is", async (t) => {
    const {page} = await workspace(t, template);
    await page.keyboard.press("Control+Enter");
    await page.locator(".output .output-space").getByText("What is your name?").waitFor({timeout: 120_000});
    await page.fill("#stdin", "Ada");
    await page.press("#stdin", "Enter");
    await says(page, expected);
    await page.getByRole("button", {name: "End input"}).click();
    await verdict(page, "Finished");
  });

test("how it ended, in words, and where", async (t) => {
  const {page} = await workspaceWith(t, {"main.py": "def f():\n    return 1 / 0\n\nf()\n"});
  await page.getByRole("button", {name: "Run", exact: true}).click();
  await verdict(page, "Ended with exit code 1");
  await page.getByRole("tab", {name: /Problems/}).click();
  await page.locator(".problem-row").getByText("ZeroDivisionError: division by zero").click();
  await page.locator(".foot").getByText("Ln 2, Col").waitFor();
  await row(page, "main.py").and(page.locator(".problem")).waitFor();
  await page.getByRole("tab", {name: "Output"}).click();
  await page.locator(".output a").getByText("line 4").first().click();
  await page.locator(".foot").getByText("Ln 4, Col 1").waitFor();
});

test("100,000 lines", async (t) => {
  const {page} = await workspaceWith(t, {"main.py": "import sys\nsys.stdout.write(''.join(f'line {i}\\n' for i in range(100_000)))\n"});
  await page.getByRole("button", {name: "Run", exact: true}).click();
  await verdict(page, "Finished");
  await says(page, "line 99999");
  assert.ok((await page.locator(".output-line").count()) < 200, "only lines in view are made");
  const slowest = await page.evaluate(async () => {
    const box = document.querySelector(".output");
    let worst = 0;
    let before = performance.now();
    for (let i = 0; i < 30; i++) {
      box.scrollTop = (box.scrollHeight / 30) * i;
      await new Promise(requestAnimationFrame);
      const now = performance.now();
      worst = Math.max(worst, now - before);
      before = now;
    }
    return worst;
  });
  t.diagnostic(`slowest frame while scrolling: ${Math.round(slowest)} ms`);
  await page.locator(".output").evaluate((e) => (e.scrollTop = 0));
  await says(page, "line 0");
});

test("run configurations are a file", async (t) => {
  const {page} = await workspaceWith(t, {
    "main.py": "print('main')",
    "other.py": "print('other')",
    ".devbox/run.json": '{"configurations":[{"name":"First","command":"python3 main.py"},{"name":"Second","command":"python3 other.py"}]}',
  });
  await page.getByRole("button", {name: "Run configurations"}).click();
  await page.getByRole("menuitemradio", {name: /Second/}).click();
  await page.getByRole("button", {name: "Run", exact: true}).click();
  await says(page, "other");
  await verdict(page, "Finished");
  await row(page, "main.py").click();
  await editor(page);
  await page.keyboard.press("Control+Shift+Enter");
  await says(page, "main");
});

test("coming in with a key; a wrong one is told", async (t) => {
  const page = await start(t);
  await page.evaluate(() => sessionStorage.clear());
  const fresh = await page.context().newPage();
  await fresh.addInitScript(() => sessionStorage.clear());
  await enter(fresh);
  await fresh.getByRole("button", {name: "Sign out"}).waitFor();
  await fresh.getByRole("button", {name: "Sign out"}).click();
  await fresh.getByRole("tab", {name: "API key"}).click();
  await fresh.fill("#api-key", "wrong");
  await fresh.getByRole("button", {name: "Use this key"}).click();
  await fresh.getByText("This key is not valid.").waitFor();
});
