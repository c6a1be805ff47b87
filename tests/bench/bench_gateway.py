# SPDX-License-Identifier: Apache-2.0
"""The gateway's answers beside nginx (one worker) with the same bytes as a static file; runs; the replay of a long log."""

import subprocess
import threading
import time

from bench_run import PYTHON_HELLO
from bench_stream import BINARY, LIMITS, Peer as Programs, go, is_end_record, read_frames, upgrade
from benchlib import DevBox, Http, Rows, Stream, is_end, machine_facts, median, percentile, say, wait_for
from peers import Nginx, curl, install, wrk

RUNS, CLIENTS = 100, 4
MANY = 200
REPLAYED = 2048  # blocks of 64 KiB


def prepare(http):
    """{name: path} of what is read."""
    done = http.post("/api/executions?wait=true", {"template": "python", "files": [{"path": "main.py", "content": PYTHON_HELLO}]})
    ws = http.post("/api/workspaces", {"name": "bench", "template": "python"})
    file = http.post(f"/api/workspaces/{ws['id']}/files", {"path": "notes.txt", "content": "x" * 2000})
    return {"an execution by id": f"/api/executions/{done['id']}", "a workspace with its tree": f"/api/workspaces/{ws['id']}",
            "a file by id": f"/api/files/{file['id']}", "the list of workspaces": "/api/workspaces", "the version": "/api/version"}


def bench_reads(box, http, rows, rounds):
    install()
    key = f"Authorization: Bearer {box.key}"
    nginx = Nginx()
    try:
        for name, path in prepare(http).items():
            answer = curl(box.url + path, "-H", key)
            copy = nginx.dir / path.strip("/").replace("/", "-")
            copy.write_bytes(answer)
            copy.chmod(0o644)
            ours, theirs = [], []
            wrk(box.url + path, [key], seconds=1)
            for _ in range(rounds):
                ours.append(wrk(box.url + path, [key]))
                theirs.append(wrk(nginx.url("/" + copy.name), [key]))
            rows.add(f"{name} ({len(answer)} bytes), ÷ nginx", median([x[0] for x in ours]), median([x[0] for x in theirs]), "req/s",
                     None if name == "the version" else 0.5, at_least=True)
            rows.add(f"{name}, p99, ÷ nginx", median([x[1] for x in ours]), median([x[1] for x in theirs]), "ms",
                     None if name == "the version" else 3)
    finally:
        nginx.close()


def bench_many(box, http, rows, rounds):
    """More files than there are connections, asked for in turn: nothing is gained by all wanting the same."""
    ws = http.post("/api/workspaces", {"name": "many", "template": "python"})["id"]
    files = [http.post(f"/api/workspaces/{ws}/files", {"path": f"{i}.txt", "content": f"{i:04d}" * 500}) for i in range(MANY)]
    paths = [f"/api/files/{f['id']}" for f in files]
    key = f"Authorization: Bearer {box.key}"
    nginx = Nginx()
    try:
        for path in paths:
            copy = nginx.dir / path.strip("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(curl(box.url + path, "-H", key))
        subprocess.run(["chmod", "-R", "a+rX", nginx.dir / "api"], check=True)
        ours, theirs = [], []
        wrk(box.url, [key], seconds=1, paths=paths)
        for _ in range(rounds):
            ours.append(wrk(box.url, [key], paths=paths)[0])
            theirs.append(wrk(nginx.url(""), paths=paths)[0])
        rows.add(f"{MANY} files by id in turn, ÷ nginx", median(ours), median(theirs), "req/s", 0.5, at_least=True)
    finally:
        nginx.close()


def bench_runs(box, rows, count):
    """Submitted by several clients at once, each waiting for its own."""
    box.wait_warm("python")
    took, lock = [], threading.Lock()

    def client(n):
        http = Http(box.url, box.key)
        for _ in range(n):
            begin = time.perf_counter()
            result = http.post("/api/executions?wait=true", {"template": "python", "files": [{"path": "main.py", "content": PYTHON_HELLO}]})
            with lock:
                took.append((time.perf_counter() - begin) * 1000)
            if result["verdict"] != "OK":
                raise RuntimeError(f"a run ended with {result['verdict']}")
        http.close()

    begin = time.perf_counter()
    threads = [threading.Thread(target=client, args=(count // CLIENTS,)) for _ in range(CLIENTS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    whole = time.perf_counter() - begin
    if len(took) != count // CLIENTS * CLIENTS:
        raise RuntimeError(f"only {len(took)} of {count} runs came back")
    say(f"runs: {len(took)} waited Python hellos by {CLIENTS} clients, p50 {percentile(took, 50):.1f} ms; more come than are warm")
    rows.add("waited Python hellos", len(took) / whole, None, "1/s")
    rows.add("waited Python hello among them, p99", percentile(took, 99), None, "ms")


def bench_replay(box, http, rows, rounds):
    """A log that has ended, read from its beginning over a new binary stream; nginx: a file of the same size."""
    programs, nginx = Programs(), Nginx()
    try:
        accepted = programs.in_sandbox(http, "blast", REPLAYED, 65536, output_bytes=1 << 30)
        first = Stream(box.url, accepted)
        go(first.sock, accepted)
        first.until(is_end)
        first.close()
        wait_for(lambda: http.get(f"/api/executions/{accepted['id']}")["status"] == "completed", 60, "it is over")
        size = REPLAYED * 65536
        with open(nginx.dir / "log", "r+b") as log:
            log.truncate(size)
        ours, theirs = [], []
        for _ in range(rounds):
            begin = time.perf_counter()
            sock = upgrade(box.url, accepted, BINARY)
            end = read_frames(sock, is_end_record)
            sock.close()
            ours.append(size / (end - begin) / 1e6)
            begin = time.perf_counter()
            curl(nginx.url("/log"), "-o", "/dev/null")
            theirs.append(size / (time.perf_counter() - begin) / 1e6)
        say(f"replay: {size >> 20} MiB of output, from the upgrade to the end record; nginx: sendfile, read by curl")
        rows.add("replay of a long log, ÷ nginx", median(ours), median(theirs), "MB/s")
    finally:
        programs.close()
        nginx.close()


def main():
    rows = Rows(__doc__)
    machine_facts()
    rounds = rows.args.rounds or 3
    with DevBox(**LIMITS, DEVBOX_GATEWAY_RATE_PER_SECOND="0") as box:
        http = Http(box.url, box.key)
        bench_reads(box, http, rows, rounds)
        bench_many(box, http, rows, rounds)
        http.close()
        bench_runs(box, rows, RUNS if rounds > 1 else RUNS // 5)
        http = Http(box.url, box.key)  # the first would have been closed by now
        bench_replay(box, http, rows, rounds)
        http.close()
    rows.done()


if __name__ == "__main__":
    main()
