# SPDX-License-Identifier: Apache-2.0
"""The shim killed at any instant, or replaced: programs go on, and every byte they wrote is read once."""

import hashlib
import json
import os
import queue
import random
import signal
import subprocess
import time

import pytest

from link_peer import connect, read_log
from test_shim import Node, Run

LONG = os.environ.get("DEVBOX_LONG", "0") not in ("", "0")
ROOMY = {"cpu_ms": 3600000, "wall_ms": 3600000, "memory_mb": 64, "output_bytes": 1 << 30, "processes": 32, "open_files": 256, "disk_mb": 64}


def once(records):
    """What a reader sees: a number that was seen is a repeat, and says the same again."""
    seen = []
    for r in records:
        if r["seq"] < len(seen):
            assert {k: r[k] for k in r if k != "at"} == {k: seen[r["seq"]][k] for k in r if k != "at"}
        else:
            assert r["seq"] == len(seen), (r["seq"], len(seen))
            seen.append(r)
    return seen


class AdoptedRun(Run):
    def read(self):
        hexid = self.process_id.replace("-", "")
        return once([r for r in read_log(self.node.log_dir, self.sandbox_id) if r["process"].hex() == hexid])

    def wait(self, timeout=60):
        self.ended = self.node.wait(lambda h: h["op"] == "ended" and h["process_id"] == self.process_id, timeout)
        self.records = self.read()
        types = [r["type"] for r in self.records]
        assert types.count("end") == 1 and types[-1] == "end"
        assert types.count("status") == len({r["phase"] for r in self.records if r["type"] == "status"})
        for phase in ("compile", "run"):
            for stream in ("stdout", "stderr"):
                at = 0
                for r in self.records:
                    if (r["type"], r["phase"]) == (stream, phase):
                        assert r["offset"] == at
                        at += len(r["data"])
        self.end = json.loads(self.records[-1]["data"])
        assert self.end == self.ended["outcome"] and self.ended["end_record"] is True
        last = "run" if self.end["run"] else "compile"
        for stream in ("stdout", "stderr"):
            data = self.output(stream, last)
            assert self.end["sha256"][stream] == hashlib.sha256(data).hexdigest()
            assert self.end[last][stream + "_bytes"] == len(data)
        return self.end


class AdoptNode(Node):
    def order(self, template, files, **kw):
        kw.setdefault("limits", ROOMY)
        kw.setdefault("compile_limits", ROOMY)
        run = super().order(template, files, **kw)
        assert run.answer.get("ok"), run.answer
        run.__class__ = AdoptedRun
        return run

    def kill(self):
        self.shim.kill()
        self.shim.wait()

    def again(self):
        """A new shim, as far as its hello."""
        self.shim = self.spawn("shim", *self.args)
        self.take_link()
        return {p["process_id"]: p["state"] for p in self.hello["processes"]}

    def take_link(self):
        """That of the shim which lives; those before it may have come as far as a link or a hello."""
        while True:
            self.link = self.listener.peers.get(timeout=60)
            self.hello = self.wait(lambda h: h["op"] == "hello", 60)
            self.port = int(self.hello["url"].rsplit(":", 1)[1].split("/")[0])
            if self.listener.peers.empty() and not self.link.closed.is_set():
                return

    def ready(self):
        deadline = time.monotonic() + 60
        while self.get("/readyz")[0] != 200:
            assert time.monotonic() < deadline and self.shim.poll() is None, self.get("/readyz")
            self.pause(0.1)

    def pause(self, seconds):
        """Lets time pass, or a message come."""
        try:
            self.wait(lambda h: h["op"] == "state", seconds)
        except queue.Empty:
            pass

    def started(self, run, timeout=60):
        return self.wait(lambda h: h["op"] == "started" and h["process_id"] == run.process_id, timeout)

    def until(self, run, text, timeout=60):
        deadline = time.monotonic() + timeout
        while text not in b"".join(r["data"] for r in run.read() if r["type"] == "stdout"):
            assert time.monotonic() < deadline, text
            self.pause(0.1)


@pytest.fixture()
def node(request):
    n = AdoptNode(warm=0)
    try:
        yield n.start()
        n.ready()
        deadline = time.monotonic() + 30
        while n.leftovers():  # the probe's sandbox is on its way out
            assert time.monotonic() < deadline, n.leftovers()
            n.pause(0.1)
    finally:
        if request.session.testsfailed:
            text = (n.dir / "shim.txt").read_text(errors="replace")
            print(text[text.find("==ERROR") - 2000:][:6000] if "==ERROR" in text else text[-8000:])
        n.close()


def test_goes_on(node):
    """One program, one kill: output before, meanwhile and after, input before and after, its exit code."""
    run = node.order("python", {"main.py": "import sys\nfor l in sys.stdin:\n print('got', l, end='', flush=True)\nsys.exit(7)\n"},
                     stdin=b"one\n", stdin_open=True)
    node.started(run)
    node.until(run, b"got one\n")
    node.kill()
    assert node.again() == {run.process_id: "running"}
    gateway = connect_gateway(node)
    assert gateway.request("input", b"two\n", process_id=run.process_id)["ok"]
    assert gateway.request("eof", process_id=run.process_id)["ok"]
    end = run.wait()
    assert (end["verdict"], end["run"]["exit_code"]) == ("EXIT_CODE", 7)
    assert run.output() == b"got one\ngot two\n"


def connect_gateway(node):
    return connect(node.port, "/link", node.keys.token("gateway"))


FAST = """
import sys
sys.stdin.readline()
for i in range(%d):
    print(i, 'x' * (i %% 60))
    if i %% 50 == 0:
        print('e', i, file=sys.stderr)
sys.exit(3)
"""
SLOW = """
import sys, time
sys.stdin.readline()
for i in range(%d):
    print(i, 'x' * (i %% 60), flush=True)
    if i %% 50 == 0:
        print('e', i, file=sys.stderr, flush=True)
    time.sleep(0.01)
sys.exit(3)
"""


def lines(n):
    return ("".join(f"{i} {'x' * (i % 60)}\n" for i in range(n)).encode(),
            "".join(f"e {i}\n" for i in range(0, n, 50)).encode())


def hurt(node, rounds, wound):
    """wound() again and again at random instants, the time in which a shim takes over included, while 20 programs print."""
    fast, slow = 60000, 25 * rounds
    runs = [(node.order("python", {"main.py": (FAST if i % 2 else SLOW) % (fast if i % 2 else slow)}, stdin_open=True),
             fast if i % 2 else slow) for i in range(20)]
    for run, _ in runs:
        node.started(run)
    gateway = connect_gateway(node)
    for run, _ in runs:
        assert gateway.request("input", b"go\n", process_id=run.process_id)["ok"]
    for _ in range(rounds):
        try:
            node.shim.wait(random.uniform(0, 0.5))
        except subprocess.TimeoutExpired:
            pass
        wound()
        node.shim = node.spawn("shim", *node.args)
    node.take_link()
    for run, count in runs:
        end = run.wait(180)
        assert (end["verdict"], end["run"]["exit_code"]) == ("EXIT_CODE", 3), end
        assert (run.output(), run.output("stderr")) == lines(count)


def test_killed_at_any_instant(node):
    hurt(node, 200 if LONG else 20, node.kill)
