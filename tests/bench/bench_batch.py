# SPDX-License-Identifier: Apache-2.0
"""How many hellos a second a batch runs, in both isolations, against plain native spawns of the same programs on as many cores, and
what a batch does to those who wait for an answer."""

import concurrent.futures
import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time

import requests

from benchlib import DevBox, Http, Rows, free_ports, machine_facts, median, percentile, say, wait_for

PROGRAM = "print('hello')\n"
STATIC = ["/sbin/ldconfig", "-V"]  # static in the images as on the host
KINDS = {"Python": {"files": [{"path": "main.py", "content": PROGRAM}]},
         "static": {"files": [{"path": "main.py", "content": ""}], "command": STATIC}}
NATIVE = {"Python": ["/usr/bin/python3", "-c", PROGRAM], "static": STATIC}


# What a batch's Python does, with nothing of DevBox between two: one that is warm forks, the child does its work and ends. Prints seconds.
FORKS = """
import os, sys, time
work = compile("print('hello')\\n", "main.py", "exec")
began = time.monotonic()
for _ in range(int(sys.argv[2])):
    child = os.fork()
    if child == 0:
        if sys.argv[1] == "exit":
            os._exit(0)
        exec(work, {"__name__": "__main__"})
        sys.exit(0)
    os.waitpid(child, 0)
sys.stderr.write(str(time.monotonic() - began))
"""


ANSWERS = 200  # of a side, in all rounds: fewer have no p99


def start(box, n, kind, isolation):
    item = {k: v for k, v in KINDS[kind].items() if k != "files"}
    return Http(box.url, box.key).post("/api/batches", {"template": "python", "files": KINDS[kind]["files"], "executions": [item] * n,
                                                        "isolation": isolation})["id"]


def batch(box, n, kind, isolation):
    """Seconds from the POST to the last result."""
    began = time.monotonic()
    found = start(box, n, kind, isolation)
    with requests.get(f"{box.url}/api/batches/{found}/results", stream=True, timeout=600,
                      headers={"Accept": "application/x-ndjson", "Authorization": f"Bearer {box.key}"}) as lines:
        good = sum(b'"verdict":"OK"' in line for line in lines.iter_lines())
    assert good == n, good
    return time.monotonic() - began


def forks(box, n, how):
    """Seconds of so many, divided among as many sandboxes at once as there are processors."""
    each = n // os.cpu_count()

    def one(_):
        http = Http(box.url, box.key)
        r = http.post("/api/executions?wait=true", {"template": "python", "files": [{"path": "main.py", "content": FORKS}],
                                                    "command": ["python3", "main.py", how, str(each)]})
        http.close()
        assert r["verdict"] == "OK", r
        return float(r["stderr"])

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        took = list(pool.map(one, range(os.cpu_count())))
    return sum(took) / len(took) * n / (each * os.cpu_count())


def native(n, kind):
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda _: subprocess.run(NATIVE[kind], stdout=subprocess.PIPE, check=True), range(n)))
    return time.monotonic() - began


class GoJudge:
    """Its HTTP, with as many connections as there are cores, and its own limits on."""

    def __init__(self, path):
        self.dir = tempfile.mkdtemp(prefix="devbox-bench-judge-")
        self.url = f"http://127.0.0.1:{free_ports(1)}"
        self.process = subprocess.Popen([path, "-http-addr", self.url[7:], "-dir", self.dir, "-silent"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.answers, 30, "go-judge answers")

    def answers(self):
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(self.url + "/version", timeout=5).ok

    def run(self, n, kind):
        body = {"cmd": [{"args": NATIVE[kind], "env": ["PATH=/usr/bin:/bin"], "cpuLimit": 10 ** 10, "memoryLimit": 1 << 28, "procLimit": 64,
                         "files": [{"content": ""}, {"name": "stdout", "max": 1 << 20}, {"name": "stderr", "max": 1 << 20}]}]}
        local = threading.local()

        def one(_):
            if not hasattr(local, "http"):
                local.http = requests.Session()
            assert local.http.post(self.url + "/run", json=body, timeout=60).json()[0]["status"] == "Accepted"

        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(one, range(n)))
        return time.monotonic() - began

    def close(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def rates(rows, box, rounds, judge):
    for kind, goals in (("Python", (1.0, 1.5)), ("static", (None, 1.0))):
        for isolation, n in (("batch", 300), ("execution", 40)):
            batch(box, n // 4, kind, isolation)
            pairs = [(n / batch(box, n, kind, isolation), n / native(n, kind), judge and n / judge.run(n, kind)) for _ in range(rounds)]
            ours = median([p[0] for p in pairs])
            shared = isolation == "batch"
            rows.add(f"{kind} hellos of a batch, isolation {isolation}; native spawns", ours, median([p[1] for p in pairs]), "1/s", goals[0] if shared else None,
                     at_least=True)
            if judge:
                rows.add(f"{kind} hellos of a batch, isolation {isolation}; go-judge", ours, median([p[2] for p in pairs]), "1/s", goals[1] if shared else None,
                         at_least=True)


def floors(rows, box, rounds):
    """What no batch of isolation `batch` can be faster than."""
    n = 300
    for how, words in (("work", "does the hello and ends"), ("exit", "ends at once")):
        pairs = [(n / forks(box, n, how), n / native(n, "Python")) for _ in range(rounds)]
        rows.add(f"floor: a Python in gVisor forks, the child {words}, without DevBox; native spawns", median([p[0] for p in pairs]), median([p[1] for p in pairs]),
                 "1/s", None, at_least=True)


def answers(box, n):
    """Milliseconds of runs that are waited for, one after another, a moment apart."""
    http, took, pause = Http(box.url, box.key), [], threading.Event()
    for _ in range(n):
        began = time.monotonic()
        assert http.post("/api/executions?wait=true", {"template": "python", "files": [{"path": "main.py", "content": PROGRAM}]})["verdict"] == "OK"
        took.append((time.monotonic() - began) * 1000)
        pause.wait(0.2)
    http.close()
    return took


def beside(rows, box, rounds):
    each = -(-ANSWERS // rounds)
    for isolation in ("batch", "execution"):
        alone, busy = [], []
        for _ in range(rounds):
            box.wait_warm("python")
            alone += answers(box, each)
            found = start(box, 10000, "Python", isolation)
            busy += answers(box, each)
            http = Http(box.url, box.key)
            assert http.get(f"/api/batches/{found}?limit=0")["status"] == "running"
            http.delete(f"/api/batches/{found}")
            wait_for(lambda: http.get(f"/api/batches/{found}?limit=0")["status"] != "running", 120, "the batch is cancelled")
            http.close()
        for p, goal in ((50, None), (99, 2)):
            rows.add(f"a run that is waited for, p{p}: beside a batch, isolation {isolation}; alone", percentile(busy, p), percentile(alone, p), "ms", goal)


def main():
    rows = Rows(__doc__, lambda parser: parser.add_argument("--peer", action="append", default=[], metavar="go-judge=PATH", help="compare with this too"))
    peers = dict(p.split("=", 1) for p in rows.args.peer)
    if set(peers) - {"go-judge"}:
        raise SystemExit("bench batch: --peer knows go-judge=PATH only")
    machine_facts()
    rounds = rows.args.rounds or 3
    judge = GoJudge(peers["go-judge"]) if peers else None
    try:
        with DevBox() as box:
            box.wait_warm("python")
            rates(rows, box, rounds, judge)
            floors(rows, box, rounds)
            beside(rows, box, rounds)
    finally:
        if judge:
            judge.close()
    rows.done()


if __name__ == "__main__":
    main()
