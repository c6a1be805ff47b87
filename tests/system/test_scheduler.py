# SPDX-License-Identifier: Apache-2.0
"""The scheduler alone: the real daemon on a real PostgreSQL, between scripted gateways and nodes."""

import contextlib
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

import pytest

from conftest import free_port
from link_peer import Keyring, connect
from pg_fixture import Postgres

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUTCOME = {"compile": None, "run": {"verdict": "OK", "exit_code": 0}, "status": "completed", "verdict": "OK", "words": "\"\\{}é"}


def find_scheduler():
    for d in [os.environ.get("DEVBOX_BIN"), ROOT / "build/asan/bin", ROOT / "build/release/bin", ROOT / "build/dev/bin"]:
        if d and (pathlib.Path(d) / "devbox-scheduler").exists():
            return str(pathlib.Path(d) / "devbox-scheduler")
    pytest.skip("the scheduler is not built (DEVBOX_BIN)")


def eventually(fn, timeout=60):
    deadline = time.monotonic() + timeout
    while True:
        value = fn()
        if value:
            return value
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


class Scheduler:
    def __init__(self, world, **options):
        self.world, self.port = world, free_port(1)
        self.options = {"lease-ms": 30000, "heartbeat-ms": 100, "scan-ms": 200, **options}
        self.start()

    def start(self):
        with open(self.world.dir / f"scheduler-{self.port}.txt", "ab") as out:
            self.proc = subprocess.Popen(
                [find_scheduler(), f"--listen=127.0.0.1:{self.port}", f"--database={self.world.db.conninfo}",
                 f"--keys={self.world.keys.path}", "--log-level=debug", *[f"--{k}={v}" for k, v in self.options.items()]],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as r:
                return r.status, r.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()
        except OSError:
            return 0, ""

    def ready(self, word="leader"):
        eventually(lambda: self.proc.poll() is not None or self.get("/readyz")[1].startswith(word))
        assert self.proc.poll() is None, self.log()
        return self

    def log(self):
        return (self.world.dir / f"scheduler-{self.port}.txt").read_text()

    def stop(self, signo=signal.SIGTERM):
        if self.proc.poll() is None:
            self.proc.send_signal(signo)
        return self.proc.wait(60)

    def connect(self, path, label):
        def attempt():
            try:
                return connect(self.port, path, self.world.keys.token(label))
            except OSError:
                return None
        return eventually(attempt)


class End:
    """A scripted peer of the scheduler; everything it was ever sent is in `seen`."""

    def __init__(self):
        self.seen, self.changed = [], threading.Condition()

    def note(self, header, blob):
        with self.changed:
            self.seen.append({**header, "blob": blob})
            self.changed.notify_all()

    def find(self, op, process_id=None, **fields):
        return [h for h in self.seen if h["op"] == op and (not process_id or h["process_id"] == process_id)
                and all(h.get(k) == v for k, v in fields.items())]

    def wait(self, op, process_id=None, count=1, timeout=60, **fields):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.find(op, process_id, **fields)) >= count, timeout), (op, self.seen)
            return self.find(op, process_id, **fields)[count - 1]


class Gateway(End):
    def __init__(self, scheduler):
        super().__init__()
        self.link = scheduler.connect("/gateway", "gateway")
        self.link.on_request = self.note

    def place(self, p, blob=b"DBXF\0\0\0\0"):
        return self.link.request("place", blob, **p)


