// SPDX-License-Identifier: Apache-2.0
// Chromium for tests, benchmarks and screenshots: the machine's own, driven by playwright-core from the IDE's libraries.
import {existsSync} from "node:fs";
import {createRequire} from "node:module";
import {join} from "node:path";

const libraries = process.env.DEVBOX_IDE_LIBRARIES;
if (!libraries) throw new Error("DEVBOX_IDE_LIBRARIES: the folder with the IDE's node_modules");
const require = createRequire(join(libraries, "node_modules/"));
const {chromium} = require("playwright-core");
export const axeSource = require.resolve("axe-core/axe.min.js");

export const url = process.env.DEVBOX_URL;
export const key = process.env.DEVBOX_API_KEY;

export function launch() {
  const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser"].find((p) => existsSync(p));
  if (!executablePath) throw new Error("no Chromium: install Debian's package chromium");
  return chromium.launch({executablePath, args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]});
}

// A page on which every complaint counts: exceptions, console errors, and breaches of the content security policy.
export async function open(browser, options = {}) {
  const context = await browser.newContext({viewport: {width: 1440, height: 900}, colorScheme: "dark", ...options});
  await context.grantPermissions(["clipboard-read", "clipboard-write"], {origin: url});
  const page = await context.newPage();
  const complaints = [];
  page.on("pageerror", (e) => complaints.push("exception: " + e.message + "\n" + (e.stack ?? "")));
  page.on("console", (m) => {
    if (m.type() === "error" && !/Failed to load resource/.test(m.text())) complaints.push("console: " + m.text());
  });
  await page.addInitScript(() => {
    addEventListener("securitypolicyviolation", (e) => console.error("CSP: " + e.violatedDirective + " " + e.blockedURI));
  });
  page.complaints = complaints;
  return page;
}

export async function signIn(page, path = "/") {
  await page.addInitScript((k) => sessionStorage.setItem("devbox-key", k), key);
  await page.goto(url + path);
}

// The API, as the key's owner.
export async function api(method, path, body) {
  const answer = await fetch(url + path, {
    method,
    headers: {Authorization: "Bearer " + key, ...(body && {"Content-Type": "application/json"})},
    ...(body && {body: JSON.stringify(body)}),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(method + " " + path + ": " + answer.status + " " + text);
  return text ? JSON.parse(text) : null;
}
