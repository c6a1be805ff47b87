# SPDX-License-Identifier: Apache-2.0
"""The output log on a real Apache Kafka: its one test suite, and what only a broker that dies, stays away, forgets or refuses
can show. The work is done by olog_tool (common/proto/tests), one process a writer or reader."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from conftest import ROOT, free_port

LONG = os.environ.get("DEVBOX_LONG") == "1"
AWAY_S = 30 if LONG else 10


def program(name):
    folders = (ROOT / "build/asan/bin", pathlib.Path(os.environ.get("DEVBOX_BUILD", ROOT / "build/release")) / "bin")
    return next(f / name for f in folders if (f / name).exists())


class Broker:
    """One real broker in KRaft mode, which can be killed and started again on its data."""

    def __init__(self, data):
        cache = os.environ.get("DEVBOX_CACHE") or os.path.expanduser("~/.cache/devbox")
        out = subprocess.run([ROOT / "cli/supervisor/get-kafka", "--cache", cache], check=True, capture_output=True, text=True).stdout
        self.libs, self.data, self.port = out.strip().splitlines()[-1], pathlib.Path(data), free_port(2)
        self.address = f"127.0.0.1:{self.port}"
        self.env = {**os.environ, "DEVBOX_KAFKA_PROPERTIES": "log.retention.bytes=-1"}  # nothing goes by itself here
        self.log = open(self.data / "log.txt", "w")

    def start(self):
        self.process = subprocess.Popen([ROOT / "cli/supervisor/run-kafka", self.libs, self.data, str(self.port), "64604"],
                                        env=self.env, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return self
            except OSError:
                assert time.monotonic() < deadline and self.process.poll() is None, (self.data / "log.txt").read_text()[-3000:]
                time.sleep(0.1)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
        shutil.rmtree(self.data, ignore_errors=True)

    def url(self, topic, more=""):
        return f"kafka:{self.address}?topic={topic}{more}"


class Tool:
    """A running olog_tool, whose lines can be waited for."""

    def __init__(self, url, *args):
        env = {**os.environ, "ASAN_OPTIONS": "quarantine_size_mb=8"}  # so that resident memory means what it says
        self.p = subprocess.Popen([program("olog_tool"), url, *map(str, args)], env=env, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines, self.news = [], threading.Condition()
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self):
        for line in self.p.stdout:
            with self.news:
                self.lines.append(line.split())
                self.news.notify_all()
        with self.news:
            self.lines.append(["eof"])
            self.news.notify_all()

    def of(self, word):
        return [line for line in self.lines if line[:1] == [word]]

    def wait(self, word, at_least=0, timeout=60):
        """The first line of that word (whose number is at least that)."""
        def found():
            return next((x for x in self.of(word) if not at_least or int(x[1]) >= at_least), None)

        with self.news:
            assert self.news.wait_for(lambda: found() or self.of("eof"), timeout), (word, self.lines[-20:])
            assert found(), (word, self.lines[-20:])
            return found()

    def end(self, timeout=90):
        """Its exit code and the last line as a dictionary."""
        self.p.wait(timeout)
        self.wait("eof")
        words = self.lines[-2] if len(self.lines) > 1 else []
        return self.p.returncode, {k: int(v) for k, v in zip(words[::2], words[1::2]) if v.lstrip("-").isdigit()}

    def done(self, timeout=90):
        code, summary = self.end(timeout)
        assert code == 0, self.lines[-20:]
        return summary


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    b = Broker(tmp_path_factory.mktemp("kafka")).start()
    yield b
    b.stop()


def test_the_suite_on_kafka(broker):
    r = subprocess.run([program("test_common_proto_output_log")], env={**os.environ, "DBX_TEST_KAFKA": broker.address},
                       capture_output=True, text=True, timeout=240)
    assert r.returncode == 0, r.stdout + r.stderr
    assert ", 0 failed" in r.stdout


def test_a_broker_killed_under_a_writer(broker):
    """Every number at every reader, in order; what comes twice was seen before."""
    url, count = broker.url("killed"), 50000
    readers = [Tool(url, "read", 7, 0, count) for _ in range(3)]
    for r in readers:
        r.wait("reading")
    writer = Tool(url, "write", 7, 0, count, 1000)
    for at in range(5000, 45000, 10000) if LONG else (5000,):
        writer.wait("acked", at)
        broker.kill()
        broker.start()
    assert writer.done()["wrote"] == count and not writer.of("offset")
    repeats = []
    for r in readers:
        summary = r.done()
        assert summary["read"] == count and summary["holes"] == 0 and not r.of("truncated")
        repeats.append(summary["repeats"])
    print("repeats at the readers:", repeats)
    late = Tool(url, "read", 7, 0, count).done()
    assert late["holes"] == 0 and late["repeats"] == max(repeats)


def test_a_broker_that_stays_away(broker):
    """The writer is told that there is no room, with bounded memory; nothing is lost."""
    url, count, size = broker.url("away"), 30000, 10000
    reader = Tool(url, "read", 8, 0, count)
    reader.wait("reading")
    writer = Tool(url, "write", 8, 0, count, size)
    writer.wait("acked", 5000)
    broker.kill()
    gone = time.monotonic()
    writer.wait("full")
    with pytest.raises(subprocess.TimeoutExpired):  # it waits
        writer.p.wait(AWAY_S - (time.monotonic() - gone))
    broker.start()
    wrote, read = writer.done(), reader.done()
    print("away:", wrote, read)
    assert wrote["longest_ms"] > (AWAY_S - 5) * 1000
    assert 0 < wrote["rss_kb"] < 200 * 1024 < count * size / 1024
    assert read["read"] == count and read["holes"] == 0 and not reader.of("truncated")


def trim(broker, topic, partition, offset):
    r = subprocess.run([program("kafka_trim"), broker.address, topic, str(partition), str(offset)], capture_output=True, text=True)
    assert r.stdout.split() == ["oldest", str(offset)], r.stderr


def test_retention(broker):
    """A held reader and a late one are told once what is gone, and go on where something is."""
    url = broker.url("trimmed")
    Tool(url, "write", 9, 0, 1000, 200).done()
    bounds = Tool(url, "bounds", 9).done()
    assert (bounds["oldest"], bounds["next"]) == (0, 1000)
    partition = bounds["partition"]
    held = Tool(url, "hold", 9, 300, 1500)
    held.wait("held")
    trim(broker, "trimmed", partition, 700)
    late = Tool(url, "read", 9, 0, 1500)
    beyond = Tool(url, "read", 9, 5000, 1500)
    beyond.wait("truncated")
    late.wait("live")
    assert Tool(url, "bounds", 9).done()["oldest"] == 700
    held.p.stdin.write("\n")
    held.p.stdin.flush()
    held.wait("live")
    Tool(url, "write", 9, 1000, 500, 200).done()
    for tool, expected in ((held, ["300", "700"]), (late, ["0", "700"]), (beyond, ["5000", "1000"])):
        summary = tool.done()
        assert summary["read"] == 1500 and summary["holes"] == summary["repeats"] == 0
        assert tool.of("truncated") == [["truncated", *expected]]


def test_a_crowd(broker):
    """Hundreds of readers that want the same old output are served together."""
    url = broker.url("crowd")
    for key in range(4):
        Tool(url, "write", key, 0, 5000, 200).done()
    summary = Tool(url, "crowd", 400, 4, 5000).done()
    print("crowd:", summary)
    assert summary["holes"] == 0


def test_latency(broker):
    """Printed, not asserted: this machine does other things meanwhile."""
    tool = Tool(broker.url("latency"), "latency", 400)
    tool.done()
    print(*(" ".join(x) for x in tool.lines[:-1]), sep="\n")


def test_credentials(tmp_path):
    """SASL by the operator's properties: the right password, and what a wrong one says."""
    password = "right & long"
    broker = Broker(tmp_path)
    broker.env["DEVBOX_KAFKA_PROPERTIES"] = f"""
listeners=SASL_PLAINTEXT://127.0.0.1:{broker.port},CONTROLLER://127.0.0.1:{broker.port + 1}
advertised.listeners=SASL_PLAINTEXT://127.0.0.1:{broker.port}
listener.security.protocol.map=SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\
  username="broker" password="b" user_broker="b" user_devbox="{password}";
"""
    try:
        broker.start()
        for name, secret in (("right", password), ("wrong", "guess")):
            (tmp_path / name).write_text(f"# of the cluster\nsecurity.protocol = SASL_PLAINTEXT\nsasl.mechanisms = PLAIN\n"
                                         f"sasl.username = devbox\nsasl.password = {secret}\n")
        url = broker.url("secret", f"&properties={tmp_path}/right")
        assert Tool(url, "write", 1, 0, 100, 10).done()["wrote"] == 100
        assert Tool(url, "read", 1, 0, 100).done()["read"] == 100
        for name, says in (("wrong", "SASL authentication error: Authentication failed"), ("missing", f"open '{tmp_path}/missing'")):
            begin = time.monotonic()
            code, _ = (tool := Tool(broker.url("secret", f"&properties={tmp_path}/{name}"), "write", 1, 0, 1, 10)).end()
            assert code == 1 and tool.lines[0][:2] == ["error", "open:"] and says in " ".join(tool.lines[0]), tool.lines
            assert time.monotonic() - begin < 10  # not the 15 s for which a cluster that is away is waited for
    finally:
        broker.stop()
