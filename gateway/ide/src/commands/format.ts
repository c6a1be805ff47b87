// SPDX-License-Identifier: Apache-2.0
/** Formats a file: by the formatter of the template's image, which reads the file in the sandbox and prints what it is to be; what the web
 *  is written in, by Prettier in the page. */
import * as api from "../net/api";
import {extension} from "../core/path";
import {aside} from "../project/aside";
import type {Document} from "../project/document";
import type {Project} from "../project/project";
import {FORMATTERS} from "../project/starters";

const PRETTIER = new Set(["js", "mjs", "cjs", "jsx", "ts", "mts", "cts", "tsx", "css", "html", "htm", "json", "md", "yaml", "yml"]);
const MAX_TEXT = 512 << 10;
const COMMAND_NOT_FOUND = 127;

/** What came of it, in words; "" when the file is formatted. */
export async function formatActive(project: Project, d: Document): Promise<string> {
  const ext = extension(d.path());
  const formatter = FORMATTERS[ext];
  if (project.readOnly) return "You may look at this workspace, not change it.";
  if (!formatter && !PRETTIER.has(ext)) return "There is no formatter for this kind of file.";
  const before = d.buffer.get();
  if (before.length > MAX_TEXT) return "The file is too large to format.";
  const got = formatter ? await bySandbox(project, d.path(), formatter) : await byPrettier(project, d.path(), before);
  if (got.problem) return got.problem;
  if (d.buffer.get() !== before) return "It was changed meanwhile, and is as it was.";
  if (got.text === before || !got.text) return "";
  d.buffer.set(got.text);
  d.edited();
  await d.save();
  return "";
}

interface Result {
  text: string;
  problem: string;
}

async function byPrettier(project: Project, path: string, text: string): Promise<Result> {
  try {
    const {formatted} = await import("../editor/prettier");
    const config = project.files.byPath().get(".prettierrc") ?? project.files.byPath().get(".prettierrc.json");
    const rules = config ? (await api.readFile(config.id)).content : "";
    return {text: await formatted(path, text, typeof rules === "string" ? rules : ""), problem: ""};
  } catch (e) {
    return {text: "", problem: firstLine(e instanceof Error ? e.message : String(e))};
  }
}

const firstLine = (text: string): string => text.trim().split("\n")[0]?.slice(0, 200) ?? "";

async function bySandbox(project: Project, path: string, formatter: {name: string; command: string[]}): Promise<Result> {
  const [name, ...args] = formatter.command;
  const a = await aside(project, ["sh", "-c", 'f=$1; shift; exec "$@" <"$f"', "sh", path, name!, ...args]);
  if (a.problem) return {text: "", problem: a.problem};
  if (a.exitCode === 0) return {text: a.out, problem: ""};
  const none = a.exitCode === COMMAND_NOT_FOUND;
  return {text: "", problem: none ? "This workspace's template has no " + formatter.name + "." : firstLine(a.err) || formatter.name + " did not take it."};
}
