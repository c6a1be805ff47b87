# SPDX-License-Identifier: Apache-2.0
"""A real S3 server (versitygw on a folder), which can go away and come back, and a proxy in front of it that can be slow or lie."""

import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

from conftest import ROOT, free_port


def wait_for_port(port, process, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, "it ended"
        with socket.socket() as s:
            s.settimeout(1)
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"nobody listens at {port}")


def files_below(folder):
    """Paths from there; of a folder that goes meanwhile none (pathlib's rglob would raise)."""
    return sorted(os.path.relpath(os.path.join(where, name), folder) for where, _, names in os.walk(folder) for name in names)


class S3:
    """One bucket, `devbox`, on a folder of its own (or a given one)."""

    ACCESS, SECRET = "test-access", "test-secret-key"

    def __init__(self, folder=None):
        cache = os.environ.get("DEVBOX_CACHE") or os.path.expanduser("~/.cache/devbox")
        r = subprocess.run([ROOT / "tests/system/get-versitygw", "--cache", cache], stdout=subprocess.PIPE, text=True, check=True)
        self.program = r.stdout.strip().splitlines()[-1]
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="devbox-s3-"))
        self.folder = pathlib.Path(folder) if folder else self.dir / "data"
        (self.folder / "devbox").mkdir(parents=True)
        self.keys = self.dir / "keys"
        self.keys.write_text(f"{self.ACCESS} {self.SECRET}\n")
        self.port = free_port(2)
        self.process = None
        self.start()

    @property
    def url(self):
        return self.at(self.port)

    def at(self, port):
        return f"s3:http://127.0.0.1:{port}/devbox/some/prefix"

    def start(self):
        env = {**os.environ, "ROOT_ACCESS_KEY": self.ACCESS, "ROOT_SECRET_KEY": self.SECRET}
        self.process = subprocess.Popen([self.program, "--port", f"127.0.0.1:{self.port}", "--quiet", "posix", self.folder],
                                        env=env, stdout=open(self.dir / "log", "ab"), stderr=subprocess.STDOUT)
        wait_for_port(self.port, self.process)

    def stop(self):
        self.process.kill()
        self.process.wait(60)

    def close(self):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def objects(self):
        return [p for p in files_below(self.folder / "devbox") if ".sgwtmp" not in p]
