# SPDX-License-Identifier: Apache-2.0
"""A viewer sees every byte once, whoever dies on the way: resume at another gateway, slow viewers, ack, drain, retention."""

import contextlib
import hashlib
import itertools
import json
import os
import pathlib
import shutil
import signal
import struct
import tempfile
import threading
import time

import pytest
import websocket
from client import Stream
from conftest import DevBox, free_port

LONG = os.environ.get("DEVBOX_LONG") == "1"
SECONDS = 60 if LONG else 20
LOGS = {"files": [], "kafka": ["--kafka"]}
TERMINAL = ("completed", "failed", "cancelled")


@pytest.fixture(scope="module", params=LOGS)
def box(request):
    """One of its own on each kind of log: its gateways are killed."""
    state = tempfile.mkdtemp(prefix="devbox-resume-")
    box = DevBox(state, free_port())
    box.env["DEVBOX_GATEWAY_MAX_WALL_MS"] = "300000"
    try:
        yield box.up(*LOGS[request.param])
    finally:
        box.down()
        shutil.rmtree(state, ignore_errors=True)


def gateway_urls(box):
    return sorted(g["url"] for g in box.daemons("gateway"))


def memory_kib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")))


# --- 50 viewers, 20 programs, a kill every few seconds ---


def lines_program(number, count, burst, pause):
    """(source, {stream: bytes}): count numbered lines, in bursts, on both streams."""
    tail = "grüße € 🎉 " + "x" * (number * 7 % 120)
    source = (f"import sys, time\nfor k in range({count}):\n    f = sys.stderr if k % 3 == 0 else sys.stdout\n"
              f"    f.write(f'{number} {{k}} {tail}\\n')\n    f.flush()\n    if k % {burst} == {burst - 1}:\n        time.sleep({pause})\n")
    line = [f"{number} {k} {tail}\n".encode() for k in range(count)]
    return source, {"stderr": b"".join(line[::3]), "stdout": b"".join(x for k, x in enumerate(line) if k % 3)}


def programs(seconds):
    for i in range(20):
        if i % 2:  # slow: a line every 50 ms; fast: 600 lines every half second
            yield lines_program(i, seconds * 20, 1, 0.05)
        else:
            yield lines_program(i, seconds * 1200, 600, 0.5)


class Viewer(threading.Thread):
    """Follows one program to its end over as many connections as it takes."""

    def __init__(self, urls, accepted, number):
        super().__init__(daemon=True)
        self.urls = itertools.cycle(urls if number % 2 else urls[::-1])
        self.accepted, self.by_message = accepted, number % 3 == 0
        self.process, self.last = accepted["process_id"], None
        self.got = {"stdout": bytearray(), "stderr": bytearray()}
        self.ends, self.connections, self.failure = [], 0, None

    def run(self):
        try:
            deadline = time.monotonic() + SECONDS + 90
            while not self.ends:
                assert time.monotonic() < deadline, "did not see the end in time"
                try:
                    self.follow()
                except (OSError, websocket.WebSocketException):
                    pass  # killed: on to the next
        except BaseException as e:
            self.failure = repr(e)

    def follow(self):
        resume = f"{self.process}:{self.last}" if self.last and not self.by_message else None
        s = Stream(next(self.urls), self.accepted["sandbox_id"], self.accepted["stream_token"], resume=resume, timeout=60)
        try:
            self.connections += 1
            waits = self.last is not None and self.by_message
            if waits:
                s.send(type="resume", process_id=self.process, last_seen_id=self.last)
            while not self.ends:
                opcode, data = s.ws.recv_data()
                if opcode != websocket.ABNF.OPCODE_TEXT:
                    return
                m = json.loads(data)
                if waits:  # what came before the answer to `resume` is dropped
                    waits = m["type"] != "resumed"
                    assert waits or m["last_seen_id"] == self.last
                    continue
                self.take(m)
            s.ws.settimeout(0.3)
            try:
                while True:
                    opcode, data = s.ws.recv_data()
                    if opcode != websocket.ABNF.OPCODE_TEXT:
                        break
                    self.take(json.loads(data))
            except (OSError, websocket.WebSocketException):
                pass
        finally:
            s.ws.shutdown()

    def take(self, m):
        assert m["process_id"] == self.process and m["type"] in ("output", "status"), m
        if m["type"] == "status":
            if m["status"] in TERMINAL:
                self.ends.append(m)
            return
        assert not self.ends, "output behind the end"
        assert "encoding" not in m
        assert self.last is None or m["id"] > self.last, (self.last, m["id"])
        self.last = m["id"]
        self.got[m["stream"]] += m["data"].encode()


