// SPDX-License-Identifier: Apache-2.0
// Names, output and contents made by somebody who wants the page to do something: it shows them, and does nothing.
import assert from "node:assert/strict";
import {test} from "node:test";
import {api, content, editor, eventually, key, output, row, says, screen, shell, shows, url, verdict, workspaceWith} from "./story.mjs";

const HTML = '<img src=x onerror="window.pwned=1"><script>window.pwned=2</script>';

async function unharmed(page) {
  assert.equal(await page.evaluate(() => window.pwned), undefined, "a script ran");
  assert.equal(await page.locator("img[src=x]").count(), 0, "text became markup");
}

test("names of files and workspaces", async (t) => {
  const names = ['<img src=x onerror="window.pwned=1">.py', "a\u202Egnp.py", "'\"><svg onload=window.pwned=1>.js", "${window.pwned=1}.md", "back\\slash.py", "{{constructor}}.txt"];
  const {page} = await workspaceWith(t, Object.fromEntries(names.map((n) => [n, "x"])), {name: HTML});
  await page.locator(".workspace-name").getByText("<img").waitFor();
  for (const name of names) {
    await page.locator("[role=treeitem]", {hasText: name.slice(0, 8)}).first().click();
    await page.locator(".tab.current").waitFor();
  }
  await page.keyboard.press("Control+P");
  await page.keyboard.type("onerror");
  await page.locator(".palette-item").first().waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("button", {name: /^Share/}).click();
  await page.getByRole("heading", {name: /Share/}).waitFor();
  await unharmed(page);
  assert.match(await page.title(), /<img/);
});

test("output: markup, escapes, links", async (t) => {
  const program = [
    "import sys",
    "w = sys.stdout.write",
    `w(${JSON.stringify(HTML)} + "\\n")`,
    'w("\\x1b]52;c;cHduZWQ=\\x07clip\\n")', // writes to the clipboard of a terminal that lets it
    'w("\\x1b]0;pwned\\x07title\\n")',
    'w("\\x1b]8;;javascript:window.pwned=3\\x07click\\x1b]8;;\\x07 here\\n")',
    'w("\\x1b[2J\\x1b[Hscreen\\n\\x1bPq#0;2;0;0;0\\x1b\\\\sixel\\n")',
    'w("\\x1b[31mred\\x1b[0m plain \\x1b[38;2;1;2;3;4;5;999999999999mmany\\n")',
    'w("\\x1b]unterminated ")',
    'w("x" * 9000 + "\\n")',
    'w("javascript:window.pwned=4 data:text/html,x http://example.org/a\\n")',
    'w("\\r\\r\\rover\\rOVER\\n")',
    'w("\\0\\x08\\x7f\\x9b31m\\n")',
    'print("end of it")',
  ].join("\n");
  const {page} = await workspaceWith(t, {"main.py": program});
  await page.evaluate(() => navigator.clipboard.writeText("mine"));
  await page.getByRole("button", {name: "Run", exact: true}).click();
  await verdict(page, "Finished");
  await says(page, "end of it");
  await page.locator(".output").evaluate((e) => (e.scrollTop = 0));
  await says(page, HTML);
  await unharmed(page);
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "mine");
  assert.doesNotMatch(await page.title(), /pwned/);
  const text = await output(page).innerText();
  assert.match(text, /^clip$/m);
  assert.match(text, /^title$/m);
  assert.match(text, /^click here$/m);
  assert.match(text, /OVER/);
  assert.equal(await page.locator(".output .fg-1").first().innerText(), "red");
  for (const href of await page.locator(".output a").evaluateAll((all) => all.map((a) => a.href))) assert.match(href, /^https?:/);
});

