// SPDX-License-Identifier: Apache-2.0
// The pure parts of the IDE, in Node alone: this Node reads TypeScript as it stands.
import assert from "node:assert/strict";
import {registerHooks} from "node:module";
import {test} from "node:test";
import {deflateRawSync} from "node:zlib";

registerHooks({
  resolve: (name, context, next) => next(/^\.\.?\//.test(name) && !/\.\w+$/.test(name) ? name + ".ts" : name, context),
});
const from = (name) => import("../../gateway/ide/src/core/" + name + ".ts");
const {AnsiLines, textOf} = await from("ansi");
const {merge, difference} = await from("merge");
const {fuzzy} = await from("fuzzy");
const {findLinks} = await from("links");
const {readProblems} = await from("problems");
const {pathProblem, freeName} = await from("path");
const {readZip} = await from("zip");
const {Modes} = await from("modes");
const {symbolsOf} = await from("symbols");

function lines(...chunks) {
  const all = [];
  const ansi = new AnsiLines("stdout", (l) => all.push(l), () => {});
  for (const c of chunks) ansi.write(c);
  return all;
}

test("ANSI: text, colours, carriage returns", () => {
  assert.deepEqual(lines("a\nb\r\nc").map(textOf), ["a", "b", "c"]);
  assert.deepEqual(lines("10%\r20%\r100%\ndone\n").map(textOf), ["100%", "done"]);
  const [line] = lines("x\x1b[1;31mred\x1b[0m\x1b[38;5;196mbright\x1b[48;2;0;0;200mblue");
  assert.deepEqual(line.spans.map((s) => [s.text, s.style]), [["x", ""], ["red", "fg-1 bold"], ["bright", "fg-9"], ["blue", "fg-9 bg-4"]]);
});

test("ANSI: cut anywhere it is the same; nothing but text comes out", () => {
  const whole = "one\x1b[32mtwo\x1b]52;c;cHduZWQ=\x07three\x1b]8;;http://x\x1b\\four\x1b[0m\x1b(B\n\x1bP1$r\x1b\\five\x9b\x00\n";
  const wanted = lines(whole);
  assert.deepEqual(wanted.map(textOf), ["onetwothreefour", "five"]);
  for (let i = 0; i <= whole.length; i++) assert.deepEqual(lines(whole.slice(0, i), whole.slice(i)), wanted, "cut at " + i);
  for (let round = 0; round < 300; round++) {
    const junk = Array.from({length: 60}, () => "\x1b[]P;m\x07\\\n\r8a0:".charAt(Math.random() * 16)).join("");
    for (const l of lines(junk, junk)) assert.doesNotMatch(textOf(l), /[\x00-\x1f\x7f]/);
  }
});

test("ANSI: an escape without an end costs only itself", () => {
  assert.equal(lines("a\x1b]0;" + "x".repeat(9000) + "\nafter\n").map(textOf).at(-1), "after");
  assert.ok(lines("y".repeat(10_000)).every((l) => textOf(l).length <= 2000));
});

test("merge: like people would, for any two edits", () => {
  assert.equal(merge("a\nb\nc", "A\nb\nc", "a\nb\nC"), "A\nb\nC");
  assert.equal(merge("a\nb\nc", "x\nb\nc", "y\nb\nc"), null);
  assert.equal(merge("a\nb\nc", "a\nc", "a\nb\nc\nd"), "a\nc\nd");
  assert.equal(merge("a", "a\nb", "a\nb"), "a\nb");
  const random = (n) => Math.floor(Math.random() * n);
  const edit = (text, range) => {
    const l = [...text];
    const at = range[0] + random(range[1] - range[0]);
    l.splice(at, random(2), ...Array.from({length: random(3)}, () => "new" + random(1000)));
    return l;
  };
  for (let round = 0; round < 2000; round++) {
    const base = Array.from({length: 12}, (_, i) => "line" + (random(3) ? i : 0));
    const mine = edit(base, [0, 4]);
    const theirs = edit(base, [8, 12]);
    const both = merge(base.join("\n"), mine.join("\n"), theirs.join("\n"));
    if (both === null) continue; // too alike to tell: the person decides
    const got = both.split("\n");
    assert.equal(got.length, mine.length + theirs.length - base.length);
    assert.equal(merge(base.join("\n"), theirs.join("\n"), mine.join("\n")), both, "either way round");
  }
});

test("difference is the smallest stretch", () => {
  assert.deepEqual(difference("hello world", "hello there world"), {from: 6, to: 6, text: "there "});
  assert.equal(difference("same", "same"), null);
  for (let round = 0; round < 500; round++) {
    const word = () => Array.from({length: Math.random() * 8}, () => "ab"[Math.floor(Math.random() * 2)]).join("");
    const [a, b] = [word(), word()];
    const d = difference(a, b);
    assert.equal(d ? a.slice(0, d.from) + d.text + a.slice(d.to) : a, b);
  }
});

test("places and problems in output", () => {
  const exists = (p) => ["main.py", "src/main.rs", "main.go", "lib/a.js"].includes(p);
  assert.deepEqual(findLinks('  File "/workspace/main.py", line 3, in f', exists).map((l) => [l.path, l.line]), [["main.py", 3]]);
  assert.deepEqual(findLinks("./main.go:4:2: x, lib/a.js:9 and /etc/passwd:1", exists).map((l) => [l.path, l.line, l.column]), [["main.go", 4, 2], ["lib/a.js", 9, 1]]);
  const text = [
    "Traceback (most recent call last):", '  File "/workspace/main.py", line 7, in <module>', "ZeroDivisionError: division by zero",
    "./main.go:4:2: undefined: x",
    "error[E0425]: cannot find value `y` in this scope", " --> src/main.rs:2:5",
    "ReferenceError: z is not defined", "    at Object.<anonymous> (/workspace/lib/a.js:5:3)",
  ];
  assert.deepEqual(readProblems(text, exists).map((p) => `${p.path}:${p.line}:${p.column} ${p.message}`), [
    "main.py:7:1 ZeroDivisionError: division by zero", "main.go:4:2 undefined: x",
    "src/main.rs:2:5 cannot find value `y` in this scope", "lib/a.js:5:3 ReferenceError: z is not defined",
  ]);
});

test("fuzzy: words' beginnings before letters anywhere", () => {
  const best = (q, list) => list.map((t) => [t, fuzzy(q, t)?.score ?? -Infinity]).sort((a, b) => b[1] - a[1])[0][0];
  assert.equal(best("main", ["domain.py", "src/main.py"]), "src/main.py");
  assert.equal(best("fb", ["fob.py", "foo_bar.py"]), "foo_bar.py");
  assert.equal(fuzzy("zz", "abc"), null);
});

test("paths", () => {
  for (const bad of ["", "/a", "a/../b", "a//b", ".", "a\0"]) assert.notEqual(pathProblem(bad), "", bad);
  assert.equal(pathProblem("a/b c/ü.txt"), "");
  assert.equal(freeName("a.txt", (p) => p === "a.txt"), "a 2.txt");
});

// A zip of these files; lies, where told, about the size.
function zip(files, {size} = {}) {
  const parts = [];
  const central = [];
  let at = 0;
  for (const [path, text] of Object.entries(files)) {
    const name = Buffer.from(path);
    const packed = deflateRawSync(text);
    const head = Buffer.alloc(30);
    head.writeUInt32LE(0x04034b50);
    head.writeUInt16LE(name.length, 26);
    const entry = Buffer.alloc(46);
    entry.writeUInt32LE(0x02014b50);
    entry.writeUInt16LE(8, 10);
    entry.writeUInt32LE(packed.length, 20);
    entry.writeUInt32LE(size ?? text.length, 24);
    entry.writeUInt16LE(name.length, 28);
    entry.writeUInt32LE(at, 42);
    parts.push(head, name, packed);
    central.push(entry, name);
    at += 30 + name.length + packed.length;
  }
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50);
  end.writeUInt16LE(Object.keys(files).length, 10);
  end.writeUInt32LE(at, 16);
  const all = Buffer.concat([...parts, ...central, end]);
  return all.buffer.slice(all.byteOffset, all.byteOffset + all.length);
}

