// SPDX-License-Identifier: Apache-2.0
// Opens a workspace and measures until the editor is painted: time and bytes, with an empty cache and again with a full one.
import {api, key, url} from "./browser.mjs";

export const PROGRAM = Array.from({length: 120}, (_, i) => `def f${i}(x: int) -> str:\n    """Number ${i}."""\n    return f"{x} {${i}}"\n\n`).join("");

async function painted(page) {
  return page.evaluate(
    () =>
      new Promise((resolve) => {
        const look = () => {
          if (document.querySelector(".monaco-editor .view-line .mtk1, .monaco-editor .view-line span span")?.textContent) requestAnimationFrame(() => setTimeout(() => resolve(performance.now())));
          else setTimeout(look, 4);
        };
        look();
      }),
  );
}

async function warmed(page) {
  const times = [];
  for (let i = 0; i < 3; i++) {
    await page.reload();
    times.push(await painted(page));
  }
  return times.sort((a, b) => a - b)[1];
}

const fetched = (page) =>
  page.evaluate(() => ["navigation", "resource"].flatMap((kind) => performance.getEntriesByType(kind).map((e) => ({name: new URL(e.name).pathname, bytes: e.transferSize}))));

// A page that shows an editor and nothing else.
export async function measureBare(browser, address) {
  const context = await browser.newContext({viewport: {width: 1440, height: 900}});
  try {
    const page = await context.newPage();
    await page.goto(address, {waitUntil: "commit"});
    const cold = await painted(page);
    await page.waitForLoadState("networkidle");
    const bytes = (await fetched(page)).reduce((n, f) => n + f.bytes, 0);
    return {cold, warm: await warmed(page), bytes};
  } finally {
    await context.close();
  }
}

export async function measure(browser, {network} = {}) {
  const w = await api("POST", "/api/workspaces", {name: "loading", template: "python"});
  await api("POST", `/api/workspaces/${w.id}/files`, {path: "main.py", content: PROGRAM});
  const context = await browser.newContext({viewport: {width: 1440, height: 900}});
  try {
    const page = await context.newPage();
    await page.addInitScript((k) => sessionStorage.setItem("devbox-key", k), key);
    const debug = await context.newCDPSession(page);
    if (network) {
      await debug.send("Network.enable");
      await debug.send("Network.emulateNetworkConditions", {offline: false, latency: network.latency, downloadThroughput: network.bytes, uploadThroughput: network.bytes});
    }
    await page.goto(url + "/w/" + w.id, {waitUntil: "commit"});
    const cold = await painted(page);
    await page.locator(".view-lines").click();
    await page.keyboard.type("x = 1");
    await page.locator(".foot").getByText("Saved", {exact: true}).waitFor();
    const files = await fetched(page);
    for (const worker of page.workers()) {
      const answer = await fetch(worker.url(), {method: "HEAD", headers: {"Accept-Encoding": "br"}});
      const name = new URL(worker.url()).pathname;
      if (!files.some((f) => f.name === name)) files.push({name, bytes: Number(answer.headers.get("content-length"))});
    }
    const bytes = files.reduce((n, f) => n + f.bytes, 0);
    return {cold, warm: await warmed(page), bytes, files: files.sort((a, b) => b.bytes - a.bytes).slice(0, 30)};
  } finally {
    await context.close();
    await api("DELETE", "/api/workspaces/" + w.id);
  }
}
