# SPDX-License-Identifier: Apache-2.0
"""The shim killed at any instant, or replaced: programs go on, and every byte they wrote is read once."""

import hashlib
import json
import os
import queue
import random
import shutil
import signal
import socket
import struct
import subprocess
import time
import uuid

import pytest

from link_peer import TYPES, connect, read_log
from test_output_log import Broker
from test_shim import Node, Run, kill_all_in

LONG = os.environ.get("DEVBOX_LONG", "0") not in ("", "0")
ROOMY = {"cpu_ms": 3600000, "wall_ms": 3600000, "memory_mb": 64, "output_bytes": 1 << 30, "processes": 32, "open_files": 256, "disk_mb": 64}


def once(records):
    """What a reader sees: a number that was seen is a repeat, and says the same again. (Only an END has no time of its own but that of being said.)"""
    seen = []
    for r in records:
        if r["seq"] < len(seen):
            was = seen[r["seq"]]
            differs = {k for k in r if r[k] != was[k]} - {"at"} - ({"ts"} if r["type"] == "end" else set())
            assert not differs, (r, was)
        else:
            assert r["seq"] == len(seen), (r["seq"], len(seen))
            seen.append(r)
    return seen


class AdoptedRun(Run):
    def read(self):
        hexid = self.process_id.replace("-", "")
        return once([r for r in self.node.read_log(self.sandbox_id) if r["process"].hex() == hexid])

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
    warm = 0
    program = None  # another shim's, with the same keeper and programs

    def spawn(self, name, program, *args):
        if name == "shim" and self.program:
            args = (*args, "--shim-exec", self.bin / "devbox-shim-exec")
            program = self.program
        return super().spawn(name, program, *args)

    def order(self, template, files, **kw):
        kw.setdefault("limits", ROOMY)
        kw.setdefault("compile_limits", ROOMY)
        run = super().order(template, files, **kw)
        assert run.answer.get("ok"), run.answer
        run.__class__ = AdoptedRun
        return run

    def read_log(self, sandbox_id):
        return read_log(self.log_dir, sandbox_id)

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
        old, deadline = self.link, time.monotonic() + 90
        while True:
            self.hello = self.wait(lambda h: h["op"] == "hello", deadline - time.monotonic())
            self.port = int(self.hello["url"].rsplit(":", 1)[1].split("/")[0])
            if self.serves():
                break
        while self.link is old or self.link.closed.is_set() or not self.listener.peers.empty():
            self.link = self.listener.peers.get(timeout=60)

    def serves(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=60).close()
            return True
        except OSError:
            return False

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
        deadline = time.monotonic() + 60
        while n.warm == 0 and n.leftovers():  # the probe's sandbox is on its way out
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
    fast, slow = 60000, (60 if LONG else 25) * rounds
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


def test_upgrade_under_load(node):
    """SIGHUP: the shim ends at once, and one of another file takes its place."""
    shutil.copy(node.bin / "devbox-shim", node.dir / "devbox-shim-next")
    turn = iter(range(1000))

    def upgrade():
        for _ in range(60):
            node.shim.send_signal(signal.SIGHUP)
            try:
                node.shim.wait(1)
                break
            except subprocess.TimeoutExpired:
                pass  # before it listens to one, it is lost where the tests run under nohup
        assert node.shim.poll() is not None
        node.program = node.dir / "devbox-shim-next" if next(turn) % 2 else None

    hurt(node, 40 if LONG else 6, upgrade)


GO = """package main
import ("io"; "os")
func main() { io.Copy(os.Stdout, os.Stdin); os.Exit(5) }
"""


def test_killed_while_it_compiles(node):
    run = node.order("go", {"main.go": GO}, stdin=b"in\n" * 100000, compile_limits={**ROOMY, "memory_mb": 1024})
    node.started(run)
    for _ in range(5):
        node.pause(0.3)
        node.kill()
        node.again()
    end = run.wait(120)
    assert (end["verdict"], end["run"]["exit_code"], end["compile"]["verdict"]) == ("EXIT_CODE", 5, "OK"), end
    assert run.output() == b"in\n" * 100000