class Node(End):
    """Takes what it is given; `script(header)` may answer a start otherwise."""

    def __init__(self, world, name, slots=4, templates=("python",)):
        super().__init__()
        self.world, self.name, self.slots, self.templates = world, name, slots, templates
        self.has, self.script, self.link = {}, lambda header: {"ok": True}, None
        world.ends.append(self)

    def report(self):
        return {"capacity": {"sandboxes": self.slots, "memory_mb": 1000, "cpus": 2},
                "templates": {t: {"warm": 1} for t in self.templates}}

    def hello(self, scheduler):
        self.link = scheduler.connect("/node", f"node:{self.name}")
        self.link.on_request = self.on_request
        answer = self.link.request("hello", node_id=self.name, url=f"http://{self.name}:1", version="1", **self.report(),
                                   processes=[{"process_id": p, "attempt": a, "state": s} for p, (a, s) in self.has.items()])
        if answer.get("ok"):
            threading.Thread(target=self.beat, args=(self.link, answer["heartbeat_ms"] / 1000), daemon=True).start()
        return answer

    def beat(self, link, seconds):
        while not link.closed.wait(seconds):
            if self.link is link:
                try:
                    link.send({"op": "state", "running": len(self.has), **self.report()})
                except OSError:
                    return

    def on_request(self, header, blob):
        answer = {"ok": True}
        if header["op"] == "start":
            answer = self.script(header)
            if answer and answer.get("ok"):
                self.has.setdefault(header["process_id"], (header["attempt"], "starting"))
        elif header["op"] == "drop":
            self.has.pop(header["process_id"], None)
        self.note(header, blob)
        return answer

    def started(self, start):
        self.has[start["process_id"]] = (start["attempt"], "running")
        return self.link.request("started", process_id=start["process_id"], attempt=start["attempt"], at_us=int(time.time() * 1e6))

    def ended(self, start, verdict="OK", status="completed", outcome=OUTCOME, **more):
        self.has[start["process_id"]] = (start["attempt"], "ended")
        answer = self.link.request("ended", process_id=start["process_id"], attempt=start["attempt"], status=status,
                                   verdict=verdict, outcome=outcome, end_record=True, **more)
        if answer.get("ok"):
            self.has.pop(start["process_id"], None)
        return answer

    def die(self):
        link, self.link = self.link, None
        link.close()


class World:
    def __init__(self, postgres):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="devbox-scheduler-"))
        self.keys, self.db = Keyring(self.dir / "keys"), postgres.database()
        self.schedulers, self.ends = [], []

    def scheduler(self, **options):
        self.schedulers.append(Scheduler(self, **options))
        return self.schedulers[-1]

    def node(self, name="n1", **kw):
        return Node(self, name, **kw)

    def close(self):
        codes = [s.stop() for s in self.schedulers]
        logs = "".join(s.log() for s in self.schedulers)
        shutil.rmtree(self.dir, ignore_errors=True)
        assert "Sanitizer" not in logs and "assertion failed" not in logs, logs[-4000:]
        assert all(c in (0, -9) for c in codes), (codes, logs[-4000:])


@pytest.fixture(scope="module")
def postgres():
    pg = Postgres()
    yield pg
    pg.close()


@pytest.fixture
def world(postgres):
    w = World(postgres)
    yield w
    w.close()


def test_place_start_started_ended(world):
    s = world.scheduler().ready()
    gw, other, node = Gateway(s), Gateway(s), world.node()
    assert node.hello(s) == {"re": 1, "ok": True, "epoch": 1, "heartbeat_ms": 100}
    p = world.db.process(world.db.owner(), stdin=b"in")
    assert gw.place(p, b"DBXF\0\0\0\0in")["state"] == "placed"
    start = node.wait("start", p["process_id"])
    assert start["blob"] == b"DBXF\0\0\0\0in"
    assert {k: start[k] for k in p} == p and (start["attempt"], start["epoch"]) == (1, 1)
    row = world.db.row(p["process_id"])
    assert (row["status"], row["attempt"], row["node_id"], row["epoch"]) == ("pending", "1", "n1", "1")
    assert gw.place(p)["state"] == "placed"  # the same again is the same
    assert node.started(start)["ok"]
    for g in (gw, other):
        assert g.wait("started", p["process_id"])["url"] == "http://n1:1"
    where = gw.link.request("where", process_id=p["process_id"])
    assert (where["status"], where["node_id"], where["url"]) == ("running", "n1", "http://n1:1")
    assert world.db.row(p["process_id"])["status"] == "running"
    assert node.ended(start)["ok"]
    for g in (gw, other):
        end = g.wait("ended", p["process_id"])
        assert (end["status"], end["verdict"], end["outcome"]) == ("completed", "OK", OUTCOME)
    row = world.db.row(p["process_id"])
    assert (row["status"], row["verdict"], row["inputs"], row["started"], row["ended"]) == ("completed", "OK", "0", "t", "t")
    assert node.ended(start, verdict="INTERNAL", status="failed")["ok"]  # said twice: the first holds
    assert world.db.row(p["process_id"])["verdict"] == "OK"
    assert len(node.find("start")) == 1
    assert gw.link.request("where", process_id=p["process_id"])["status"] == "completed"
    assert world.db.sql("select node_id, ended_at is not null from sandboxes") == [["n1", "t"]]
    assert world.db.sql("select id, url, state from nodes") == [["n1", "http://n1:1", "ready"]]


