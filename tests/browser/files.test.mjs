// SPDX-License-Identifier: Apache-2.0
// Files: the tree, saving, and what happens when others save or nobody can be reached.
import assert from "node:assert/strict";
import {mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync} from "node:fs";
import {tmpdir} from "node:os";
import {join} from "node:path";
import {test} from "node:test";
import {api, content, editor, eventually, row, saved, says, type, workspaceWith} from "./story.mjs";

const paths = async (id) => (await api("GET", `/api/workspaces/${id}/files`)).map((e) => e.path);

test("make, rename, move, delete and undo", async (t) => {
  const {page, id} = await workspaceWith(t, {"main.py": "1", "lib/a.py": "a = 1\n"});
  await page.getByRole("button", {name: "New file"}).click();
  await page.locator(".tree-edit").fill("notes/today.md");
  await page.keyboard.press("Enter");
  await row(page, "notes").waitFor();
  await page.getByRole("tab", {name: /today\.md/}).waitFor();
  await type(page, "# Today");
  await saved(page);
  assert.equal(await content(id, "notes/today.md"), "# Today");

  await row(page, "main.py").click();
  await page.keyboard.press("F2");
  await page.locator(".tree-edit").fill("lib");
  await page.getByText("There is already something with this name.").waitFor();
  await page.locator(".tree-edit").fill("start.py");
  await page.keyboard.press("Enter");
  await row(page, "start.py").waitFor();
  await page.getByRole("tab", {name: /start\.py/}).waitFor();

  await row(page, "start.py").dragTo(row(page, "lib"));
  await eventually("it moved", async () => (await paths(id)).includes("lib/start.py"));

  await row(page, "lib").focus();
  await page.keyboard.press("Delete");
  await page.getByText("Deleted lib").waitFor();
  await eventually("it is gone", async () => !(await paths(id)).some((p) => p.startsWith("lib")));
  await page.getByRole("button", {name: "Undo"}).last().click();
  await eventually("it is back", async () => (await paths(id)).includes("lib/a.py"));
  assert.equal(await content(id, "lib/a.py"), "a = 1\n");
});

test("files and folders are dropped", async (t) => {
  const {page, id} = await workspaceWith(t, {"main.py": "1"});
  await page.evaluate(() => {
    const data = new DataTransfer();
    data.items.add(new File(["one"], "one.txt"));
    data.items.add(new File([new Uint8Array([0, 255, 1])], "two.bin"));
    document.querySelector("#file-tree").dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
  });
  await row(page, "two.bin").waitFor();
  assert.equal(await content(id, "one.txt"), "one");
  await row(page, "two.bin").click();
  await page.getByText("This file is not text").waitFor();
  const [download] = await Promise.all([page.waitForEvent("download"), page.locator(".editor-area").getByRole("button", {name: "Download"}).click()]);
  assert.equal(download.suggestedFilename(), "two.bin");
});

test("a folder is dropped, with the empty ones in it", async (t) => {
  const {page, id} = await workspaceWith(t, {"main.py": "1"});
  const folder = mkdtempSync(join(tmpdir(), "devbox-drop-"));
  t.after(() => rmSync(folder, {recursive: true}));
  mkdirSync(join(folder, "site/pages/none yet"), {recursive: true});
  writeFileSync(join(folder, "site/index.html"), "<p>");
  const box = await row(page, "main.py").boundingBox();
  const debug = await page.context().newCDPSession(page);
  const data = {items: [], files: [join(folder, "site")], dragOperationsMask: 1};
  for (const type of ["dragEnter", "dragOver", "drop"]) await debug.send("Input.dispatchDragEvent", {type, x: box.x + 20, y: box.y + 5, data});
  await eventually("all is there", async () => (await paths(id)).includes("site/index.html"));
  assert.deepEqual((await paths(id)).sort(), ["main.py", "site", "site/index.html", "site/pages", "site/pages/none yet"]);
  await row(page, "site").click();
  await row(page, "site/pages").waitFor();
});