def test_limits_while_nobody_is_there(node):
    """A limit that passed is told at once, a cancel comes through, what ended meanwhile is told as it ended."""
    sleeper = "import time\nprint('on', flush=True)\ntime.sleep(1000)\n"
    cancel = node.order("python", {"main.py": sleeper})
    goes = "import os, sys, time\nprint('on', flush=True)\nsys.stdin.readline()\ntime.sleep(2)\nos.write(1, b'x' * 300000)\nsys.exit(9)\n"
    ends = node.order("python", {"main.py": goes}, stdin_open=True)
    for run in (cancel, ends):
        node.until(run, b"on\n")
    on = time.monotonic()
    wall = node.order("python", {"main.py": sleeper}, limits={**ROOMY, "wall_ms": 6000})
    node.until(wall, b"on\n")
    before = time.monotonic()
    assert connect_gateway(node).request("input", b"go\n", process_id=ends.process_id)["ok"]
    node.pause(0.05)
    node.kill()
    while time.monotonic() < before + 7:
        node.pause(0.2)
    hello = node.again()
    assert hello.keys() == {r.process_id for r in (wall, cancel, ends)} and hello[cancel.process_id] == "running"
    node.link.request("cancel", process_id=cancel.process_id, attempt=1)
    end = ends.wait()
    assert (end["verdict"], end["run"]["exit_code"], len(ends.output())) == ("EXIT_CODE", 9, 300003)
    assert end["run"]["usage"]["wall_ms"] < (before + 7 - on) * 1000  # to its end, not to when somebody was there again
    assert wall.wait()["verdict"] == "WALL_LIMIT"
    assert cancel.wait()["verdict"] == "CANCELLED"
    node.ready()
    missing = node.order("python", {}, command=["no-such-program"])
    assert missing.wait()["run"]["exit_code"] == 127


def test_memory_and_cpu_are_counted_on(node):
    code = "import sys\nb = bytearray(40 << 20)\nprint('on', flush=True)\nsys.stdin.readline()\nfor i in range(10 ** 9): pass\n"
    run = node.order("python", {"main.py": code}, stdin_open=True, limits={**ROOMY, "cpu_ms": 2000, "memory_mb": 128})
    node.until(run, b"on\n")
    node.kill()
    node.again()
    assert connect_gateway(node).request("input", b"go\n", process_id=run.process_id)["ok"]
    node.pause(0.5)
    node.kill()
    node.again()
    end = run.wait()
    assert end["verdict"] == "TIME_LIMIT" and 2000 <= end["run"]["usage"]["cpu_ms"] < 10000, end
    assert end["run"]["usage"]["memory_peak_bytes"] > 40 << 20, end
    oom = node.order("python", {"main.py": "import sys\nprint('on', flush=True)\nsys.stdin.readline()\nb = bytearray(900 << 20)\n"},
                     stdin_open=True)
    node.until(oom, b"on\n")
    assert connect_gateway(node).request("input", b"go\n", process_id=oom.process_id)["ok"]
    node.kill()
    node.again()
    assert oom.wait()["verdict"] == "MEMORY_LIMIT"


def test_workspace(node):
    """A sandbox in which several run: all go on, the next joins them, and it ends when it is idle."""
    box = str(uuid.uuid4())

    count = "import sys, time\nfor i in range(300):\n print(i, flush=True)\n time.sleep(0.01)\nopen('left-' + sys.argv[1], 'w').write('x')\n"
    files = {"count.py": count, "list.py": "import os\nprint(sorted(f for f in os.listdir() if f.startswith('left')))\n"}

    def order(*command):
        return node.order("python", files, command=["python3", *command], sandbox_id=box, limits={},
                          workspace={"size": "cpu-small", "revision": 1, "idle_ms": 15000, "max_ms": 600000})

    runs = [order("count.py", str(i)) for i in range(4)]
    for run in runs:
        node.started(run)
    for _ in range(6):
        node.pause(random.uniform(0.05, 0.4))
        node.kill()
        node.again()
        assert node.hello["sandboxes"] == [box]
    for run in runs:
        assert run.wait(60)["verdict"] == "OK"
        assert run.output() == "".join(f"{i}\n" for i in range(300)).encode()
    node.ready()
    joined = order("list.py")
    assert joined.wait()["verdict"] == "OK"
    assert joined.output() == b"['left-0', 'left-1', 'left-2', 'left-3']\n"
    node.kill()
    node.again()
    assert node.hello["sandboxes"] == [box]
    node.wait(lambda h: h["op"] == "sandbox_ended" and h["sandbox_id"] == box, 60)