def test_ended_implies_started_and_many_at_once(world):
    s = world.scheduler().ready()
    gw, node, owner = Gateway(s), world.node(slots=50), world.db.owner()
    node.hello(s)
    ps = [world.db.process(owner) for _ in range(20)]
    for p in ps:
        gw.link.send({"op": "place", **p}, b"DBXF\0\0\0\0")
    starts = [node.wait("start", p["process_id"]) for p in ps]
    for i, st in enumerate(starts):
        assert node.ended(st, verdict="EXIT_CODE" if i % 2 else "OK")["ok"]
    for i, p in enumerate(ps):
        gw.wait("ended", p["process_id"], verdict="EXIT_CODE" if i % 2 else "OK")
        row = world.db.row(p["process_id"])
        assert (row["status"], row["started"], row["attempt"]) == ("completed", "t", "1")


def test_an_end_says_when_it_started(world):
    s = world.scheduler().ready()
    gw, node, owner = Gateway(s), world.node(slots=50), world.db.owner()
    node.hello(s)
    now = int(time.time() * 1e6)
    for said, kept in ((now - 5_000_000, True), (now + 3600_000_000, False), (-1, False), ("x", False)):
        p = world.db.process(owner)
        gw.link.send({"op": "place", **p}, b"DBXF\0\0\0\0")
        assert node.ended(node.wait("start", p["process_id"]), started_us=said)["ok"]
        at = world.db.sql(f"select (extract(epoch from started_at) * 1000000)::bigint from processes where id = '{p['process_id']}'")[0][0]
        assert int(at) == said if kept else int(at) >= now


def test_refused_and_wrong(world):
    s = world.scheduler().ready()
    for path, label in [("/gateway", "node:n1"), ("/node", "gateway"), ("/other", "gateway")]:
        with pytest.raises(ConnectionRefusedError):
            connect(s.port, path, world.keys.token(label))
    with pytest.raises(ConnectionRefusedError, match="401"):
        connect(s.port, "/gateway", Keyring(world.dir / "foreign").token("gateway"))
    link = s.connect("/node", "node:n1")
    answer = link.request("hello", node_id="n2", url="http://x:1", version="1", **world.node().report(), processes=[])
    assert answer["error"]["kind"] == "denied"
    assert link.closed.wait(60)
    gw = Gateway(s)
    assert gw.link.request("place", process_id="x")["error"]["field"] == "process_id"
    assert gw.link.request("dance")["error"]["kind"] == "invalid"
    assert gw.link.request("where", process_id="00000000-0000-7000-8000-000000000000")["error"]["kind"] == "not_found"
    assert s.get("/healthz") == (200, "ok\n")
    assert "devbox_scheduler_leading 1" in s.get("/metrics")[1]


def test_scan_finds_what_nobody_announced(world):
    s = world.scheduler().ready()
    p = world.db.process(world.db.owner(), files=b"DBXF\1\0\0\0rest", stdin=b"stdin", age_ms=1000)
    node = world.node()
    node.hello(s)
    start = node.wait("start", p["process_id"])
    assert start["blob"] == b"DBXF\1\0\0\0reststdin" and start["files_len"] == 12
    assert start["request"] == p["request"] and start["sandbox_id"] == p["sandbox_id"] and start["owner"] == p["owner"]
    node.ended(start)
    assert world.db.row(p["process_id"])["status"] == "completed"


def test_queue_waits_for_template_and_slot(world):
    s = world.scheduler().ready()
    gw, node, owner = Gateway(s), world.node(slots=1), world.db.owner()
    a, b, c = (world.db.process(owner) for _ in range(3))
    go = world.db.process(owner, template="go")
    for p in (go, a, b, c):
        assert gw.place(p)["state"] == "queued"
    node.hello(s)
    for p in (a, b, c):
        start = node.wait("start", p["process_id"])
        assert len([h for h in node.seen if h["op"] == "start"]) == (a, b, c).index(p) + 1
        node.ended(start)
    assert not node.find("start", go["process_id"])
    node.templates = ("python", "go")  # its next report says so
    node.ended(node.wait("start", go["process_id"]))
    gw.wait("ended", go["process_id"], verdict="OK")