// Asks the terminal everything that one may answer, and tells what came back as if it had been typed.
const ASKS = `import base64, os, select, sys, termios, time, tty
before = termios.tcgetattr(0)
tty.setraw(0)
w = lambda text: os.write(1, text.encode())
w("\\x1b]0;pwned-title\\x07\\x1b]1;pwned-title\\x07\\x1b]2;pwned-title\\x07")
w("\\x1b[21t\\x1b[20t\\x1b[22;0t\\x1b[23;0t")  # its title, reported
w("\\x1bP$qpwned; touch /tmp/pwned\\n\\x1b\\\\")  # its settings, reported
w('\\x1bP$q"p\\x1b\\\\')
w("\\x1bP$qm\\x1b\\\\")
w("\\x1b]52;c;?\\x07\\x1b]52;p;?\\x07\\x1b]52;c;cHduZWQ=\\x07")  # the clipboard, read and written
w("\\x05\\x1b]1337;File=name=cHduZWQ=;inline=1:AAAA\\x07\\x1b]777;notify;pwned;pwned\\x07\\x1b]9;pwned\\x07\\x1b_pwned\\x1b\\\\\\x1b^pwned\\x1b\\\\")
w("\\x1b[c")
said = b""
until = time.monotonic() + 3
while b"c" not in said[-8:] and time.monotonic() < until:
    if select.select([0], [], [], 0.1)[0]:
        said += os.read(0, 4096)
while select.select([0], [], [], 0.3)[0]:
    said += os.read(0, 4096)
termios.tcsetattr(0, termios.TCSANOW, before)
os.write(1, b"\\x1b[2J\\x1b[H")
print("said", said.hex(), "end")
print("\\x1b]8;;javascript:window.pwned=8\\x07LINK-JS\\x1b]8;;\\x07 \\x1b]8;;data:text/html,<script>1</script>\\x07LINK-DATA\\x1b]8;;\\x07")
print("</script><img src=x onerror=window.pwned=9> \\u202eevil\\u202c \\u2066x\\u2069")
`;

// The screen takes the click, as for a person. Where the mouse hovers a row is drawn anew: what was found may be no more.
const clickAt = async (page, locator) => {
  for (let box; ; ) {
    if ((box = await locator.boundingBox())) return page.mouse.click(box.x + box.width / 2, box.y + box.height / 2);
    await page.waitForTimeout(20); // the story's own deadline ends it
  }
};

test("a terminal: what it says to programs, links, titles, the clipboard", async (t) => {
  const {page} = await shell(t, {"asks.py": ASKS});
  const windows = [];
  page.on("dialog", (d) => (windows.push("dialog " + d.message()), d.dismiss()));
  page.context().on("page", (p) => windows.push("window " + p.url()));
  await page.evaluate(() => navigator.clipboard.writeText("mine alone"));
  await page.keyboard.type("python3 asks.py\n");
  await shows(page, /said [0-9a-f\s]* end/);
  await shows(page, /onerror/);
  const said = Buffer.from(/said ([0-9a-f\s]*) end/.exec(await screen(page))[1].replace(/\s/g, ""), "hex").toString("latin1");
  assert.match(said, /\x1b\[\?[\d;]+c/, "it says what it is");
  assert.doesNotMatch(said, /pwned|mine|touch|\n|\]52|\]l|\]L/, JSON.stringify(said));
  assert.doesNotMatch(said, new RegExp(Buffer.from("mine alone").toString("base64")));
  for (const link of ["LINK-JS", "LINK-DATA"]) {
    await clickAt(page, page.locator(".terminal-host .xterm-rows").getByText(link).first());
    await page.keyboard.down("Control");
    await clickAt(page, page.locator(".terminal-host .xterm-rows").getByText(link).first());
    await page.keyboard.up("Control");
  }
  await shows(page, /onerror/);
  assert.deepEqual(windows, []);
  await unharmed(page);
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "mine alone");
  assert.doesNotMatch(await page.title(), /pwned/);
  assert.equal(await page.locator("script:not([src])").count(), 0);
});