def kill_gateways(box, stop):
    """One after the other, each time the one before is back."""
    kills = 0
    for url in itertools.cycle(gateway_urls(box)):
        if stop(2.5):
            return kills
        victim = next(g for g in box.daemons("gateway") if g["url"] == url)
        os.kill(victim["pid"], signal.SIGKILL)
        kills += 1
        deadline = time.monotonic() + 60
        while not any(g["url"] == url and g["pid"] != victim["pid"] for g in box.daemons("gateway")):
            assert time.monotonic() < deadline
            if stop(0.1):
                return kills


def test_every_byte_once_while_gateways_are_killed(box):
    urls, api = gateway_urls(box), box.client()
    accepted, expected, viewers = [], [], []
    for source, output in programs(SECONDS):
        accepted.append(api.start("python", {"main.py": source}, limits={"wall_ms": 300000}))
        expected.append(output)
    for n in range(50):
        viewers.append(Viewer(urls, accepted[n % 20], n))
        viewers[-1].start()

    def stop(seconds):
        """All have seen the end, or waits."""
        deadline = time.monotonic() + seconds
        for v in viewers:
            v.join(max(0.0, deadline - time.monotonic()))
        return not any(v.is_alive() for v in viewers)

    kills = kill_gateways(box, stop)
    assert kills >= (SECONDS // 5 if LONG else 2)
    for n, v in enumerate(viewers):
        assert v.failure is None, (n, v.failure, {k: len(x) for k, x in v.got.items()})
        assert v.connections >= 2
        for stream, data in expected[n % 20].items():
            assert v.got[stream] == data, (n, stream, len(v.got[stream]), len(data))
        assert [(e["status"], e["verdict"]) for e in v.ends] == [("completed", "OK")]


# --- the binary subprotocol ---

HEADER = struct.Struct("<BBBBIQq16sQ")
STDOUT, STDERR, PTY, STATUS, END, GAP = range(1, 7)


class Records:
    """Decodes and checks what comes over any number of binary connections, as one sequence."""

    def __init__(self):
        self.seq, self.got, self.end = 0, {STDOUT: b"", STDERR: b""}, None

    def take(self, frame):
        magic, version, kind, flags, length, seq, ts_us, process, offset = HEADER.unpack_from(frame)
        data = frame[HEADER.size:]
        assert (magic, version, flags, length) == (0xDB, 1, 0, len(data))
        assert seq == self.seq and self.end is None and abs(ts_us / 1e6 - time.time()) < 600
        self.seq += 1
        if kind in self.got:
            assert offset == len(self.got[kind])
            self.got[kind] += data
        elif kind == END:
            self.end = json.loads(data)
        else:
            assert kind == STATUS and json.loads(data)["status"] == "running"

    def follow(self, s, wanted=lambda: False):
        while self.end is None and not wanted():
            opcode, data = s.ws.recv_data()
            assert opcode == websocket.ABNF.OPCODE_BINARY, data
            self.take(data)
        s.close()


def test_binary(box):
    code = ("import os, sys\nfor k in range(300):\n    os.write(1 + k % 2, bytes((k + j) % 256 for j in range(5000)))\n"
            "    if k == 150: sys.stdin.readline()\n")
    both = [bytes((k + j) % 256 for j in range(5000)) for k in range(300)]
    one, two = gateway_urls(box)
    api = box.client()
    accepted = api.start("python", {"main.py": code})
    records = Records()
    at = dict(sandbox_id=accepted["sandbox_id"], token=accepted["stream_token"], subprotocol="devbox.bin.v1")
    s = Stream(one, **at)
    assert s.ws.getsubprotocol() == "devbox.bin.v1"
    records.follow(s, lambda: len(records.got[STDERR]) > 100000)
    s = Stream(two, resume=f"{accepted['process_id']}:s{records.seq - 1}", **at)
    s.send(type="input", process_id=accepted["process_id"], data="\n")
    records.follow(s)
    for kind, data in ((STDOUT, b"".join(both[::2])), (STDERR, b"".join(both[1::2]))):
        got = records.got[kind]
        assert got == data, (kind, len(got), next((n for n, (a, b) in enumerate(zip(got, data)) if a != b), None))
    assert (records.end["status"], records.end["verdict"]) == ("completed", "OK")
    for name, kind in (("stdout", STDOUT), ("stderr", STDERR)):
        assert records.end["sha256"][name] == hashlib.sha256(records.got[kind]).hexdigest()
    # From the beginning, and by the message at any time: the same records.
    again = Records()
    s = Stream(two, **at)
    s.ws.recv_data()
    s.send(type="resume", process_id=accepted["process_id"], last_seen_id="0")
    while True:
        opcode, data = s.ws.recv_data()
        if opcode == websocket.ABNF.OPCODE_TEXT:
            assert json.loads(data)["type"] == "resumed"
            break
    again.follow(s)
    assert again.got == records.got and again.seq == records.seq


# --- viewers of different speed ---


def blocks_program(blocks):
    """(source, its output): waits for a line, then writes blocks of 64 KiB."""
    source = (f"import sys, os\nsys.stdin.readline()\nfor k in range({blocks}):\n"
              "    left = (b'%08d ' % k * 8000)[:65536]\n    while left:\n        left = left[os.write(1, left):]\n")
    return source, b"".join((b"%08d " % k * 8000)[:65536] for k in range(blocks))


def test_a_viewer_who_does_not_read_harms_nobody(box):
    api = box.client()
    source, data = blocks_program(200)
    accepted = api.start("python", {"main.py": source})
    lazy, *others = [api.stream(accepted) for _ in range(4)]
    pid = next(g["pid"] for g in box.daemons("gateway") if g["url"] == box.url)
    before = memory_kib(pid)
    others[0].send(type="input", process_id=accepted["process_id"], data="\n")
    begin = time.monotonic()
    threads = [threading.Thread(target=s.until_end, daemon=True) for s in others]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    took = time.monotonic() - begin
    assert all(s.output("stdout") == data for s in others), f"after {took:.1f} s"
    assert memory_kib(pid) - before < 16 << 10
    lazy.until_end()
    assert lazy.output("stdout") == data


def count_until_quiet(s, process):
    """Bytes of output that come until nothing more comes for a while, or the end."""
    s.ws.settimeout(60)
    got = 0
    try:
        while True:
            m = s.next()
            assert m["process_id"] == process
            if m["type"] == "status" and m["status"] in TERMINAL:
                return got, True
            got += len(m["data"].encode()) if m["type"] == "output" else 0
            s.ws.settimeout(1)
    except websocket.WebSocketTimeoutException:
        return got, False


def test_ack(box):
    api = box.client()
    source, data = blocks_program(16)
    accepted = api.start("python", {"main.py": source})
    process = accepted["process_id"]
    s = api.stream(accepted)
    s.until(lambda m: m["type"] == "status" and m["status"] == "running")
    s.send(type="ack", process_id=process, bytes=0)
    s.send(type="input", process_id=process, data="\n")
    seen, ended, rounds = 0, False, 0
    while not ended:
        got, ended = count_until_quiet(s, process)
        seen += got
        assert ended or 0 < got <= 100_000
        rounds += 1
        # Half of what is open, once: exactly that may come then.
        if rounds == 1:
            s.send(type="ack", process_id=process, bytes=seen // 2)
            more, ended = count_until_quiet(s, process)
            assert not ended and 0 < more <= 100_000 - (seen - seen // 2)
            seen += more
        s.send(type="ack", process_id=process, bytes=seen)
    assert s.output("stdout") == data and rounds >= len(data) // 100_000


# --- drain ---


def test_sigterm_tells_viewers_to_go_on_elsewhere(box):
    code = "import time\nfor k in range(500):\n    print(k, 'ä' * 50, flush=True)\n    time.sleep(0.02)\n"
    expected = "".join(f"{k} {'ä' * 50}\n" for k in range(500)).encode()
    api = box.client()
    accepted = api.start("python", {"main.py": code})
    leaving = next(g for g in box.daemons("gateway") if g["url"] != box.url)
    viewers = []
    for n in range(5):
        viewers.append(Viewer([leaving["url"], box.url], accepted, n * 2 + 1))
    streams = [Stream(leaving["url"], accepted["sandbox_id"], accepted["stream_token"]) for _ in viewers]
    for s in streams:
        s.until_output("\n20 ")
    begin = time.monotonic()
    os.kill(leaving["pid"], signal.SIGTERM)
    for v, s in zip(viewers, streams):
        for m in s.seen:
            m.pop("_at")
            v.take(m)
        while True:
            opcode, data = s.ws.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                break
            v.take(json.loads(data))
        assert struct.unpack_from(">H", data)[0] == 1001 and data[2:] == b"reconnect"
        assert not v.ends, "the program was to run on"
    assert time.monotonic() - begin < 15
    for v in viewers:
        v.urls = itertools.cycle([box.url])
        v.start()
    for v in viewers:
        v.join(60)
        assert v.failure is None and bytes(v.got["stdout"]) == expected and len(v.ends) == 1, v.failure
    deadline = time.monotonic() + 60
    while not box.status()["ready"]:
        assert time.monotonic() < deadline


# --- retention ---


def gaps(s, stream):
    return [(m["from"], m["to"]) for m in s.seen if m["type"] == "gap" and m["stream"] == stream]


def check_cut(s, stream, data):
    """One gap, and everything else, at its place."""
    assert len(gaps(s, stream)) == 1, gaps(s, stream)
    start, end = gaps(s, stream)[0]
    at = 0
    for m in s.seen:
        if m.get("stream") != stream:
            continue
        if m["type"] == "gap":
            assert m["from"] == at
            at = m["to"]
        elif m["type"] == "output":
            piece = m["data"].encode()
            assert data[at:at + len(piece)] == piece, at
            at += len(piece)
    assert at == len(data)
    return start, end


def log_bytes(box):
    """Of the partition that has most."""
    sizes = {}
    for where, _, names in os.walk(box.state / "output"):
        for name in (n for n in names if n.endswith(".seg")):
            with contextlib.suppress(FileNotFoundError):  # the log removed it just now
                sizes[where] = sizes.get(where, 0) + os.stat(f"{where}/{name}").st_size
    return max(sizes.values())


def test_a_log_cut_under_a_viewer_gives_one_gap(own_devbox):
    own_devbox.env |= {"DEVBOX_SHIM_LOG_RETAIN_BYTES": str(4 << 20), "DEVBOX_SHIM_LOG_SEGMENT_BYTES": str(1 << 20)}
    box = own_devbox.up()
    api = box.client()
    data = b"".join((b"%08d " % k * 8000)[:65536] for k in range(200))
    source = ("import sys, os\nprint('first', file=sys.stderr, flush=True)\nfor k in range(200):\n    if k % 10 == 0: sys.stdin.readline()\n"
              "    sys.stdout.write(('%08d ' % k * 8000)[:65536]); sys.stdout.flush()\n"
              "sys.stdin.readline()\nprint('last', file=sys.stderr)\n")
    accepted = api.start("python", {"main.py": source})
    process = accepted["process_id"]
    lazy, early = api.stream(accepted), api.stream(accepted)
    early.until_output("first\n", "stderr")
    lazy.until_output("first\n", "stderr")
    seen = [m["id"] for m in early.seen if "id" in m][-1]
    got = 0
    while got < len(data):
        if got % 655360 == 0:  # it goes on when all of it was read: this viewer is never behind
            early.send(type="input", process_id=process, data="\n")
        m = early.next()
        got += len(m["data"]) if m["type"] == "output" else 0
    deadline = time.monotonic() + 60
    while log_bytes(box) > 4 << 20:  # until it is settled
        assert time.monotonic() < deadline, "the log is not cut"
        time.sleep(0.05)
    late, resumed = api.stream(accepted), api.stream(accepted, resume=f"{process}:{seen}")
    late.until_output("9", "stdout")
    early.send(type="input", process_id=process, data="\n")
    for s in (early, late, resumed, lazy):
        assert s.until_end()["verdict"] == "OK"
    assert early.output("stdout") == data and not gaps(early, "stdout")
    start, end = check_cut(late, "stdout", data)
    assert start == 0 and len(data) - (5 << 20) <= end < len(data)
    assert check_cut(late, "stderr", b"first\nlast\n") == (0, 6)
    assert check_cut(resumed, "stdout", data) == (0, end)
    assert not gaps(resumed, "stderr") and resumed.text("stderr") == "last\n"
    start, end = check_cut(lazy, "stdout", data)
    assert 0 < start < end and lazy.text("stderr") == "first\nlast\n"
    # Binary says the same, as a record of its own.
    s = api.stream(accepted, subprotocol="devbox.bin.v1")
    said = []
    while True:
        frame = s.ws.recv_data()[1]
        kind = frame[2]
        if kind == GAP:
            said.append(struct.unpack_from("<QQB", frame, HEADER.size))
        if kind == END:
            break
    assert sorted(said, key=lambda g: g[2]) == [(0, len(data) - sum_after(late, "stdout"), STDOUT), (0, 6, STDERR)]


def sum_after(s, stream):
    """Bytes of output that came behind the gap."""
    at = next(n for n, m in enumerate(s.seen) if m["type"] == "gap" and m["stream"] == stream)
    return sum(len(m["data"].encode()) for m in s.seen[at:] if m["type"] == "output" and m["stream"] == stream)