def test_cancel(world):
    s = world.scheduler().ready()
    gw, node, owner = Gateway(s), world.node(slots=1), world.db.owner()
    queued = world.db.process(owner)
    assert gw.place(queued)["state"] == "queued"
    assert gw.link.request("cancel", process_id=queued["process_id"])["ok"]
    end = gw.wait("ended", queued["process_id"])
    assert (end["status"], end["verdict"], end["outcome"]) == ("cancelled", "CANCELLED", None)
    row = world.db.row(queued["process_id"])
    assert (row["status"], row["started"], row["inputs"]) == ("cancelled", "f", "0")
    node.hello(s)
    running = world.db.process(owner)
    gw.place(running)
    start = node.wait("start", running["process_id"])
    node.started(start)
    assert gw.link.request("cancel", process_id=running["process_id"])["ok"]
    assert node.wait("cancel", running["process_id"])["attempt"] == 1
    node.ended(start, verdict="CANCELLED", status="cancelled")
    assert gw.wait("ended", running["process_id"])["verdict"] == "CANCELLED"
    assert gw.link.request("cancel", process_id=running["process_id"])["status"] == "cancelled"
    unannounced = world.db.process(owner, age_ms=-60000)  # too young for the scan
    assert gw.link.request("cancel", process_id=unannounced["process_id"])["ok"]
    gw.wait("ended", unannounced["process_id"], verdict="CANCELLED")
    assert not node.find("start", unannounced["process_id"]) and not node.find("start", queued["process_id"])


def test_refused_start_goes_back_and_a_fault_ends(world):
    s = world.scheduler().ready()
    gw, node, owner = Gateway(s), world.node(), world.db.owner()
    answers = [{"error": {"kind": "limit", "field": None, "message": "full"}},
               {"error": {"kind": "unavail", "field": None, "message": "later"}}, {"ok": True}]
    node.script = lambda header: answers.pop(0)
    node.hello(s)
    p = world.db.process(owner)
    gw.place(p)
    start = node.wait("start", p["process_id"], count=3)
    assert start["attempt"] == 1
    node.ended(start)
    assert gw.wait("ended", p["process_id"])["verdict"] == "OK"
    node.script = lambda header: {"error": {"kind": "invalid", "field": "request", "message": "our bug"}}
    p = world.db.process(owner)
    gw.place(p)
    assert gw.wait("ended", p["process_id"])["verdict"] == "INTERNAL"
    assert world.db.row(p["process_id"])["status"] == "failed"


def test_node_lost(world):
    s = world.scheduler(**{"lease-ms": 2000}).ready()
    gw, node, owner = Gateway(s), world.node("n1"), world.db.owner()
    node.hello(s)
    never, safe = world.db.process(owner), world.db.process(owner, retry="safe")
    for p in (never, safe):
        gw.place(p)
        node.started(node.wait("start", p["process_id"]))
    node.die()
    end = gw.wait("ended", never["process_id"])
    assert (end["status"], end["verdict"], end["outcome"]) == ("failed", "NODE_LOST", None)
    eventually(lambda: world.db.sql("select state from nodes") == [["lost"]])
    second = world.node("n2")
    second.hello(s)
    start = second.wait("start", safe["process_id"])
    assert start["attempt"] == 2
    node.hello(s)  # it comes back, with what was given away
    for p in (never, safe):
        assert node.wait("drop", p["process_id"])["attempt"] == 1
    assert node.ended({"process_id": safe["process_id"], "attempt": 1}, verdict="INTERNAL")["ok"]  # late: changes nothing
    second.started(start)
    assert gw.wait("started", safe["process_id"], node_id="n2")
    second.ended(start)
    assert gw.wait("ended", safe["process_id"])["verdict"] == "OK"
    row = world.db.row(safe["process_id"])
    assert (row["status"], row["attempt"], row["node_id"]) == ("completed", "2", "n2")


