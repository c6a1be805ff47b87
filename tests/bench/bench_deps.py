# SPDX-License-Identifier: Apache-2.0
"""Dependency layers: a known lock file until its first import, against the installers with everything in their cache, in the
same kind of sandbox; and what attaching costs by itself, for a small layer and for one of a gigabyte.

The two layers of given size are put into the store by this program, as the shim would have left them."""

import hashlib
import json
import os
import secrets
import signal
import struct
import time

from bench_run import one
from benchlib import ROOT, DevBox, Http, Rows, machine_facts, median, say, wait_for

ATTACH = "devbox_shim_layer_attach_seconds"
PIP_LOCK = "flask==3.0.3\nrequests==2.32.3\n"
PIP_IMPORT = "python3 -c 'import flask, requests; print(1)'"
PACKAGE = {"name": "bench", "version": "1.0.0", "dependencies": {"express": "4.21.2", "lodash": "4.17.21"}}
NPM_IMPORT = "node -e 'require(\"express\"); require(\"lodash\"); console.log(1)'"


class Workspace:
    def __init__(self, http, template, files):
        self.http = http
        self.path = "/api/workspaces/" + http.post("/api/workspaces", {"name": "bench", "template": template})["id"]
        for path, content in files.items():
            http.post(self.path + "/files", {"path": path, "content": content})

    def run(self, command, **fields):
        """ms from the order to the end, which must be a good one."""
        begin = time.perf_counter()
        p = self.http.post(self.path + "/run", {"command": ["bash", "-euc", command], **fields})["process_id"]

        def ended():
            row = self.http.get(f"/api/processes/{p}")
            return row if row["status"] not in ("pending", "running") else None

        row = wait_for(ended, 600, f"the end of {command}")
        if row["verdict"] != "OK":
            raise RuntimeError(f"{command} ended with {row['verdict']} {row['exit_code']}")
        return (time.perf_counter() - begin) * 1000

    def __enter__(self):
        self.run("true")  # its sandbox is there, as when somebody works in it
        return self

    def __exit__(self, *_):
        self.http.delete_quietly(self.path)