def test_warm_ones_are_kept(node):
    """A sandbox that nobody had is warm again; one that was being taken down, or had been touched, is not."""
    node.args[node.args.index("--warm") + 1] = node.warm = 1
    node.kill()
    node.again()
    node.ready()
    deadline = time.monotonic() + 60
    while warm(node) < len(node.hello["templates"]):
        assert time.monotonic() < deadline
        node.pause(0.2)
    names = {p.name for p in (node.dir / "node/sandboxes").iterdir()}
    node.kill()
    node.again()
    assert {name: t["warm"] for name, t in node.hello["templates"].items()} == dict.fromkeys(node.hello["templates"], 1)
    assert len({p.name for p in (node.dir / "node/sandboxes").iterdir()} & names) >= len(node.hello["templates"])
    node.ready()
    run = node.order("python", {"main.py": "import sys\nprint('warm', flush=True)\nsys.stdin.read()\n"}, stdin_open=True, limits={}, compile_limits={})
    node.until(run, b"warm\n")
    # What was made for who comes next has all of the CPU's weight now that he is here.
    weights = {g.name: (g / f).read_text().strip() for g in node.cgroups() for f in ("cpu.shares", "cpu.weight") if (g / f).exists()}
    assert [w for name, w in weights.items() if w in ("1024", "100") and name in names], weights  # the probe's may stand beside it
    assert connect_gateway(node).request("eof", process_id=run.process_id)["ok"]
    assert run.wait()["verdict"] == "OK" and run.output() == b"warm\n"


def warm(node):
    return sum(float(line.split()[-1]) for line in node.get("/metrics")[1].splitlines() if line.startswith("devbox_shim_pool_warm{"))


def test_keeper_and_init_killed(node):
    """What cannot be survived is told: NODE_LOST for the keeper, INTERNAL for the sandbox."""
    code = "import time\nprint('on', flush=True)\ntime.sleep(1000)\n"
    run = node.order("python", {"main.py": code})
    node.until(run, b"on\n")
    node.kill()
    kill_all_in(node.cgroups())
    node.again()
    assert run.wait()["verdict"] == "INTERNAL" and run.output() == b"on\n"
    node.ready()
    run = node.order("python", {"main.py": code})
    node.until(run, b"on\n")
    node.kill()
    node.again()
    node.keeper.kill()
    node.keeper.wait()
    assert run.wait()["verdict"] == "NODE_LOST" and run.output() == b"on\n"
    node.keeper = node.spawn("keeper", "devbox-shim-keeper", "--socket", node.dir / "keeper.sock", "--listen", "127.0.0.1:0")
    node.ready()
    run = node.order("python", {"main.py": code})
    node.until(run, b"on\n")
    node.kill()  # the new keeper was given what is left to the next shim
    assert node.again() == {run.process_id: "running"}
    node.link.request("cancel", process_id=run.process_id, attempt=1)
    assert run.wait()["verdict"] == "CANCELLED"


# ---- on Kafka ----

class KafkaNode(AdoptNode):
    def __init__(self, url, **kw):
        super().__init__(**kw)
        self.url = url
        self.args[self.args.index("--output-log") + 1] = url

    def read_log(self, sandbox_id):
        out = subprocess.run([self.bin / "olog_tool", self.url, "dump", sandbox_id], check=True, capture_output=True, text=True, timeout=60)
        records = []
        for line in out.stdout.splitlines():
            value = bytes.fromhex(line.removeprefix("entry "))
            _, _, kind, flags, length, seq, ts, process, offset = struct.unpack_from("<BBBBIQq16sQ", value)
            assert length == len(value) - 48
            records.append({"type": TYPES[kind], "phase": "compile" if flags & 1 else "run", "seq": seq, "ts": ts, "process": process,
                            "offset": offset, "data": value[48:]})
        return records


@pytest.fixture()
def kafka_node(request, tmp_path):
    broker = Broker(tmp_path).start()
    n = KafkaNode(broker.url("adopted"), warm=0)
    try:
        yield n.start()
        n.ready()
        deadline = time.monotonic() + 60
        while n.leftovers():
            assert time.monotonic() < deadline, n.leftovers()
            n.pause(0.1)
    finally:
        if request.session.testsfailed:
            print((n.dir / "shim.txt").read_text(errors="replace")[-8000:])
        n.close()
        broker.stop()


def test_killed_at_any_instant_on_kafka(kafka_node):
    hurt(kafka_node, 200 if LONG else 8, kafka_node.kill)