test("a folder is uploaded, with its progress; what is there is replaced only when one says so", async (t) => {
  const {page, id} = await workspaceWith(t, {"src/main.py": "old", "keep.txt": "keep"});
  const folder = mkdtempSync(join(tmpdir(), "devbox-upload-"));
  t.after(() => rmSync(folder, {recursive: true}));
  mkdirSync(join(folder, "src/deep \"one\""), {recursive: true});
  writeFileSync(join(folder, "src/main.py"), "new");
  writeFileSync(join(folder, 'src/deep "one"/é.txt'), "é");
  writeFileSync(join(folder, "src/large.bin"), Buffer.alloc(6_000_000, 7));
  const debug = await page.context().newCDPSession(page);
  const slow = (bytes) => debug.send("Network.emulateNetworkConditions", {offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: bytes});
  await debug.send("Network.enable");
  page.on("filechooser", () => undefined); // from now on, not from the moment in which one is waited for
  const choose = async () => {
    await page.keyboard.press("F1");
    await page.locator(".palette-item").first().waitFor();
    await page.keyboard.type("Upload a folder");
    await page.locator(".palette-item[aria-selected=true]", {hasText: "Upload a folder"}).waitFor();
    const [chooser] = await Promise.all([page.waitForEvent("filechooser"), page.keyboard.press("Enter")]);
    await chooser.setFiles(join(folder, "src"));
    await page.getByText("Replace “src/main.py”?").waitFor();
  };
  await choose();
  await page.getByRole("button", {name: "Cancel"}).click();
  await slow(1_000_000);
  await choose();
  await page.getByRole("button", {name: "Replace", exact: true}).click();
  await eventually("it shows how far it is", () => page.evaluate(() => (document.querySelector(".toast progress")?.value ?? 0) > 0));
  await page.locator(".toast").getByRole("button", {name: "Cancel"}).click();
  await page.getByText("It was cancelled.").waitFor();
  assert.equal(await content(id, "src/main.py"), "old", "all or nothing");
  await slow(-1);
  await choose();
  await page.getByRole("button", {name: "Replace", exact: true}).click();
  await page.getByText("Uploaded 3 files").waitFor();
  assert.deepEqual((await paths(id)).sort(), ["keep.txt", "src", 'src/deep "one"', 'src/deep "one"/é.txt', "src/large.bin", "src/main.py"].sort());
  assert.equal(await content(id, "src/main.py"), "new");
  assert.equal(await content(id, 'src/deep "one"/é.txt'), "é");
});

test("it saves by itself, and others' changes appear", async (t) => {
  const {page, id} = await workspaceWith(t, {"main.py": "a = 1\n"});
  await editor(page);
  await type(page, "a = 2\n");
  await page.locator(".tab.unsaved").waitFor();
  await eventually("it is saved", async () => (await content(id, "main.py")) === "a = 2\n");
  await saved(page);
  const entry = (await api("GET", `/api/workspaces/${id}/files`))[0];
  await api("PUT", "/api/files/" + entry.id, {content: "a = 3\nb = 4\n"});
  await page.locator(".view-lines").getByText("b = 4").waitFor();
});

