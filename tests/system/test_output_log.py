# SPDX-License-Identifier: Apache-2.0
"""The output log's one test suite, on a real Apache Kafka."""

import os
import pathlib
import signal
import socket
import subprocess
import time

import pytest

from conftest import ROOT, free_port


@pytest.fixture(scope="module")
def kafka(tmp_path_factory):
    """A real broker in KRaft mode; its address."""
    cache = os.environ.get("DEVBOX_CACHE") or os.path.expanduser("~/.cache/devbox")
    libs = subprocess.run([ROOT / "cli/supervisor/get-kafka", "--cache", cache], check=True, capture_output=True, text=True).stdout.strip()
    port, data = free_port(2), tmp_path_factory.mktemp("kafka")
    log = open(data / "log", "w")
    p = subprocess.Popen([ROOT / "cli/supervisor/run-kafka", libs.splitlines()[-1], data, str(port)], stdout=log, stderr=log)
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            assert time.monotonic() < deadline and p.poll() is None, (data / "log").read_text()[-3000:]
            time.sleep(0.1)
    yield f"127.0.0.1:{port}"
    p.send_signal(signal.SIGTERM)
    p.wait(30)


def test_the_suite_on_kafka(kafka):
    program = next(p for p in (ROOT / "build/asan/bin", pathlib.Path(os.environ.get("DEVBOX_BUILD", ROOT / "build/release")) / "bin")
                   if (p / "test_common_proto_output_log").exists()) / "test_common_proto_output_log"
    r = subprocess.run([program], env={**os.environ, "DBX_TEST_KAFKA": kafka}, capture_output=True, text=True, timeout=240)
    assert r.returncode == 0, r.stdout + r.stderr
    assert ", 0 failed" in r.stdout
