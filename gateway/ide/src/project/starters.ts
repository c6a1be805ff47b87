// SPDX-License-Identifier: Apache-2.0
/** What a new workspace of a template begins with. */
export interface Starter {
  description: string;
  /** Opened first. */
  open: string;
  files: Record<string, string>;
  /** The command of Run where the workspace has no configuration of its own. */
  command: string;
}

const PYTHON = `"""A small greeter: change it, then press Run (Ctrl+Enter)."""

import sys


def greet(name: str) -> str:
    return f"Hello, {name}!"


def main() -> None:
    print("What is your name?")
    for line in sys.stdin:
        print(greet(line.strip()))


if __name__ == "__main__":
    main()
`;

const NODE = `// A small greeter: change it, then press Run (Ctrl+Enter).
const readline = require("node:readline");

function greet(name) {
  return \`Hello, \${name}!\`;
}

console.log("What is your name?");
const input = readline.createInterface({input: process.stdin});
input.on("line", (line) => console.log(greet(line.trim())));
`;

const GO = `// A small greeter: change it, then press Run (Ctrl+Enter).
package main

import (
	"bufio"
	"fmt"
	"os"
)

func greet(name string) string {
	return fmt.Sprintf("Hello, %s!", name)
}

func main() {
	fmt.Println("What is your name?")
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		fmt.Println(greet(input.Text()))
	}
}
`;

const RUST = `// A small greeter: change it, then press Run (Ctrl+Enter).
use std::io::{self, BufRead};

fn greet(name: &str) -> String {
    format!("Hello, {name}!")
}

fn main() {
    println!("What is your name?");
    for line in io::stdin().lock().lines() {
        println!("{}", greet(line.unwrap().trim()));
    }
}
`;

export const STARTERS: Record<string, Starter> = {
  python: {
    description: "Scripts, data, first steps",
    open: "main.py",
    files: {"main.py": PYTHON},
    command: "python3 main.py",
  },
  node: {
    description: "Servers, tools, pages",
    open: "main.js",
    files: {"main.js": NODE, "package.json": '{\n  "name": "app",\n  "private": true,\n  "main": "main.js"\n}\n'},
    command: "node main.js",
  },
  go: {
    description: "Quick and concurrent",
    open: "main.go",
    files: {"main.go": GO, "go.mod": "module app\n\ngo 1.24\n"},
    command: "go build -o /tmp/app . && exec /tmp/app",
  },
  rust: {
    description: "Safe and fast",
    open: "src/main.rs",
    files: {"src/main.rs": RUST, "Cargo.toml": '[package]\nname = "app"\nversion = "0.1.0"\nedition = "2021"\n\n[dependencies]\n'},
    command: "cargo run --quiet --offline",
  },
};

/** What formats a file of that extension: it is given the text, and prints it. */
export const FORMATTERS: Record<string, {name: string; command: string[]}> = {
  py: {name: "black", command: ["black", "--quiet", "-"]},
  go: {name: "gofmt", command: ["gofmt"]},
  rs: {name: "rustfmt", command: ["rustfmt", "--quiet", "--edition", "2021"]},
};

/** How one file is run by itself. */
export function commandOfFile(path: string): string {
  const quoted = "'" + path.replaceAll("'", "'\\''") + "'";
  const by: [RegExp, string][] = [
    [/\.py$/, "python3 " + quoted],
    [/\.[cm]?js$/, "node " + quoted],
    [/\.go$/, "go run " + quoted],
    [/\.rs$/, "rustc --edition=2021 -o /tmp/one " + quoted + " && exec /tmp/one"],
    [/\.sh$/, "sh " + quoted],
  ];
  return by.find(([pattern]) => pattern.test(path))?.[1] ?? "";
}
