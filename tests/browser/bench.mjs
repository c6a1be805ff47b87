// SPDX-License-Identifier: Apache-2.0
// For `./devbox bench ide`: time to the painted editor and bytes, ours and those of Monaco as its package ships it, alone on a page.
import {readFileSync} from "node:fs";
import {createServer} from "node:http";
import {join, normalize} from "node:path";
import {gzipSync} from "node:zlib";
import {launch} from "./browser.mjs";
import {measure, measureBare, PROGRAM} from "./loading.mjs";

const MONACO = join(process.env.DEVBOX_IDE_LIBRARIES, "node_modules/monaco-editor/min");
const PAGE = `<!doctype html><link rel="stylesheet" href="/vs/editor/editor.main.css"><div id="e" style="height: 800px"></div>
<script src="/vs/loader.js"></script><script>
require.config({paths: {vs: "/vs"}});
require(["vs/editor/editor.main"], (m) => m.editor.create(document.getElementById("e"), {language: "python", value: ${JSON.stringify(PROGRAM)}}));
</script>`;
const TYPES = {js: "text/javascript", css: "text/css", ttf: "font/ttf"};

function serve() {
  const packed = new Map();
  const server = createServer((q, a) => {
    const path = normalize(new URL(q.url, "http://x").pathname);
    try {
      if (!packed.has(path)) packed.set(path, gzipSync(path === "/" ? PAGE : readFileSync(join(MONACO, path))));
      const type = path === "/" ? "text/html" : (TYPES[path.split(".").pop()] ?? "application/octet-stream");
      a.writeHead(200, {"Content-Type": type, "Content-Encoding": "gzip", "Cache-Control": path === "/" ? "no-cache" : "max-age=31536000, immutable"});
      a.end(packed.get(path));
    } catch {
      a.writeHead(404).end();
    }
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

const rounds = Number(process.env.DEVBOX_ROUNDS) || 5;
const server = await serve();
const bare = "http://127.0.0.1:" + server.address().port + "/";
const browser = await launch();
try {
  await measureBare(browser, bare); // the files are packed now
  await measure(browser);
  for (let i = 0; i < rounds; i++) console.log(JSON.stringify({ours: await measure(browser), other: await measureBare(browser, bare)}));
} finally {
  await browser.close();
  server.close();
}