def test_three_attempts(world):
    s = world.scheduler(**{"lease-ms": 2000}).ready()
    gw = Gateway(s)
    p = world.db.process(world.db.owner(), retry="safe")
    gw.place(p)
    for attempt in (1, 2, 3):
        node = world.node(f"n{attempt}")
        node.hello(s)
        start = node.wait("start", p["process_id"])
        assert start["attempt"] == attempt
        node.started(start)
        node.die()
    assert gw.wait("ended", p["process_id"])["verdict"] == "NODE_LOST"


def test_reported_lost_runs_again(world):
    s = world.scheduler().ready()
    gw, node, owner = Gateway(s), world.node(), world.db.owner()
    node.hello(s)
    never, safe = world.db.process(owner), world.db.process(owner, retry="safe")
    for p in (never, safe):
        gw.place(p)
        node.started(node.wait("start", p["process_id"]))
    for verdict in ("NODE_LOST", "INTERNAL"):
        start = node.wait("start", safe["process_id"], count=1 if verdict == "NODE_LOST" else 2)
        assert node.ended(start, verdict=verdict, status="failed", outcome=None)["ok"]
    start = node.wait("start", safe["process_id"], count=3)
    assert start["attempt"] == 3 and not gw.find("ended", safe["process_id"])
    assert node.ended(start, verdict="NODE_LOST", status="failed", outcome=None)["ok"]
    assert gw.wait("ended", safe["process_id"])["verdict"] == "NODE_LOST"
    assert node.ended(node.find("start", never["process_id"])[0], verdict="NODE_LOST", status="failed", outcome=None)["ok"]
    assert gw.wait("ended", never["process_id"])["verdict"] == "NODE_LOST"
    assert len(node.find("start", never["process_id"])) == 1


def test_node_forgot_or_knows(world):
    s = world.scheduler().ready()
    gw, node, owner = Gateway(s), world.node(), world.db.owner()
    node.hello(s)
    kept, forgotten = (world.db.process(owner) for _ in range(2))
    for p in (kept, forgotten):
        gw.place(p)
        node.started(node.wait("start", p["process_id"]))
    node.script = lambda header: None  # takes it and never answers
    unasked = world.db.process(owner)  # no earlier: the scan may be the first to place it
    gw.place(unasked)
    node.wait("start", unasked["process_id"])
    node.die()
    del node.has[forgotten["process_id"]]
    node.script = lambda header: {"ok": True}
    node.hello(s)
    assert gw.wait("ended", forgotten["process_id"])["verdict"] == "NODE_LOST"
    start = node.wait("start", unasked["process_id"], count=2)  # it never had it: the same attempt again
    assert start["attempt"] == 1
    node.ended(start)
    assert gw.wait("ended", unasked["process_id"])["verdict"] == "OK"
    node.ended({"process_id": kept["process_id"], "attempt": 1})
    assert gw.wait("ended", kept["process_id"])["verdict"] == "OK"


def test_leader_killed_and_started_again(world):
    """At each stage: queued, placed but not answered, starting, running, ended but not taken. Nothing lost, nothing twice."""
    s = world.scheduler().ready()
    gw, node, owner = Gateway(s), world.node(slots=4), world.db.owner()
    node.hello(s)
    running, starting, ended = (world.db.process(owner) for _ in range(3))
    for p in (running, starting, ended):
        gw.place(p)
        node.wait("start", p["process_id"])
    node.started(node.find("start", running["process_id"])[0])
    node.started(node.find("start", ended["process_id"])[0])
    node.script = lambda header: None
    silent = world.db.process(owner)  # no earlier: the scan may be the first to place it
    gw.place(silent)
    node.wait("start", silent["process_id"])
    queued = world.db.process(owner)
    assert gw.place(queued)["state"] == "queued"
    s.stop(signal.SIGKILL)
    node.has[ended["process_id"]] = (1, "ended")
    node.script = lambda header: {"ok": True}
    s.start()
    s.ready()
    gw = Gateway(s)
    assert node.hello(s)["epoch"] == 2
    assert node.ended(node.find("start", ended["process_id"])[0])["ok"]
    again = node.wait("start", silent["process_id"], count=2)
    assert (again["attempt"], again["epoch"], again["blob"]) == (1, 2, b"DBXF\0\0\0\0")
    found = node.wait("start", queued["process_id"])
    for st in (found, again, node.find("start", running["process_id"])[0], node.find("start", starting["process_id"])[0]):
        assert node.ended(st)["ok"]
    for p in (running, starting, ended, silent, queued):
        assert gw.wait("ended", p["process_id"])["verdict"] == "OK"
        assert world.db.row(p["process_id"])["attempt"] == "1"
    for p in (running, starting, ended, queued):
        assert len(node.find("start", p["process_id"])) == 1
    assert not node.find("drop")


