// SPDX-License-Identifier: Apache-2.0
/** Packages of a workspace, as its own installer sees them: asked in its sandbox, which reaches the registries through the cache. */
import {isObject, isString} from "../core/store";
import {aside} from "./aside";
import type {Project} from "./project";

export interface Package {
  name: string;
  version: string;
  about: string;
}

interface Manager {
  name: string;
  /** What a name is, for one who does not know. */
  example: string;
  list: string[];
  listed(out: string): Package[];
  find(name: string): string[];
  found(out: string, err: string): Package[];
  install(name: string): string;
  remove(name: string): string;
}

/** No option, nothing that a shell would look at. */
const NAME = /^@?[A-Za-z0-9][\w.~+/-]{0,213}$/;
export const isName = (name: string): boolean => NAME.test(name);

const pack = (name: unknown, version: unknown, about: unknown = ""): Package[] => (isString(name) && name ? [{name, version: isString(version) ? version : "", about: isString(about) ? about : ""}] : []);
const array = (v: unknown): unknown[] => (Array.isArray(v) ? v : []);
const json = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
};
/** "name version" a line. */
const pairs = (out: string): Package[] =>
  out.split("\n").flatMap((line) => {
    const [name, version] = line.trim().split(" ");
    return pack(name, version);
  });

const pip: Manager = {
  name: "pip",
  example: "requests",
  list: ["pip", "list", "--format=json"],
  listed: (out) => array(json(out)).flatMap((p) => (isObject(p) ? pack(p["name"], p["version"]) : [])),
  find: (name) => ["pip", "index", "versions", name],
  found: (out) => [...out.matchAll(/^(\S+) \((\S+)\)/gm)].flatMap((m) => pack(m[1], m[2])),
  // The others write down by themselves what a project needs.
  install: (name) => `pip install ${name} && { grep -qisE '^${name.replace(/[.+]/g, "\\$&")}([^A-Za-z0-9._-]|$)' requirements.txt || echo ${name} >>requirements.txt; }`,
  remove: (name) => `pip uninstall -y ${name} && { [ ! -f requirements.txt ] || sed -i -E '/^${name.replace(/[.+/]/g, "\\$&")}([^A-Za-z0-9._-]|$)/Id' requirements.txt; }`,
};
const npm: Manager = {
  name: "npm",
  example: "express",
  list: ["npm", "ls", "--depth=0", "--json"],
  listed: (out) => {
    const doc = json(out);
    const all = isObject(doc) && isObject(doc["dependencies"]) ? doc["dependencies"] : {};
    return Object.entries(all).flatMap(([name, p]) => (isObject(p) ? pack(name, p["version"]) : []));
  },
  // Not every registry can be searched: then the name is looked up.
  find: (name) => ["sh", "-c", 'found=$(npm search --json --searchlimit=20 "$1" 2>/dev/null) && printf %s "$found" || npm view "$1" name version description --json', "sh", name],
  found: (out) => [json(out)].flat().flatMap((p) => (isObject(p) ? pack(p["name"], p["version"], p["description"]) : [])),
  install: (name) => "npm install " + name,
  remove: (name) => "npm uninstall " + name,
};
const MODULE = "[ -f go.mod ] || go mod init workspace";
const go: Manager = {
  name: "go get",
  example: "github.com/spf13/cobra",
  list: ["sh", "-c", "[ ! -f go.mod ] || exec go list -m -f '{{if not .Main}}{{.Path}} {{.Version}}{{end}}' all"],
  listed: pairs,
  find: (name) => ["sh", "-c", 'cd "$(mktemp -d)" && go mod init find 2>/dev/null && exec go list -m -f "{{.Path}} {{.Version}}" "$1@latest"', "sh", name],
  found: pairs,
  install: (name) => `{ ${MODULE}; } && go get ${name}@latest`,
  remove: (name) => `go get ${name}@none`,
};
const cargo: Manager = {
  name: "cargo",
  example: "serde",
  list: ["sh", "-c", "[ ! -f Cargo.toml ] || exec cargo metadata --no-deps --format-version=1"],
  listed: (out) => {
    const doc = json(out);
    const packages = isObject(doc) ? array(doc["packages"]) : [];
    return packages.flatMap((p) => (isObject(p) ? array(p["dependencies"]) : [])).flatMap((d) => (isObject(d) ? pack(d["name"], d["req"]) : []));
  },
  find: (name) => ["cargo", "add", "--dry-run", name],
  found: (_out, err) => [...err.matchAll(/Adding (\S+) v(\S+) to/g)].flatMap((m) => pack(m[1], m[2])),
  install: (name) => "cargo add " + name + " && cargo fetch",
  remove: (name) => "cargo remove " + name,
};
const MANAGERS: Record<string, Manager> = {python: pip, node: npm, go, rust: cargo};

export const managerOf = (project: Project): Manager | undefined => MANAGERS[project.info().template];

const lastLine = (text: string): string => text.trim().split("\n").pop()?.slice(0, 300) ?? "";

/** Rejects with words. */
export async function installed(project: Project): Promise<Package[]> {
  const m = managerOf(project);
  if (!m) return [];
  const a = await aside(project, m.list);
  const list = m.listed(a.out);
  // npm tells of missing ones by its exit code, and lists the others.
  if (a.problem || (a.exitCode !== 0 && !list.length && json(a.out) === null)) throw new Error(a.problem || lastLine(a.err) || m.name + " does not answer.");
  return list.sort((x, y) => x.name.localeCompare(y.name));
}

export async function search(project: Project, name: string): Promise<Package[]> {
  const m = managerOf(project);
  if (!m) return [];
  const a = await aside(project, m.find(name));
  if (a.problem) throw new Error(a.problem);
  return m.found(a.out, a.err);
}
