// The try-it page: one program, its output as it comes, and how it ended, in words.
"use strict";

const $ = (id) => document.getElementById(id);
const MAX_SHOWN = 400000; // characters; the beginning goes when there is more
const LIMITS = {cpu_ms: 10000, wall_ms: 30000, memory_mb: 256, output_bytes: 16777216, processes: 64, disk_mb: 256};

const SAMPLES = {
  python: 'import sys\n\nprint("Hello from", sys.implementation.name, sys.version.split()[0])\nfor line in sys.stdin:\n    print("you said:", line.rstrip())\n',
  node: 'console.log(`Hello from Node ${process.version}`);\nprocess.stdin.on("data", (d) => process.stdout.write("you said: " + d));\n',
  go: 'package main\n\nimport (\n\t"bufio"\n\t"fmt"\n\t"os"\n\t"runtime"\n)\n\nfunc main() {\n\tfmt.Println("Hello from", runtime.Version())\n\tin := bufio.NewScanner(os.Stdin)\n\tfor in.Scan() {\n\t\tfmt.Println("you said:", in.Text())\n\t}\n}\n',
  rust: 'use std::io::{self, BufRead};\n\nfn main() {\n    println!("Hello from Rust");\n    for line in io::stdin().lock().lines() {\n        println!("you said: {}", line.unwrap());\n    }\n}\n',
};

let templates = [];
let ever = false; // a key was good once
let drafts = {};  // what was edited, by template
let current = ""; // template shown
let run = null;   // the execution that is shown: {id, process, sandbox, token, last, ended, tries}

const words = {
  OK: () => "Finished.",
  EXIT_CODE: (m) => `Ended with exit code ${m.exit_code}.`,
  SIGNAL: (m) => `Ended by ${m.signal}.`,
  TIME_LIMIT: () => `Stopped at the ${LIMITS.cpu_ms / 1000} s CPU limit.`,
  WALL_LIMIT: () => `Stopped after ${LIMITS.wall_ms / 1000} s, the limit of time.`,
  MEMORY_LIMIT: () => `Stopped at the ${LIMITS.memory_mb} MB memory limit.`,
  OUTPUT_LIMIT: () => `Stopped at the ${LIMITS.output_bytes / 1048576} MB output limit.`,
  PROCESS_LIMIT: () => `Failed at the limit of ${LIMITS.processes} processes.`,
  DISK_LIMIT: () => `Failed: its ${LIMITS.disk_mb} MB of disk were full.`,
  COMPILE_ERROR: () => "It did not compile.",
  CANCELLED: () => "Stopped by you.",
  NODE_LOST: () => "Lost: the machine that ran it went away. Run it again.",
  INTERNAL: () => "DevBox itself failed. This was not your program.",
};
const mood = {OK: "good", EXIT_CODE: "warn", SIGNAL: "bad", CANCELLED: "warn", COMPILE_ERROR: "bad"};

function say(text, kind) {
  $("verdict").textContent = text;
  $("verdict").className = "verdict " + kind;
}

// --- output: gathered, and put on the page once a frame ---

let pending = [];
let shown = 0;

function show(text, kind) {
  if (pending.push([text, kind]) === 1) requestAnimationFrame(flush);
}

function flush() {
  const box = $("output");
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  const parts = document.createDocumentFragment();
  let last = null;
  for (const [text, kind] of pending) {
    shown += text.length;
    if (last && last.className === kind) {
      last.firstChild.appendData(text);
      continue;
    }
    last = document.createElement("span");
    last.className = kind;
    last.append(text);
    parts.append(last);
  }
  pending = [];
  box.append(parts);
  while (shown > MAX_SHOWN && box.childNodes.length > 1) {
    shown -= box.firstChild.textContent.length;
    box.firstChild.remove();
  }
  if (shown > MAX_SHOWN) {
    const text = box.firstChild.firstChild;
    text.deleteData(0, shown - MAX_SHOWN);
    shown = MAX_SHOWN;
  }
  if (atEnd) box.scrollTop = box.scrollHeight;
}

function clearOutput() {
  pending = [];
  shown = 0;
  $("output").replaceChildren();
  $("usage").textContent = "";
}

function decode(message) {
  if (message.encoding !== "base64") return message.data;
  const bytes = Uint8Array.from(atob(message.data), (c) => c.charCodeAt(0));
  return new TextDecoder().decode(bytes);
}

// --- the server ---

async function call(method, path, body) {
  const answer = await fetch(path, {
    method,
    headers: {Authorization: "Bearer " + sessionStorage.getItem("devbox-key"), ...(body && {"Content-Type": "application/json"})},
    body: body && JSON.stringify(body),
  });
  const object = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const e = object.error || {message: "the server answered " + answer.status};
    const failure = new Error((e.field ? e.field + ": " : "") + e.message);
    failure.status = answer.status;
    throw failure;
  }
  return object;
}

function busy(on) {
  $("run").disabled = on || templates.length === 0;
  $("stop").disabled = !on;
}

