// SPDX-License-Identifier: Apache-2.0
import solid from "vite-plugin-solid";
import {defineConfig} from "vite";

// Monaco and the editor's font are asked for while the small part is still being read.
const preloadEditor = {
  name: "preload-editor",
  transformIndexHtml: {
    order: "post",
    handler(_html, {bundle}) {
      const all = Object.values(bundle ?? {});
      const link = (attrs) => ({tag: "link", attrs, injectTo: "head"});
      const chunk = all.find((c) => c.type === "chunk" && c.name === "monaco");
      const css = all.filter((c) => /\/(?:monaco|editorState)-[^/]*\.css$/.test(c.fileName));
      const font = all.find((c) => /jetbrains-mono-latin-wght-normal/.test(c.fileName));
      return [
        ...(chunk ? [...chunk.imports.filter((f) => !f.includes("/index-")), chunk.fileName].map((f) => link({rel: "modulepreload", href: "/" + f})) : []),
        ...css.map((c) => link({rel: "preload", as: "style", crossorigin: "", href: "/" + c.fileName})),
        ...(font ? [link({rel: "preload", as: "font", type: "font/woff2", crossorigin: "", href: "/" + font.fileName})] : []),
      ];
    },
  },
};

export default defineConfig({
  plugins: [solid(), preloadEditor],
  build: {
    target: "es2022",
    assetsInlineLimit: 0, // the CSP wants files; only Monaco's own font is inlined by nobody
    chunkSizeWarningLimit: 5000,
    reportCompressedSize: false,
  },
  worker: {format: "es"},
});
