# SPDX-License-Identifier: Apache-2.0
"""The clock of a machine steps an hour ahead and back, in the middle of runs (libfaketime; the monotonic clock goes on, as it does on a
real one): nothing is lost, no lease and no limit ends, tokens are told as expired when they are."""

import contextlib
import os
import pathlib
import threading

import pytest
import websocket

import test_gateway
import test_scheduler
import test_shim
from client import Stream
from conftest import ROOT
from link_peer import connect
from pg_fixture import Postgres

RELEASE = pathlib.Path(os.environ.get("DEVBOX_BUILD") or ROOT / "build/release") / "bin"  # ASan's library has to be the first


class Clock:
    """A daemon started within `with clock:` goes by it."""

    def __init__(self, folder):
        found = sorted(pathlib.Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        if not found:
            pytest.skip("libfaketime is not here (Debian: faketime)")
        self.file = folder / "clock"
        self.step(0)
        self.env = {"LD_PRELOAD": str(found[0]), "FAKETIME_TIMESTAMP_FILE": str(self.file), "FAKETIME_NO_CACHE": "1",
                    "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}

    def step(self, hours):
        new = self.file.with_suffix(".new")
        new.write_text(f"{hours * 3600:+d}\n")
        new.replace(self.file)

    def __enter__(self):
        os.environ.update(self.env)

    def __exit__(self, *_):
        for name in self.env:
            del os.environ[name]


@pytest.fixture()
def release(monkeypatch):
    monkeypatch.setenv("DEVBOX_BIN", str(RELEASE))


@contextlib.contextmanager
def gateway_world(folder, clock):
    class World(test_gateway.World):
        def gateway(self, *extra):
            with clock:
                return super().gateway(*extra)

    world = World(folder)
    try:
        yield world
    finally:
        world.close()


def refused(world, accepted, token):
    with pytest.raises(websocket.WebSocketBadStatusException) as e:
        Stream(world.url, accepted["sandbox_id"], token)
    return e.value.status_code in (401, 403)


def test_gateway_steps(tmp_path, release):
    clock = Clock(tmp_path)
    with gateway_world(tmp_path, clock) as w:
        program, accepted = w.start()
        program.started()
        program.phase("run")
        s = w.api.stream(accepted)
        program.write(b"before\n")
        s.until_output("before\n")

        clock.step(1)
        program.write(b"an hour ahead\n")
        s.until_output("an hour ahead\n")
        assert refused(w, accepted, accepted["stream_token"]), "it lives for minutes"
        ahead = w.api.call("GET", f"/api/executions/{accepted['id']}").json()
        assert ahead["status"] == "running"
        last = [m["id"] for m in s.seen if "id" in m][-1]
        later = Stream(w.url, accepted["sandbox_id"], ahead["stream_token"], resume=f"{accepted['process_id']}:{last}")
        other, other_accepted = w.start()
        waited = []
        waiter = threading.Thread(target=lambda: waited.append(w.api.run("python", {"main.py": "y"})))
        known = set(w.placed)
        waiter.start()
        w.wait(lambda: len(w.placed) > len(known))
        third = test_gateway.Program(w, {"process_id": (set(w.placed) - known).pop(), "sandbox_id": None})
        third.sandbox = w.placed[third.pid][0]["sandbox_id"]

        clock.step(-1)
        program.write(b"an hour back\n")
        for viewer in (s, later):
            viewer.until_output("an hour back\n")
        back = w.api.call("GET", f"/api/executions/{accepted['id']}").json()
        for token in (accepted["stream_token"], ahead["stream_token"], back["stream_token"]):
            Stream(w.url, accepted["sandbox_id"], token).close()
        for p in (other, third):
            p.started()
            p.phase("run")
            p.write(b"whole\n")
            p.end(run=test_gateway.outcome(out=6))
        waiter.join(60)
        assert waited and (waited[0]["stdout"], waited[0]["verdict"]) == ("whole\n", "OK")
        assert w.api.call("GET", f"/api/executions/{other_accepted['id']}").json()["stdout"] == "whole\n"

        clock.step(0)
        program.end(run=test_gateway.outcome(out=34))
        for viewer in (s, later):
            assert viewer.until_end()["verdict"] == "OK"
            assert not [m for m in viewer.seen if m["type"] in ("gap", "error")]
        assert s.text() == "before\nan hour ahead\nan hour back\n" and later.text() == "an hour back\n"
        result = w.api.call("GET", f"/api/executions/{accepted['id']}").json()
        assert result["stdout"] == s.text() and not result["truncated"]


def test_scheduler_steps(tmp_path, release):
    """Leases of nodes are by the monotonic clock, what waits is placed, ends are committed."""
    clock, postgres = Clock(tmp_path), Postgres()
    world = test_scheduler.World(postgres)
    try:
        with clock:
            scheduler = world.scheduler()
        scheduler.ready()
        gateway, node, owner = test_scheduler.Gateway(scheduler), world.node(slots=2), world.db.owner()
        node.hello(scheduler)
        running = []
        for hours in (0, 1, -1, 0):
            clock.step(hours)
            if hours > 0:  # whose token was made by another clock is refused, not let in by mistake
                with pytest.raises(OSError):
                    connect(scheduler.port, "/gateway", world.keys.token("gateway"))
            beats = len(node.seen)
            p = world.db.process(owner)
            gateway.place(p)
            start = node.wait("start", p["process_id"])
            assert node.started(start)["ok"]
            gateway.wait("started", p["process_id"])
            assert len(node.seen) > beats
            running.append(start)
            if len(running) == 2:  # both slots are used: the next one waits for the oldest
                assert node.ended(running.pop(0))["ok"]
        for start in running:
            assert node.ended(start)["ok"]
            assert gateway.wait("ended", start["process_id"])["verdict"] == "OK"
        assert world.db.sql("select distinct status, verdict, attempt from processes") == [["completed", "OK", "1"]]
        assert world.db.sql("select id, state from nodes") == [["n1", "ready"]]
        assert scheduler.get("/readyz")[1].startswith("leader")
    finally:
        world.close()
        postgres.close()


def test_shim_steps(tmp_path, release):
    """What runs goes on and has the wall time that it was given, neither cut short nor without end."""
    clock, node = Clock(tmp_path), test_shim.Node()
    try:
        with clock:
            node.start()
        for hours in (1, -1, 0):
            patient = node.order("python", {"main.py": "import time\nprint('begun', flush=True)\ntime.sleep(3)\nprint('done')"})
            endless = node.order("python", {"main.py": "import time\ntime.sleep(1000)"}, limits={"wall_ms": 4000})
            for run in (patient, endless):
                assert run.answer.get("ok"), run.answer
                node.wait(lambda h: h["op"] == "started" and h["process_id"] == run.process_id)
            clock.step(hours)
            for run in (patient, endless):
                run.wait(120)
            assert patient.end["verdict"] == "OK" and patient.output() == b"begun\ndone\n"
            assert endless.end["verdict"] == "WALL_LIMIT" and 4000 <= endless.end["run"]["usage"]["wall_ms"] < 60000
            assert 3000 <= patient.end["run"]["usage"]["wall_ms"] < 60000
        assert node.python("print(1)").output() == b"1\n"
    finally:
        node.close()
