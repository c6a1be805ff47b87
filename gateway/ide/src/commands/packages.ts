// SPDX-License-Identifier: Apache-2.0
/** Installing and removing: the installer itself, in a terminal of its own. */
import {register} from "../core/commands";
import {isString} from "../core/store";
import {project} from "../app";
import {isName, managerOf} from "../project/packages";
import {ask} from "../ui/dialog";
import {setPackagesChanged} from "../ui/packages";
import {showPanel} from "./run";

const possible = () => project() !== null && !project()!.readOnly && managerOf(project()!) !== undefined;

async function act(what: "install" | "remove", arg: unknown): Promise<void> {
  const p = project()!;
  const manager = managerOf(p)!;
  const title = what === "install" ? "Install a package" : "Remove a package";
  const check = (v: string) => (isName(v.trim()) ? "" : "Such as " + manager.example);
  const name = isString(arg) ? arg : (await ask({title, value: "", ok: title.split(" ")[0]!, check}))?.trim();
  if (!name || !isName(name)) return;
  await p.flush();
  showPanel("terminal");
  p.terminals.open({name: manager.name + ": " + name, first: {command: manager[what](name), ended: () => setPackagesChanged((n) => n + 1)}});
}

register([
  {id: "packages.install", title: "Install a package", category: "Packages", when: possible, run: (arg) => act("install", arg)},
  {id: "packages.remove", title: "Remove a package", category: "Packages", when: possible, run: (arg) => act("remove", arg)},
]);
