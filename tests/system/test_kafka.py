# SPDX-License-Identifier: Apache-2.0
"""DevBox with its output log on Apache Kafka: one of its own (up --kafka), and an operator's (--output-log)."""

import os
import shutil
import signal
import tempfile

import pytest

from conftest import DevBox, free_port
from test_launcher import wait_for
from test_output_log import Broker

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
