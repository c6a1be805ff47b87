// SPDX-License-Identifier: Apache-2.0
import solid from "vite-plugin-solid";
import {defineConfig} from "vite";

export default defineConfig({
  plugins: [solid()],
  build: {
    target: "es2022",
    assetsInlineLimit: 0, // the CSP wants files; only Monaco's own font is inlined by nobody
    chunkSizeWarningLimit: 5000,
    reportCompressedSize: false,
  },
  worker: {format: "es"},
});