def test_two_schedulers(world):
    first = world.scheduler().ready()
    second = world.scheduler().ready("standby")
    assert second.get("/readyz")[0] == 200
    with pytest.raises(ConnectionRefusedError, match="503"):
        connect(second.port, "/gateway", world.keys.token("gateway"))
    gw, node, owner = Gateway(first), world.node(), world.db.owner()
    node.hello(first)
    p = world.db.process(owner)
    gw.place(p)
    start = node.wait("start", p["process_id"])
    node.started(start)
    first.stop(signal.SIGKILL)
    second.ready()
    gw = Gateway(second)
    assert node.hello(second)["epoch"] == 2
    node.ended(start)
    assert gw.wait("ended", p["process_id"])["verdict"] == "OK"
    first.start()
    first.ready("standby")
    assert second.stop() == 0  # gives it up: taken at once
    first.ready()
    assert "epoch 3" in first.get("/readyz")[1]


def test_stale_epoch_writes_nothing(world):
    s = world.scheduler().ready()
    gw, node = Gateway(s), world.node()
    node.hello(s)
    p = world.db.process(world.db.owner(), age_ms=-5000)  # for a while too young for the scan
    world.db.sql("update scheduler_epoch set epoch = 40")  # as if another had taken the lead unheard
    with contextlib.suppress(OSError):  # whatever it writes first tells it so
        gw.link.send({"op": "place", **p}, b"DBXF\0\0\0\0")
    eventually(lambda: "leads no more" in s.log())
    assert gw.link.closed.wait(60)
    assert not node.find("start")
    s.ready()  # it takes it again, rightly
    assert "epoch 41" in s.get("/readyz")[1]
    assert node.hello(s)["epoch"] == 41
    start = node.wait("start", p["process_id"])
    assert start["epoch"] == 41
    node.ended(start)
    assert world.db.row(p["process_id"])["epoch"] == "41"


def test_database_away(world, postgres):
    s = world.scheduler().ready()
    node = world.node()
    node.hello(s)
    gw, p = Gateway(s), world.db.process(world.db.owner())
    gw.place(p)
    start = node.wait("start", p["process_id"])
    postgres.stop()
    eventually(lambda: s.get("/readyz")[0] == 503)
    assert s.get("/healthz")[0] == 200
    postgres.start()
    s.ready()
    gw = Gateway(s)
    node.hello(s)
    node.ended(start)
    assert gw.wait("ended", p["process_id"])["verdict"] == "OK"
    assert world.db.row(p["process_id"])["status"] == "completed"


class Worker(Node):
    """A node that runs what it gets, keeps what is not acknowledged, and comes back to whoever leads."""

    def __init__(self, world, name, **kw):
        super().__init__(world, name, **kw)
        self.runs, self.stop = {}, threading.Event()
        self.script = self.take
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def take(self, header):
        key = (header["process_id"], header["attempt"])
        self.runs.setdefault(key, 0)
        if header["process_id"] not in self.has:
            self.runs[key] += 1
        return {"ok": True}

    def work(self):
        while not self.stop.is_set():
            try:
                if not self.link or self.link.closed.is_set():
                    s = next(s for s in self.world.schedulers if s.get("/readyz")[1].startswith("leader"))
                    self.link = connect(s.port, "/node", self.world.keys.token(f"node:{self.name}"))
                    self.link.on_request = self.on_request
                    listed = [{"process_id": p, "attempt": a, "state": st} for p, (a, st) in list(self.has.items())]
                    answer = self.link.request("hello", timeout=60, node_id=self.name, url=f"http://{self.name}:1", version="1",
                                               processes=listed, **self.report())
                    assert answer.get("ok")
                    threading.Thread(target=self.beat, args=(self.link, 0.1), daemon=True).start()
                for pid, (attempt, state) in list(self.has.items()):
                    ref = {"process_id": pid, "attempt": attempt}
                    (self.started if state == "starting" else self.ended)(ref)
                self.stop.wait(0.02)
            except (OSError, StopIteration, AssertionError, RuntimeError, KeyError, queue.Empty):
                self.link = self.link and self.link.close()
                self.stop.wait(0.05)


