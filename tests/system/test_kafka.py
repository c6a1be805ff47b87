# SPDX-License-Identifier: Apache-2.0
"""DevBox with its output log on Apache Kafka: one of its own (up --kafka), and an operator's (--output-log)."""

import os
import pathlib
import shutil
import signal
import struct
import tempfile
import time
import uuid

import pytest
import websocket

from conftest import DevBox, free_port
from test_launcher import wait_for
from test_output_log import Broker, trim
from test_protocol import examples, shape
from test_resume import END, GAP, HEADER, STDERR, STDOUT, check_cut, gaps

COUNT = "import time\nfor i in range(30):\n    print(i, flush=True)\n    time.sleep(0.2)\n"
COUNTED = "".join(f"{i}\n" for i in range(30))


def of_state(state):
    """Pids of processes that have the state folder on their command line."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                if str(state).encode() in f.read():
                    found.append(int(pid))
        except OSError:
            pass
    return [p for p in found if p != os.getpid()]


@pytest.fixture(scope="module")
def box():
    state = tempfile.mkdtemp(prefix="devbox-kafka-")
    box = DevBox(state, free_port())
    try:
        yield box.up("--kafka", "--no-images")
    finally:
        box.down()
        shutil.rmtree(state, ignore_errors=True)


def test_it_runs_on_kafka(box):
    assert len(box.daemons("kafka")) == 1
    lines = pathlib.Path(f"/proc/{box.daemons('kafka')[0]['pid']}/status").read_text().splitlines()
    said = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert "0" not in said["Uid"].split() + said["Gid"].split() + said["Groups"].split() and said["NoNewPrivs"] == "1"
    assert int(said["CapPrm"], 16) == int(said["CapBnd"], 16) == 0
    assert not (box.state / "output").exists()
    api = box.client()
    for i in range(20):  # the end is told when all output was
        assert api.run("python", {"main.py": f"print({i})"})["stdout"] == f"{i}\n"
    accepted = api.start("python", {"main.py": "print('streamed')"})
    stream = api.stream(accepted)
    stream.until_end()
    assert stream.text("stdout") == "streamed\n"


def test_the_broker_is_killed_in_mid_stream(box):
    """It is started again; the viewers, also of another gateway, have every byte once."""
    before = box.daemons("kafka")[0]
    accepted = box.client().start("python", {"main.py": COUNT})
    streams = [box.client(url=g["url"]).stream(accepted) for g in box.daemons("gateway")]
    for s in streams:
        s.until_output("3\n")
    os.kill(before["pid"], signal.SIGKILL)
    for s in streams:
        assert s.until_end()["status"] == "completed"
        assert s.text("stdout") == COUNTED
        assert not [m for m in s.seen if m["type"] == "gap"]
    after = box.daemons("kafka")[0]
    assert after["pid"] != before["pid"] and after["restarts"] == before["restarts"] + 1
    whole = box.client().call("GET", f"/api/executions/{accepted['id']}/output?stream=stdout")
    assert whole.text == COUNTED


def test_down_and_up_again(box):
    """Nothing of Kafka is left after down, and what it held is there after the next up."""
    accepted = box.client().start("python", {"main.py": "print('kept')"})
    box.client().wait_end(accepted["id"])
    box.down()
    wait_for(lambda: not of_state(box.state))
    box.up("--kafka", "--no-images")
    r = box.client().call("GET", f"/api/executions/{accepted['id']}/output?stream=stdout")
    assert r.text == "kept\n"


def test_one_or_the_other(own_devbox):
    r = own_devbox.command("up", "--kafka", "--output-log", "kafka:127.0.0.1:9092")
    assert r.returncode == 125 and "one of them" in r.stderr


def test_an_operators_own(own_devbox, tmp_path):
    broker = Broker(tmp_path).start()
    try:
        own_devbox.up("--output-log", broker.url("theirs"), "--no-images")
        assert not own_devbox.daemons("kafka")
        assert own_devbox.client().run("python", {"main.py": "print('there')"})["stdout"] == "there\n"
    finally:
        own_devbox.down()
        broker.stop()


AWAY_S = 30
LINES = 8000  # far more than the pipe and the ring hold
FLOOD = f"import sys\nsys.stdin.readline()\nfor i in range({LINES}):\n    sys.stdout.write('%08d ' % i * 200 + '\\n')\nprint('written', file=sys.stderr)\n"


def test_a_broker_that_stays_away(own_devbox, tmp_path):
    """Half a minute: programs are held back, viewers are told, then everything is there once."""
    broker = Broker(tmp_path).start()
    try:
        api = own_devbox.up("--output-log", broker.url("devbox.output")).client()
        elsewhere = own_devbox.client(url=own_devbox.daemons("gateway")[-1]["url"])
        accepted = api.start("python", {"main.py": FLOOD}, limits={"wall_ms": 20000})
        early, binary = api.stream(accepted), elsewhere.stream(accepted, subprotocol="devbox.bin.v1")
        early.until(lambda m: m["type"] == "status" and m["status"] == "running")
        broker.kill()
        gone = time.monotonic()
        assert early.until(lambda m: m["type"] == "log")["status"] == "away"
        late = elsewhere.stream(accepted)
        assert late.until(lambda m: m["type"] == "log")["status"] == "away"
        while b'"away"' not in binary.ws.recv_data()[1]:
            pass
        early.send(type="input", process_id=accepted["process_id"], data="\n")
        while time.monotonic() - gone < AWAY_S:  # longer than its wall_ms
            assert api.call("GET", f"/api/executions/{accepted['id']}").json()["status"] == "running"
            with pytest.raises(websocket.WebSocketTimeoutException):
                early.ws.settimeout(1)
                early.next()
        early.ws.settimeout(early.timeout)
        broker.start()
        for s in (early, late):
            end = s.until_end()
            assert (end["status"], end["verdict"]) == ("completed", "OK")
            assert s.text("stdout") == "".join("%08d " % i * 200 + "\n" for i in range(LINES)) and s.text("stderr") == "written\n"
            said = [shape(m) for m in s.seen if m["type"] == "log"]
            assert said == [shape(m) for m in examples("From the server") if m["type"] == "log"] and not gaps(s, "stdout")
    finally:
        own_devbox.down()
        broker.stop()


def partition_of(sandbox_id):
    """FNV-1a of the id, as common/proto/output_log.h says."""
    h = 2166136261
    for b in uuid.UUID(sandbox_id).bytes:
        h = (h ^ b) * 16777619 % (1 << 32)
    return h % 64


class Records:
    """A binary viewer who keeps (seq, kind, byte offset, length or gap) of each record."""

    def __init__(self, stream):
        self.stream, self.seen = stream, []

    def next(self):
        frame = self.stream.ws.recv_data()[1]
        kind, length, seq, offset = frame[2], *(HEADER.unpack_from(frame)[n] for n in (4, 5, 8))
        self.seen.append((seq, kind, offset, struct.unpack_from("<QQB", frame, HEADER.size) if kind == GAP else length))
        return self.seen[-1]


def test_a_log_cut_under_a_viewer_gives_one_gap(own_devbox, tmp_path):
    """To one who stood before the cut, to one who comes late, to one who resumes: the bytes that are gone, exactly."""
    blocks = 200
    data = b"".join((b"%08d " % k * 8000)[:65536] for k in range(blocks))
    source = ("import sys\nprint('first', file=sys.stderr, flush=True)\n"
              f"for k in range({blocks}):\n    if k % 10 == 0: sys.stdin.readline()\n"
              "    sys.stdout.write(('%08d ' % k * 8000)[:65536]); sys.stdout.flush()\n"
              "sys.stdin.readline()\nprint('last', file=sys.stderr)\n")
    broker = Broker(tmp_path).start()
    try:
        api = own_devbox.up("--output-log", broker.url("devbox.output")).client()
        elsewhere = own_devbox.client(url=own_devbox.daemons("gateway")[-1]["url"])
        accepted = api.start("python", {"main.py": source})
        process = accepted["process_id"]
        lazy, early = api.stream(accepted), Records(api.stream(accepted, subprotocol="devbox.bin.v1"))
        lazy.until_output("first\n", "stderr")
        seen = [m["id"] for m in lazy.seen if "id" in m][-1]
        got = 0
        while got < len(data):
            if got % 655360 == 0:  # it goes on when all of it was read: this viewer is never behind
                early.stream.send(type="input", process_id=process, data="\n")
            _, kind, _, length = early.next()
            got += length if kind == STDOUT else 0
        # Nothing else was ever written to this partition: the log's offsets are the records' numbers.
        cut, _, end, _ = next(r for r in early.seen if r[1] == STDOUT and r[2] >= len(data) - (1 << 20))
        trim(broker, "devbox.output", partition_of(accepted["sandbox_id"]), cut)
        late = elsewhere.stream(accepted)
        late.until_output("9", "stdout")
        resumed = elsewhere.stream(accepted, resume=f"{process}:{seen}")
        early.stream.send(type="input", process_id=process, data="\n")
        while early.next()[1] != END:
            pass
        assert not [r for r in early.seen if r[1] == GAP]
        for s in (late, resumed, lazy):
            assert s.until_end()["verdict"] == "OK"
        assert check_cut(late, "stdout", data) == (0, end)
        assert check_cut(late, "stderr", b"first\nlast\n") == (0, 6)
        assert check_cut(resumed, "stdout", data) == (0, end)
        assert not gaps(resumed, "stderr") and resumed.text("stderr") == "last\n"
        start, stop = check_cut(lazy, "stdout", data)
        assert 0 < start < stop == end and lazy.text("stderr") == "first\nlast\n"
        again = Records(elsewhere.stream(accepted, subprotocol="devbox.bin.v1"))
        while again.next()[1] != END:
            pass
        assert sorted(r[3] for r in again.seen if r[1] == GAP) == sorted([(0, end, STDOUT), (0, 6, STDERR)])
    finally:
        own_devbox.down()
        broker.stop()
