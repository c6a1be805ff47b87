// SPDX-License-Identifier: Apache-2.0
import solid from "vite-plugin-solid";
import {defineConfig} from "vite";

// Monaco is asked for while the small part is still being read.
const preloadEditor = {
  name: "preload-editor",
  transformIndexHtml: {
    order: "post",
    handler(_html, {bundle}) {
      const chunk = Object.values(bundle ?? {}).find((c) => c.type === "chunk" && c.name === "monaco");
      return chunk ? [{tag: "link", attrs: {rel: "modulepreload", href: "/" + chunk.fileName}, injectTo: "head"}] : [];
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
