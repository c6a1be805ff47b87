// SPDX-License-Identifier: Apache-2.0
// What the first edit costs: every byte that comes before it, as it comes.
import assert from "node:assert/strict";
import {test} from "node:test";
import {measure} from "./loading.mjs";
import {launch} from "./browser.mjs";

const BUDGET = 1_100_000;

test("at most 1.1 MB to the first edit", async (t) => {
  const browser = await launch();
  t.after(() => browser.close());
  const {bytes, files} = await measure(browser);
  t.diagnostic(`${bytes} bytes, ${files.length} files; the largest: ${files.slice(0, 5).map((f) => f.name + " " + f.bytes).join(", ")}`);
  assert.ok(bytes <= BUDGET, bytes + " bytes");
});
