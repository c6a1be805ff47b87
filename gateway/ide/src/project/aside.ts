// SPDX-License-Identifier: Apache-2.0
/** A short command in the workspace's sandbox beside what the user runs: what it wrote, and how it ended. */
import * as api from "../net/api";
import {words} from "../net/http";
import type {Project} from "./project";

export interface Answer {
  out: string;
  err: string;
  /** null: a signal or a limit ended it. */
  exitCode: number | null;
  /** Why there is no answer, in words; "": there is one. */
  problem: string;
}

export function aside(project: Project, command: string[]): Promise<Answer> {
  const answer: Answer = {out: "", err: "", exitCode: null, problem: ""};
  return api.run(project.id, {command}).then(
    (ref) =>
      new Promise((resolve) => {
        const finish = (problem: string) => {
          leave();
          resolve({...answer, problem});
        };
        const leave = project.transport.follow(ref, {
          output: (stream, data) => {
            if (typeof data !== "string") return;
            if (stream === "stdout") answer.out += data;
            else answer.err += data;
          },
          running: () => undefined,
          reset: () => (answer.out = answer.err = ""),
          gap: () => finish("What it wrote is lost."),
          failed: finish,
          delayed: () => undefined,
          ended: (end) => {
            answer.exitCode = end.exitCode;
            finish("");
          },
        });
      }),
    (e: unknown) => ({...answer, problem: words(e)}),
  );
}
