# SPDX-License-Identifier: Apache-2.0
"""The database dies and comes back in the middle of everything. What is refused says when to come again,
what was accepted ends once, and nobody has to help."""

import os
import signal
import threading
import time

import pytest
import requests

from client import Client


@pytest.fixture()
def box(own_devbox):
    own_devbox.env["DEVBOX_GATEWAY_MAX_WALL_MS"] = "600000"
    return own_devbox.up("--no-images")


class Load:
    """Submits and reads until it is stopped; keeps what was accepted and every answer that was no success."""

    def __init__(self, box):
        self.box, self.stop, self.accepted, self.refused, self.broken = box, threading.Event(), [], [], []
        self.threads = [threading.Thread(target=self.work, args=(i,)) for i in range(3)]
        for t in self.threads:
            t.start()

    def work(self, n):
        c = Client(self.box.url, self.box.key)
        number = 0
        while not self.stop.is_set():
            number += 1
            try:
                key = {"Idempotency-Key": f"{n}-{number}"}
                body = {"template": "python", "files": [{"path": "main.py", "content": f"print({number})\n"}], "retry": "safe"}
                r = c.call("POST", "/api/executions", json=body, headers=key)
                while r.status_code == 503:
                    self.refused.append(r)
                    self.stop.wait(min(float(r.headers.get("Retry-After", 1)), 2))
                    r = c.call("POST", "/api/executions", json=body, headers=key)
                (self.accepted if r.status_code == 202 else self.broken).append((number, r))
                r = c.call("GET", "/api/executions")
                if r.status_code == 503:
                    self.refused.append(r)
                elif r.status_code != 200:
                    self.broken.append((number, r))
            except requests.ConnectionError as e:
                self.broken.append((number, e))
            self.stop.wait(0.05)

    def end(self):
        self.stop.set()
        for t in self.threads:
            t.join(60)


def kill_postgres(box):
    """At once, as a crash; the supervisor starts another."""
    pid = next((box.state / "postgres").rglob("postmaster.pid")).read_text().split()[0]
    os.kill(int(pid), signal.SIGQUIT)


def until(fn, timeout=60):
    deadline = time.monotonic() + timeout
    while not fn():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def test_postgres_restarts(box):
    api = box.client()
    a = api.start("python", {"main.py": "while True:\n    line = input()\n    print(line, flush=True)\n    if line == 'end': break\n"},
                  limits={"wall_ms": 600000})
    s = api.stream(a)
    s.send(type="input", process_id=a["process_id"], data="before\n")
    s.until_output("before\n")
    load = Load(box)
    until(lambda: len(load.accepted) > 5)
    for _ in range(2):
        n = len(load.accepted)
        kill_postgres(box)
        s.send(type="input", process_id=a["process_id"], data="meanwhile\n")  # needs no database
        until(lambda: len(load.accepted) > n + 5, 120)
    load.end()
    s.send(type="input", process_id=a["process_id"], data="end\n")
    end = s.until_end()
    assert end["verdict"] == "OK" and s.text("stdout") == "before\nmeanwhile\nmeanwhile\nend\n"
    assert not load.broken, [(n, getattr(r, "status_code", r), getattr(r, "text", "")) for n, r in load.broken[:5]]
    for r in load.refused:
        assert int(r.headers["Retry-After"]) >= 1 and r.json()["error"]["type"] == "unavail"
    for number, r in load.accepted:
        row = api.wait_end(r.json()["id"], 90)
        assert row["verdict"] == "OK" and row["stdout"] == f"{number}\n", row
    assert len({r.json()["id"] for _, r in load.accepted}) == len(load.accepted)
    restarts = {d["name"]: d["restarts"] for d in box.status()["daemons"]}
    assert restarts["gateway"] == restarts["shim"] == restarts["scheduler"] == 0