test("names of people, links and keys", async (t) => {
  const {page, id} = await workspaceWith(t, {"main.py": "1"}, {name: HTML});
  // What is no address the server refuses; the page shows those it took.
  let taken = 0;
  for (const email of ['"><img/src=x/onerror=window.pwned=1>@example.org', "<script>window.pwned=1</script>@example.org", "x'-alert(1)-'@example.org", "javascript:window.pwned@example.org", "o'hara+pwned@example.org"]) {
    const answer = await fetch(url + `/api/workspaces/${id}/members/${encodeURIComponent(email)}`, {method: "PUT", headers: {Authorization: "Bearer " + key, "Content-Type": "application/json"}, body: '{"role":"editor"}'});
    assert.ok([200, 400].includes(answer.status), email + " " + answer.status);
    taken += answer.ok;
  }
  await editor(page);
  await page.getByRole("button", {name: /^Share/}).click();
  await eventually("they are listed", async () => (await page.getByRole("button", {name: /^Remove /}).count()) === taken);
  await unharmed(page);
  await page.keyboard.press("Escape");
  const made = await api("POST", "/api/keys", {label: HTML.slice(0, 60), scopes: ["read"]});
  t.after(() => api("DELETE", "/api/keys/" + made.id));
  await page.keyboard.press("F1");
  await page.keyboard.type("api keys");
  await page.keyboard.press("Enter");
  await page.getByRole("list", {name: "API keys"}).getByText("<img").first().waitFor();
  await unharmed(page);
  await page.keyboard.press("Escape");
  await page.goto(url + "/s/%3Cimg%20src=x%20onerror=window.pwned=1%3E");
  await page.getByRole("heading", {name: "This link leads nowhere"}).waitFor();
  await page.goto(url + "/w/%E0%A4%A/../%3Cimg%20src=x%3E").catch(() => undefined);
  await page.goto(url + "/recover#<img src=x onerror=window.pwned=1>");
  await page.getByRole("heading", {name: "Choose another password"}).waitFor();
  await unharmed(page);
});

test("contents: a page in the editor is text; a run configuration is checked", async (t) => {
  const {page, id} = await workspaceWith(t, {"page.html": HTML, "readme.md": `# x\n${HTML}\n[a](javascript:window.pwned=5)`, ".devbox/run.json": '{"configurations": [{"name": {"a": 1}, "command": 5}, 7]}'});
  await row(page, "page.html").click();
  await editor(page);
  await page.locator(".view-lines").getByText("onerror").waitFor();
  await row(page, "readme.md").click();
  await page.locator(".view-lines").getByText("javascript").waitFor();
  await page.getByText("has no configuration with a name and a command").waitFor();
  await unharmed(page);
  assert.equal(await content(id, "page.html"), HTML);
});

test("what the browser remembers may be anything", async (t) => {
  const {page, id} = await workspaceWith(t, {"main.py": "x = 1\n"});
  await editor(page);
  await page.evaluate((w) => {
    for (const name of ["layout.", "views.", "terminals.", "run.", "config."]) localStorage.setItem("devbox." + name + w, '{"groups":[{"id":"x","tabs":[1]},null],"activeGroup":{},"sideWidth":-5,"process":"../../x"}');
    localStorage.setItem("devbox.settings", "][");
    localStorage.setItem("devbox.commands", '{"a":1}');
  }, id);
  await page.goto(url + "/w/" + id);
  await row(page, "main.py").click();
  await editor(page);
  await page.keyboard.press("F1");
  await page.locator(".palette-item").first().waitFor();
});

test("the policy of the page", async (t) => {
  const {page} = await workspaceWith(t, {"main.py": "1"});
  const answer = await fetch(url);
  const csp = answer.headers.get("content-security-policy");
  for (const part of ["default-src 'none'", "script-src 'self';", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"]) assert.ok(csp.includes(part), part);
  assert.doesNotMatch(csp, /unsafe-eval|https?:|\*/);
  assert.ok(!/script-src[^;]*unsafe/.test(csp));
  await eventually("an injected script does not run", async () => {
    await page.evaluate(() => {
      const s = document.createElement("script");
      s.textContent = "window.pwned = 6";
      document.body.append(s);
    });
    return true;
  });
  await unharmed(page);
  await eventually("it was told", () => page.complaints.some((c) => c.includes("script-src")));
  page.complaints.length = 0;
});