function onStatus(r, m) {
  if (m.status === "running") {
    if (m.phase === "run" && r.compiled) show("\n", "note");
    r.compiled = m.phase === "compile";
    say(r.compiled ? "Compiling…" : "Running…", "busy");
    return;
  }
  r.ended = true;
  const u = m.usage || {};
  say((words[m.verdict] || (() => m.status))(m), mood[m.verdict] || "bad");
  $("usage").textContent = `${u.wall_ms} ms · ${u.cpu_ms} ms CPU · ${(u.memory_peak_bytes / 1048576).toFixed(1)} MB`;
  busy(false);
  r.socket.close();
}

function onMessage(r, m) {
  if (r !== run) return;
  if (m.type === "output") {
    r.last = m.id;
    show(decode(m), m.stream === "stderr" ? "stderr" : "stdout");
  } else if (m.type === "gap") {
    r.last = m.id;
    show(`\n[${m.to - m.from} bytes of ${m.stream} are gone]\n`, "note");
  } else if (m.type === "status") {
    onStatus(r, m);
  } else if (m.type === "error" && m.code === "unavailable") {
    say(m.message, "bad");
  }
}

// A connection that breaks is made again, and goes on behind the last message that came.
function open(r) {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const resume = r.last ? `&resume=${r.process}:${r.last}` : "";
  const socket = new WebSocket(`${scheme}//${location.host}/api/stream/${r.sandbox}?token=${r.token}${resume}`, "devbox.json.v1");
  if (!r.last && r.tries > 0) clearOutput();
  r.socket = socket;
  socket.onmessage = (e) => {
    r.tries = 0;
    onMessage(r, JSON.parse(e.data));
  };
  socket.onclose = () => {
    if (r.ended || r !== run) return;
    if (r.tries++ > 20) {
      say("The connection was lost.", "bad");
      busy(false);
      return;
    }
    setTimeout(() => r === run && open(r), Math.min(100 * 2 ** r.tries, 3000));
  };
}

async function start() {
  if ($("run").disabled) return;
  const template = templates.find((t) => t.name === current);
  busy(true);
  clearOutput();
  say("Starting…", "busy");
  run = null;
  try {
    const a = await call("POST", "/api/executions", {
      template: current,
      files: [{path: fileOf(template), content: $("code").value}],
      stdin: $("input").value,
    });
    run = {id: a.id, process: a.process_id, sandbox: a.sandbox_id, token: a.stream_token, last: "", ended: false, tries: 0};
    open(run);
  } catch (e) {
    say(e.message, "bad");
    busy(false);
    if (e.status === 401) connect();
  }
}

async function stop() {
  if (!run || run.ended) return;
  try {
    await call("DELETE", "/api/executions/" + run.id);
  } catch (e) {
    say(e.message, "bad");
  }
}

// --- the editor ---

function fileOf(template) {
  const entry = template.entry || "main";
  return entry.replace("*", "main");
}

function choose(name) {
  if (current) drafts[current] = $("code").value;
  current = name;
  const template = templates.find((t) => t.name === name);
  $("template").value = name;
  $("file").textContent = fileOf(template);
  $("code").value = drafts[name] ?? SAMPLES[name] ?? "";
  sessionStorage.setItem("devbox-template", name);
}

let leaving = false; // Escape was pressed: Tab moves on
function onKey(e) {
  if (e.key === "Escape") {
    leaving = true;
    return;
  }
  if (e.key === "Tab" && !e.shiftKey && !leaving) {
    e.preventDefault();
    const indent = current === "go" ? "\t" : "    ";
    $("code").setRangeText(indent, $("code").selectionStart, $("code").selectionEnd, "end");
  }
  if (e.key !== "Shift") leaving = false;
}

function note(text, kind) {
  $("key-note").textContent = text;
  $("key-note").className = "note " + kind;
}

async function connect() {
  templates = [];
  $("template").disabled = true;
  busy(false);
  if (!sessionStorage.getItem("devbox-key")) {
    note("", "");
    $("key").focus();
    return;
  }
  try {
    templates = (await call("GET", "/api/templates")).items;
  } catch (e) {
    note(e.status === 401 ? "this key is not valid" : e.message, "bad");
    return;
  }
  note("✓", "good");
  $("template").replaceChildren(...templates.map((t) => new Option(t.title, t.name)));
  $("template").disabled = false;
  const before = sessionStorage.getItem("devbox-template");
  choose(templates.some((t) => t.name === before) ? before : templates[0].name);
  busy(false);
  if (!ever) say("Nothing has run yet.", "idle");
  ever = true;
}

$("key").value = sessionStorage.getItem("devbox-key") || "";
$("key").addEventListener("change", () => {
  sessionStorage.setItem("devbox-key", $("key").value.trim());
  connect();
});
$("key-form").addEventListener("submit", (e) => {
  e.preventDefault();
  sessionStorage.setItem("devbox-key", $("key").value.trim());
  connect();
});
$("template").addEventListener("change", () => choose($("template").value));
$("run").addEventListener("click", start);
$("stop").addEventListener("click", stop);
$("code").addEventListener("keydown", onKey);
document.addEventListener("keydown", (e) => {
  if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) {
    e.preventDefault();
    start();
  }
});
connect();