def test_kills_at_random_lose_nothing(world):
    one, two = world.scheduler(), world.scheduler()
    eventually(lambda: any(s.get("/readyz")[1].startswith("leader") for s in (one, two)))
    nodes, owner, ps = [Worker(world, f"w{i}", slots=3) for i in range(2)], world.db.owner(), []
    try:
        for i in range(6):
            ps += [world.db.process(owner) for _ in range(8)]
            leader = next(s for s in (one, two) if s.get("/readyz")[1].startswith("leader"))
            leader.stop(signal.SIGKILL)
            leader.start()
            eventually(lambda: any(s.get("/readyz")[1].startswith("leader") for s in (one, two)))
        eventually(lambda: world.db.sql("select count(*) from processes where status in ('pending', 'running')") == [["0"]], 60)
    finally:
        for n in nodes:
            n.stop.set()
            n.thread.join(60)
    rows = world.db.sql("select status, verdict, attempt, count(*) from processes group by 1, 2, 3")
    assert rows == [["completed", "OK", "1", str(len(ps))]]
    runs = {}
    for n in nodes:
        for (pid, attempt), count in n.runs.items():
            runs[pid] = runs.get(pid, 0) + count
    assert runs == {p["process_id"]: 1 for p in ps}


def test_old_rows_go(world):
    """What nobody asks for after a day is removed by the leader; what is younger stays."""
    world.scheduler().ready().stop()  # it has made the schema
    owner = world.db.owner()
    world.db.sql(f"""
        insert into idempotency (owner, key, request_hash, response, status, created_at)
            select '{owner}', k, '', '', 200, now() - age from (values ('old', interval '25 hours'), ('new', interval '1 hour')) v(k, age);
        insert into workspaces (id, owner, name, template) values ('{owner}', '{owner}', 'w', 'python');
        insert into file_events (workspace_id, revision, op, path, type, at)
            select '{owner}', 1, 'skipped', p, 'file', now() - age from (values ('old', interval '25 hours'), ('new', interval '1 hour')) v(p, age);
        insert into sessions (id, user_id, hash, expires_at)
            select gen_random_uuid(), '{owner}', h::bytea, now() - age from (values ('old', interval '8 days'), ('new', interval '6 days')) v(h, age)""")
    world.scheduler().ready()
    for column, table in (("key", "idempotency"), ("path", "file_events"), ("encode(hash, 'escape')", "sessions")):
        eventually(lambda c=column, t=table: world.db.sql(f"select {c} from {t}") == [["new"]])


