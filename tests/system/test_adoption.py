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

from link_peer import read_log
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
        self.link = self.listener.peers.get(timeout=30)
        self.hello = self.wait(lambda h: h["op"] == "hello", 30)
        self.port = int(self.hello["url"].rsplit(":", 1)[1].split("/")[0])
        return {p["process_id"]: p["state"] for p in self.hello["processes"]}

    def started(self, run, timeout=60):
        return self.wait(lambda h: h["op"] == "started" and h["process_id"] == run.process_id, timeout)

    def until(self, run, text, timeout=60):
        deadline = time.monotonic() + timeout
        while text not in b"".join(r["data"] for r in run.read() if r["type"] == "stdout"):
            assert time.monotonic() < deadline, text
            try:
                self.wait(lambda h: h["op"] == "state", 0.1)
            except queue.Empty:
                pass


@pytest.fixture()
def node(request):
    n = AdoptNode(warm=0)
    try:
        yield n.start()
    finally:
        if request.session.testsfailed:
            print((n.dir / "shim.txt").read_text(errors="replace")[-8000:])
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
    from link_peer import connect

    return connect(node.port, "/link", node.keys.token("gateway"))