test("two who change different lines are merged; the same line is decided by the person", async (t) => {
  const {page, id} = await workspaceWith(t, {"main.py": "one\ntwo\nthree\nfour\n"});
  await editor(page);
  const entry = (await api("GET", `/api/workspaces/${id}/files`))[0];
  // The other one saves while this page's next save is on its way.
  let theirs = null;
  await page.route("**/api/files/*", async (r) => {
    const text = theirs;
    if (text !== null && r.request().method() === "PUT") {
      theirs = null;
      await api("PUT", "/api/files/" + entry.id, {content: text});
    }
    await r.continue();
  });
  theirs = "ONE\ntwo\nthree\nfour\n";
  await type(page, "one\ntwo\nthree\nFOUR\n");
  await eventually("both are there", async () => (await content(id, "main.py")) === "ONE\ntwo\nthree\nFOUR\n");
  await saved(page);

  theirs = "theirs\ntwo\nthree\nFOUR\n";
  await type(page, "mine\ntwo\nthree\nFOUR\n");
  await page.getByText("This file was saved elsewhere while you typed.").waitFor();
  assert.equal(await content(id, "main.py"), "theirs\ntwo\nthree\nFOUR\n", "nothing is overwritten unasked");
  await page.locator(".merge .modified .view-lines").getByText("mine").waitFor();
  await page.getByRole("button", {name: "Save the right side"}).click();
  await eventually("mine is saved", async () => (await content(id, "main.py")) === "mine\ntwo\nthree\nFOUR\n");
  await saved(page);
});

test("offline: edits are kept, over a reload too, and saved when the server is back", async (t) => {
  const {page, id} = await workspaceWith(t, {"main.py": "before\n"});
  await editor(page);
  await page.route("**/api/**", (r) => r.abort());
  await type(page, "written offline\n");
  await page.getByText("The server cannot be reached.").first().waitFor();
  await page.locator(".foot").getByText("Kept here until the server is back").waitFor();
  await type(page, "written offline, twice\n");
  await page.unroute("**/api/**");
  await eventually("it is saved", async () => (await content(id, "main.py")) === "written offline, twice\n");
  await page.getByText("The server cannot be reached.").waitFor({state: "detached"});

  await page.route("**/api/files/**", (r) => (r.request().method() === "PUT" ? r.abort() : r.continue()));
  await type(page, "kept over a reload\n");
  await page.locator(".foot").getByText("Kept here until the server is back").waitFor();
  await page.unroute("**/api/files/**");
  await page.reload();
  await editor(page);
  await page.locator(".view-lines").getByText("kept over a reload").waitFor();
  await eventually("it is saved", async () => (await content(id, "main.py")) === "kept over a reload\n");
});

test("search, and replace in all files with one undo", async (t) => {
  const {page, id} = await workspaceWith(t, {"a.py": "needle = 1\nhay\n", "sub/b.py": "x = needle + needle\n", "node_modules/c.js": "needle"});
  await page.keyboard.press("Control+Shift+F");
  await page.keyboard.type("needle");
  await page.getByText("3 places in 2 files").waitFor();
  await page.locator(".hit").getByText("x = ").first().click();
  await page.getByRole("tab", {name: /b\.py/}).waitFor();
  await page.getByLabel("Replace by").fill("pin");
  await page.getByRole("button", {name: "All", exact: true}).click();
  await page.getByText("Replaced in 2 files").waitFor();
  assert.equal(await content(id, "sub/b.py"), "x = pin + pin\n");
  await page.getByRole("button", {name: "Undo"}).click();
  await eventually("it is as before", async () => (await content(id, "sub/b.py")) === "x = needle + needle\n");
});

test("search: places, patterns, what is not saved yet, and characters of more than one byte", async (t) => {
  const {page, id} = await workspaceWith(t, {"a.py": "one = 1\ntwo = 2\n", "sub/b.py": "  one = 'é😀' + one\n", "sub/c.md": "one\n"});
  const sum = (text) => page.locator(".search-sum").getByText(text, {exact: true}).waitFor();
  await row(page, "a.py").click();
  await editor(page);
  await page.route("**/api/files/*", async (r) => {
    if (r.request().method() === "PUT") await new Promise((done) => setTimeout(done, 300));
    await r.continue();
  });
  await type(page, "one = 1\nthree = one\n");
  await page.keyboard.press("Control+Shift+F");
  await page.keyboard.type("one");
  await sum("5 places in 3 files");
  await page.getByLabel("Where to search").fill("*.py, !a.py");
  await sum("2 places in 1 file");
  assert.deepEqual(await page.locator(".hit").allInnerTexts(), ["one = 'é😀' + one", "one = 'é😀' + one"]);
  assert.deepEqual(await page.locator(".hit mark").allInnerTexts(), ["one", "one"]);
  await page.locator(".hit").nth(1).click();
  await page.locator(".foot").getByText("Ln 1, Col 17").waitFor();
  await page.getByLabel("Where to search").fill("");
  await page.getByRole("button", {name: "Regular expression"}).click();
  await page.getByLabel("Search in files", {exact: true}).fill("^(\\w+) =");
  await sum("2 places in 1 file");
  await page.getByLabel("Replace by").fill("my_$1 =");
  await page.getByRole("button", {name: "All", exact: true}).click();
  await page.getByText("Replaced in 1 file", {exact: true}).waitFor();
  assert.equal(await content(id, "a.py"), "my_one = 1\nmy_three = one\n");
  await page.getByLabel("Search in files", {exact: true}).fill("(");
  await sum(/missing|parenthes/);
});