test("zip: read, and refused when it lies", async () => {
  const got = await readZip(zip({"proj/main.py": "print(1)", "proj/a/b.txt": "x".repeat(5000)}));
  assert.deepEqual(got.map((f) => [f.path, f.data.length]), [["main.py", 8], ["a/b.txt", 5000]]);
  await assert.rejects(readZip(zip({"../evil": "x"})), /leads out/);
  await assert.rejects(readZip(zip({"/abs": "x"})), /leads out/);
  await assert.rejects(readZip(zip({bomb: "x".repeat(100_000)}, {size: 10})), /larger than it says/);
  await assert.rejects(readZip(zip({big: "x"}, {size: 64 << 20})), /32 MB/);
  await assert.rejects(readZip(new ArrayBuffer(5)), /no zip/);
  const cut = zip({"a.txt": "hello"});
  for (let i = 0; i < cut.byteLength; i++) await readZip(cut.slice(0, i)).catch((e) => assert.ok(e instanceof Error));
});

test("modes of a terminal: what holds, as the escapes that set it", () => {
  const m = new Modes();
  assert.equal(m.prefix(), "");
  m.set([1049], true);
  m.set([25, 2004, 12, [4, 3]], false);
  m.set([1000, 1006], true);
  assert.equal(m.prefix(), "\x1b[?1049h\x1b[?25l\x1b[?1000h\x1b[?1006h");
  assert.ok(m.fullScreen);
  const n = new Modes();
  n.restore(m.prefix() + "\x1b]52;c;aGk=\x07rm -rf /\n\x1b[?9999h");
  assert.equal(n.prefix(), m.prefix());
  n.set([1047], false);
  n.set([25], true);
  assert.equal(n.prefix(), "\x1b[?1000h\x1b[?1006h");
  assert.ok(!n.fullScreen);
});