def test_guests_and_audit_go(world):
    """Guests who stay away go with all they made; who came back, has become an account, or runs something, stays."""
    world.scheduler().ready().stop()
    keep = ("account", "young", "session", "key", "runs", "sandbox")
    users = {name: world.db.owner() for name in ("away", "never", *keep)}
    world.db.sql("; ".join(f"update users set guest = {name != 'account'}, created_at = now() - interval '{5 if name == 'young' else 40} days' where id = '{u}'"
                           for name, u in users.items()))
    for name, days in (("away", 31), ("session", 1)):
        world.db.sql(f"insert into sessions (id, user_id, hash, created_at, expires_at, last_used_at) values (gen_random_uuid(), '{users[name]}', '{name}', "
                     f"now() - interval '40 days', now() + interval '9 days', now() - interval '{days} days')")
    world.db.sql(f"insert into api_keys (id, user_id, hash, created_at, last_used_at) values (gen_random_uuid(), '{users['key']}', 'k', now() - interval '40 days', now())")
    made = world.db.process(users["away"])
    world.db.sql(f"""update processes set status = 'completed', verdict = 'OK'; update sandboxes set ended_at = now();
        insert into batches (id, owner, template, isolation, retry, priority, files, total, status)
            values ('{users['away']}', '{users['away']}', 'python', 'execution', 'never', 0, '', 1, 'completed');
        update processes set batch_id = '{users['away']}', batch_index = 0, batch_seq = 1;
        insert into webhook_deliveries (batch_id) values ('{users['away']}');
        insert into workspaces (id, owner, name, template) values ('{users['away']}', '{users['away']}', 'w', 'python');
        insert into files (id, workspace_id, path, type, content, size, etag) values (gen_random_uuid(), '{users['away']}', 'a', 'file', 'x', 1, 'e');
        insert into workspace_members (workspace_id, email, role) values ('{users['away']}', 'a@b.c', 'viewer');
        insert into share_links (id, workspace_id, slug, role) values ('{users['away']}', '{users['away']}', 's', 'viewer');
        insert into link_uses (link_id, user_id) values ('{users['away']}', '{users['account']}');
        insert into audit (action, created_at) values ('old', now() - interval '366 days'), ('new', now() - interval '364 days')""")
    world.db.process(users["runs"])
    world.db.sql(f"insert into sandboxes (id, owner, template, kind) values (gen_random_uuid(), '{users['sandbox']}', 'python', 'workspace')")
    idle = world.scheduler(**{"guest-days": 0, "audit-days": 0, "sweep-ms": 50}).ready()
    for _ in range(2):  # it has swept twice, and left these alone
        world.db.sql("insert into idempotency (owner, key, request_hash, response, status, created_at) "
                     f"values ('{users['account']}', 'k', '', '', 200, now() - interval '25 hours')")
        eventually(lambda: world.db.sql("select * from idempotency") == [])
    assert world.db.sql("select count(*) from users") == [["8"]] and world.db.sql("select count(*) from audit") == [["2"]]
    idle.stop()
    world.scheduler(**{"sweep-ms": 50}).ready()
    eventually(lambda: world.db.sql("select action from audit") == [["new"]])
    eventually(lambda: world.db.sql("select count(*) from users") == [["6"]])
    assert {r[0] for r in world.db.sql("select id from users")} == {users[name] for name in keep}
    assert world.db.sql(f"select 1 from processes where id = '{made['process_id']}'") == []
    for table in ("workspaces", "files", "share_links", "link_uses", "batches", "webhook_deliveries"):
        assert world.db.sql(f"select 1 from {table}") == [], table


def block(**files):
    """As common/proto/files.h has it."""
    out = b"DBXF" + len(files).to_bytes(4, "little")
    for path, data in files.items():
        out += bytes([0, 0]) + len(path).to_bytes(2, "little") + (0).to_bytes(4, "little") + len(data).to_bytes(8, "little") + path.encode() + data
    return out


def test_what_a_batch_shares_is_read_once(world):
    """The files of all its executions are in front of each one's own; they are asked of the database once, not with each."""
    world.scheduler().ready().stop()
    owner, batch = world.db.owner(), "00000000-0000-4000-8000-000000000001"
    ps = [world.db.process(owner, files=block(**{f"own{i}": b"o"}), stdin=b"in") for i in range(4)]
    world.db.sql(f"insert into batches (id, owner, template, isolation, retry, priority, max_parallel, files, total) values "
                 f"('{batch}', '{owner}', 'python', 'execution', 'never', 0, 1, '\\x{block(shared=b'first').hex()}', 4); " +
                 "; ".join(f"update processes set batch_id = '{batch}', batch_index = {i} where id = '{p['process_id']}'" for i, p in enumerate(ps)))

    def begin():
        s, node = world.scheduler().ready(), world.node()
        node.hello(s)
        return s, node

    def run(node, i, shared):
        start = node.wait("start", ps[i]["process_id"])
        assert start["blob"] == block(shared=shared, **{f"own{i}": b"o"}) + b"in" and start["files_len"] == len(start["blob"]) - 2
        assert node.ended(start)["ok"]

    s, node = begin()
    run(node, 0, b"first")
    world.db.sql(f"update batches set files = '\\x{block(shared=b'other').hex()}'")  # nobody does; here it shows who looks
    run(node, 1, b"first")
    run(node, 2, b"first")
    s.stop()
    s, node = begin()  # who has not read it does
    run(node, 3, b"other")
    eventually(lambda: world.db.sql("select status, n_completed from batches") == [["completed", "4"]])