test("tabs, split, and where one was, over a reload", async (t) => {
  const lines = Array.from({length: 400}, (_, i) => "line " + (i + 1)).join("\n");
  const {page} = await workspaceWith(t, {"a.py": lines, "b.py": "b", "c.py": "c"});
  await row(page, "b.py").click();
  await row(page, "c.py").click();
  assert.equal(await page.locator(".tab").count(), 2, "the second single click takes the preview's place");
  await page.locator(".tab.preview").getByText("c.py").dblclick();
  await page.keyboard.press("Control+\\");
  assert.equal(await page.locator(".group").count(), 2);
  await page.keyboard.press("Control+P");
  await page.keyboard.type("a.py:321");
  await page.keyboard.press("Enter");
  await page.locator(".foot").getByText("Ln 321, Col 1").waitFor();
  await page.reload();
  await page.locator(".group").nth(1).locator(".view-lines").getByText("line 321").waitFor();
  assert.equal(await page.locator(".group").count(), 2);
  await page.keyboard.press("Control+1");
  await page.locator(".foot").getByText("Ln 321").waitFor();
  await page.keyboard.press("Alt+W");
  await page.keyboard.press("Alt+Shift+W");
  await page.locator(".group").nth(1).locator(".tab.current").getByText("a.py").waitFor();
});

test("a file deleted elsewhere keeps its text here", async (t) => {
  const {page, id} = await workspaceWith(t, {"main.py": "keep me\n"});
  await editor(page);
  const entry = (await api("GET", `/api/workspaces/${id}/files`))[0];
  await api("DELETE", "/api/files/" + entry.id);
  await page.getByText("This file was deleted elsewhere.").waitFor();
  await page.getByRole("button", {name: "Make it again"}).click();
  await eventually("it is there", async () => (await content(id, "main.py")) === "keep me\n");
});

test("everything is downloaded as a zip, and comes back as a workspace", async (t) => {
  const {page} = await workspaceWith(t, {"main.py": "print('packed')\n", "lib/a.py": "a = 1\n"}, {name: "to pack"});
  await editor(page);
  await page.keyboard.press("F1");
  await page.keyboard.type("download all files");
  const [download] = await Promise.all([page.waitForEvent("download"), page.keyboard.press("Enter")]);
  assert.equal(download.suggestedFilename(), "to-pack.zip");
  const zip = readFileSync(await download.path()).toString("base64");
  await page.getByRole("link", {name: "All workspaces"}).click();
  await page.locator(".drop-target").waitFor();
  await page.evaluate((data) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], "again.zip"));
    document.querySelector(".drop-target").dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
  }, zip);
  await page.locator(".workspace-name").getByText("again").waitFor();
  const id = new URL(page.url()).pathname.split("/")[2];
  t.after(() => api("DELETE", "/api/workspaces/" + id).catch(() => {}));
  assert.deepEqual((await paths(id)).sort(), ["lib", "lib/a.py", "main.py"]);
});