test("names that a text defines, by language", () => {
  const names = (language, text) => symbolsOf(text, language).map((s) => s.kind + " " + s.name + ":" + s.line + ":" + s.column);
  assert.deepEqual(names("go", "package x\ntype T struct{}\nfunc (t *T) Do() {}\nfunc main() {\n}\nvar a = 1"), ["type T:2:6", "function Do:3:13", "function main:4:6", "variable a:6:5"]);
  assert.deepEqual(names("rust", "pub struct P<T> {}\nimpl<T> Show for P<T> where T: Copy {\n    pub async fn go(&self) {}\n}\nmacro_rules! m {}\nconst N: u8 = 1;"), ["struct P:1:12", "impl Show for P<T>:2:9", "function go:3:18", "macro m:5:14", "variable N:6:7"]);
  assert.deepEqual(names("typescript", "export async function f<T>() {}\nexport const g = async (a: number): Promise<void> => {};\nclass C {\n  private async m(x: string): Promise<void> {\n    if (x) {\n    }\n  }\n}\ninterface I {}\nlet v = 1;"), ["function f:1:23", "function g:2:14", "class C:3:7", "method m:4:17", "interface I:9:11", "variable v:10:5"]);
  assert.deepEqual(names("markdown", "# One\ntext\n## Two ##\n"), ["heading One:1:3", "heading Two:3:4"]);
  assert.deepEqual(names("plaintext", "def x(): pass"), []);
  const began = performance.now();
  for (const language of ["python", "typescript", "go", "rust", "markdown", "css", "shell", "yaml", "toml", "html"])
    for (const line of ["(".repeat(500), "a ".repeat(250), "<".repeat(500), " ".repeat(499) + "x", "const " + "(".repeat(490), "impl" + " a".repeat(240), "# " + "# ".repeat(240)]) symbolsOf((line + "\n").repeat(200), language);
  assert.ok(performance.now() - began < 30_000, "no line takes long");
});
