// SPDX-License-Identifier: Apache-2.0
/** Formats by the formatter of the template's image, where it has one: it writes the file in the sandbox, and what it printed is taken. */
import * as api from "../net/api";
import {extension} from "../core/path";
import type {Document} from "../project/document";
import type {Project} from "../project/project";
import {STARTERS} from "../project/starters";

export async function formatActive(project: Project, d: Document): Promise<void> {
  const format = STARTERS[project.info().template]?.format;
  if (!format?.extensions.includes(extension(d.path())) || project.readOnly) return;
  const before = d.buffer.get();
  const text = await formatted(project, ["gofmt", d.path()]).catch(() => null);
  if (text === null || text === "" || text === before || d.buffer.get() !== before) return;
  d.buffer.set(text);
  d.edited();
  await d.save();
}

/** What the command prints, or null when it fails (a syntax error is no reason not to save). */
function formatted(project: Project, command: string[]): Promise<string | null> {
  return api.run(project.id, {command}).then(
    (ref) =>
      new Promise((resolve) => {
        let out = "";
        const leave = project.transport.follow(ref, {
          output: (stream, data) => {
            if (stream === "stdout" && typeof data === "string") out += data;
          },
          running: () => undefined,
          reset: () => (out = ""),
          gap: () => resolve(null),
          failed: () => resolve(null),
          ended: (end) => {
            leave();
            resolve(end.verdict === "OK" ? out : null);
          },
        });
      }),
  );
}
