// SPDX-License-Identifier: Apache-2.0
// The editor: names in a file, formatting, and features that come behind the first painted frame.
import assert from "node:assert/strict";
import {test} from "node:test";
import {content, editor, eventually, row, saved, type, workspaceWith} from "./story.mjs";

const CODE = `import os

class Greeter:
    def greet(self, name):
        return f"Hello, {name}"

    async def later(self):
        pass

def main():
    print(Greeter().greet("x"))

LIMIT = 5
`;

test("@ goes to a name of the file", async (t) => {
  const {page} = await workspaceWith(t, {"main.py": CODE, "notes.txt": "def no: no"});
  await editor(page);
  await page.keyboard.press("Control+P");
  await page.keyboard.type("@");
  const names = page.locator(".palette-item");
  await eventually("they are listed", async () => (await names.count()) === 5);
  assert.deepEqual((await names.allInnerTexts()).map((n) => n.split("\n")[0].trim()), ["Greeter", "greet", "later", "main", "LIMIT"]);
  await page.keyboard.type("gret");
  await page.keyboard.press("Enter");
  await page.locator(".foot").getByText("Ln 4, Col 9").waitFor();
  await page.keyboard.press("Control+Shift+O");
  await page.keyboard.type("main");
  await page.keyboard.press("Enter");
  await page.locator(".foot").getByText("Ln 10, Col 5").waitFor();
  await row(page, "notes.txt").click();
  await page.keyboard.press("Control+Shift+O");
  await page.getByText("In files of this kind no names are known.").waitFor();
});

test("typing while the features come loses nothing; then they are there", async (t) => {
  const {page, id} = await workspaceWith(t, {"main.py": ""});
  let come;
  await page.route("**/assets/features-*.js", async (r) => {
    await new Promise((done) => (come = done));
    await r.continue();
  });
  await page.reload();
  await editor(page);
  await page.locator(".monaco-editor .view-lines").click();
  await page.keyboard.type("first = 1");
  await eventually("the features are asked for", () => come);
  come();
  await page.keyboard.type("; second = 2; third = 3");
  await saved(page);
  assert.equal(await content(id, "main.py"), "first = 1; second = 2; third = 3");
  await eventually("find works", async () => {
    await page.keyboard.press("Control+F");
    return page.locator(".find-widget.visible").isVisible();
  });
  await page.keyboard.type("second");
  await page.locator(".find-widget").getByText("1 of 1").waitFor();
  await page.keyboard.press("Escape");
  await page.locator(".find-widget.visible").waitFor({state: "detached"});
  await eventually("keys go to the text again", async () => { // for who presses them within the same frame they may not
    await page.keyboard.press("End");
    const cursor = await page.locator(".cursors-layer .cursor").first().boundingBox();
    const line = await page.locator(".view-line > span").first().boundingBox();
    return cursor && line && Math.abs(cursor.x - line.x - line.width) < 5;
  });
  await page.keyboard.press("Enter");
  await page.keyboard.type("sec");
  const suggested = page.locator(".suggest-widget.visible").getByText("second");
  await suggested.waitFor();
  await eventually("it is taken", async () => !(await suggested.isVisible()) || (await page.keyboard.press("Tab"), false));
  await eventually("what was suggested is there", async () => (await content(id, "main.py")).endsWith("\nsecond"));
  await page.keyboard.press("Control+Z");
  await eventually("undo reaches back over it", async () => (await page.keyboard.press("Control+Z"), !(await page.locator(".view-lines").innerText()).includes("third")));
});

async function formats(t, path, before, after, options) {
  const {page, id} = await workspaceWith(t, {[path]: before}, options);
  await page.goto(page.url() + "?file=" + encodeURIComponent(path));
  await page.locator(".tab.current").waitFor();
  await editor(page);
  await page.locator(".group.focused .monaco-editor .view-lines").first().click();
  await page.keyboard.press("Control+S");
  await eventually("it is formatted", async () => (await content(id, path)) === after, 60_000);
  return {page, id};
}

test("Ctrl-S formats: prettier in the page, as .prettierrc says; what it cannot read stays, and is told when asked for", async (t) => {
  const {page, id} = await formats(t, "main.js", "const a = {b:1,\n c : 'x'}\n", 'const a = { b: 1, c: "x" };\n', {template: "node"});
  await page.getByRole("button", {name: "New file"}).click();
  await page.locator(".tree-edit").fill(".prettierrc");
  await page.keyboard.press("Enter");
  await type(page, '{"semi": false, "singleQuote": true, "plugins": ["./evil.js"]}');
  await saved(page);
  await row(page, "main.js").click();
  await page.locator(".tab.current").getByText("main.js").waitFor();
  await page.keyboard.press("Control+1");
  await page.keyboard.press("Alt+Shift+F");
  await eventually("by its rules", async () => (await content(id, "main.js")) === "const a = { b: 1, c: 'x' }\n");
  await type(page, "const = ;\n");
  await page.keyboard.press("Control+S");
  await saved(page);
  await page.keyboard.press("Alt+Shift+F");
  await page.getByText(/^main\.js is not formatted: .*\(1:7\)/).waitFor();
  assert.equal(await content(id, "main.js"), "const = ;\n");
});

test("Ctrl-S formats: gofmt in the sandbox", (t) => formats(t, "main.go", "package main\nfunc main( ){ println( 1 ) }\n", "package main\n\nfunc main() { println(1) }\n", {template: "go"}));

test("Ctrl-S formats: rustfmt and black in the sandbox", async (t) => {
  await formats(t, "src/main.rs", "fn main( ){println!( \"{}\",1 )}\n", "fn main() {\n    println!(\"{}\", 1)\n}\n", {template: "rust"});
  const {page, id} = await formats(t, "main.py", "x = { 'a':1 }\ndef f( ):\n  return x\n", 'x = {"a": 1}\n\n\ndef f():\n    return x\n');
  await type(page, "x = = 1\n");
  await saved(page);
  await page.keyboard.press("Alt+Shift+F");
  await page.getByText(/^main\.py is not formatted: .*[Cc]annot (?:format|parse)/).waitFor();
  assert.equal(await content(id, "main.py"), "x = = 1\n");
});
