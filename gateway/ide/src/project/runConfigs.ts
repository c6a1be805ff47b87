// SPDX-License-Identifier: Apache-2.0
/** Run configurations: a file of the workspace, so that everybody has the same ones. */
import {isObject, isString} from "../core/store";
import {commandOfFile, STARTERS} from "./starters";

export const CONFIG_PATH = ".devbox/run.json";

export interface RunConfig {
  name: string;
  command: string;
}

/** The configurations of a text; a problem in words where it has none. */
export function readConfigs(text: string): {configs: RunConfig[]; problem: string} {
  let v: unknown;
  try {
    v = JSON.parse(text);
  } catch {
    return {configs: [], problem: CONFIG_PATH + " is not JSON."};
  }
  const list = isObject(v) ? v["configurations"] : undefined;
  if (!Array.isArray(list)) return {configs: [], problem: CONFIG_PATH + " has no “configurations”."};
  const configs: RunConfig[] = [];
  for (const c of list.slice(0, 50))
    if (isObject(c) && isString(c["name"]) && isString(c["command"]) && c["name"] && c["command"]) configs.push({name: c["name"], command: c["command"]});
  return configs.length ? {configs, problem: ""} : {configs, problem: CONFIG_PATH + " has no configuration with a name and a command."};
}

export const writeConfigs = (configs: RunConfig[]): string => JSON.stringify({configurations: configs}, null, 2) + "\n";

/** Where there is no file: the template's way. */
export function defaultConfigs(template: string): RunConfig[] {
  const command = STARTERS[template]?.command;
  return command ? [{name: "Run " + (STARTERS[template]?.open.split("/").pop() ?? "project"), command}] : [];
}

export {commandOfFile};