class Client(Http):
    def delete_quietly(self, path):
        self.sock.sendall((f"DELETE {path} HTTP/1.1\r\nHost: {self.host}\r\nAuthorization: Bearer {self.key}\r\n"
                           "Content-Length: 0\r\n\r\n").encode())
        self.reader.readline()
        size = 0
        for line in iter(self.reader.readline, b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                size = int(line.split(b":")[1])
        self.reader.read(size)


def key_of(lock):
    """As bundles/deps.c makes it, of a pinned requirements.txt."""
    template = json.loads((ROOT / "bundles" / "templates" / "python.json").read_text())
    images = os.path.join(os.environ["DEVBOX_CACHE"], "images", "python.json")
    what = template["dependencies"][0]
    with open(images) as f:
        digest = json.load(f)["digest"]
    parts = [b"devbox layer 1", b"python", digest.encode(), what["lock"].encode(), what["into"].encode(), what["build"].encode(),
             lock.encode(), b"", struct.pack("<q", 0)]
    return hashlib.sha256(b"".join(struct.pack("<Q", len(p)) + p for p in parts)).hexdigest()


def put_layer(box, lock, size):
    """Files of 64 KiB, 64 a folder."""
    name = secrets.token_hex(16)
    tree = box.state / "layers" / "tree" / name
    data = os.urandom(64 << 10)
    for i in range(max(1, size // len(data))):
        folder = tree / "lib" / f"d{i // 64}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{i}").write_bytes(data)
    for folder, _, files in os.walk(tree):
        for p in [folder, *(os.path.join(folder, f) for f in files)]:
            os.chown(p, 1000, 1000)
    (box.state / "layers" / "index" / key_of(lock)).write_text(f"{name} {'0' * 64} {size}\n")


def kill_shim(box):
    pid = next(d["pid"] for d in json.loads(box.command("status", "--json"))["daemons"] if d["name"] == "shim")
    os.kill(pid, signal.SIGKILL)

    def back():
        daemons = json.loads(box.command("status", "--json"))["daemons"]
        return any(d["name"] == "shim" and d["pid"] != pid and d["ready"] for d in daemons)

    wait_for(back, 60, "the next shim")


def attach(box, http, files, check):
    """(ms of the attaching, ms from the order to the program's end) in a sandbox that is there."""
    with Workspace(http, "node" if "package.json" in files else "python", {}) as w:
        for path, content in files.items():
            http.post(w.path + "/files", {"path": path, "content": content})
        before = box.metrics()
        took = w.run(check)
        return one(before, box.metrics(), ATTACH), took


def bench_size(box, http, rows, rounds):
    """In turns. Reading is no part of attaching: the program reads one file of the layer."""
    times = {"1 MB": [], "1 GB": []}
    locks = {name: f"layer-of-{name.replace(' ', '').lower()}==1.0\n" for name in times}
    for name, size in (("1 MB", 1 << 20), ("1 GB", 1 << 30)):
        put_layer(box, locks[name], size)
    kill_shim(box)
    for _ in range(rounds):
        for name, lock in locks.items():
            ms, _ = attach(box, http, {"requirements.txt": lock}, "head -c 1 ~/.local/lib/d0/f0 >/dev/null")
            times[name].append(ms)
    small, large = (median([t for t in times[n] if t is not None]) for n in times)
    rows.add("attach a known layer of 1 GB, at the shim, p50: 1 GB, 1 MB", large, small, "ms", goal=2)
    rows.add("attach a known layer of 1 GB, at the shim, p50", large, None, "ms", goal=10, of="ours")


def installs(http, rounds, template, files, command):
    """The installer itself, all that it asks for being in the registry cache; the files stand where no layer is looked for."""
    took = []
    for i in range(rounds + 1):
        with Workspace(http, template, {f"app/{p}": c for p, c in files.items()}) as w:
            ms = w.run(command, cwd="app")
            took += [ms] * (i > 0)  # the first fills the cache
    return median(took)


def bench_imports(box, http, rows, rounds):
    files = {"requirements.txt": PIP_LOCK}
    attach(box, http, files, PIP_IMPORT)  # made
    ours = [attach(box, http, files, PIP_IMPORT) for _ in range(rounds)]
    other = installs(http, rounds, "python", files, f"pip install -q -r requirements.txt && {PIP_IMPORT}")
    say(f"Python: attaching {median([a for a, _ in ours if a is not None]):.2f} ms of it")
    rows.add("known requirements.txt -> imported: DevBox, pip install from the same cache", median([t for _, t in ours]), other, "ms",
             goal=0.5)
    with Workspace(http, "node", {"package.json": json.dumps(PACKAGE)}) as w:
        w.run("npm install --package-lock-only >/dev/null 2>&1; test -s package-lock.json")
        entry = wait_for(lambda: next((e for e in http.get(w.path + "/files") if e["path"] == "package-lock.json"), None), 30, "the lock")
        lock = http.get(f"/api/files/{entry['id']}")["content"]
    files = {"package.json": json.dumps(PACKAGE), "package-lock.json": lock}
    attach(box, http, files, NPM_IMPORT)
    ours = [attach(box, http, files, NPM_IMPORT) for _ in range(rounds)]
    other = installs(http, rounds, "node", files, f"npm ci --no-audit --no-fund >/dev/null && {NPM_IMPORT}")
    say(f"Node: attaching {median([a for a, _ in ours if a is not None]):.2f} ms of it")
    rows.add("known package-lock.json -> required: DevBox, npm ci from the same cache", median([t for _, t in ours]), other, "ms", goal=0.5)


def main():
    rows = Rows(__doc__)
    rounds = rows.args.rounds or 5
    machine_facts()
    with DevBox("--gateways", "1") as box:
        http = Client(box.url, box.key)
        bench_size(box, http, rows, rounds)
        bench_imports(box, http, rows, rounds)
        http.close()
    rows.done()


if __name__ == "__main__":
    main()
