# SPDX-License-Identifier: Apache-2.0
"""The whole of DevBox as a fixture: `./devbox up` on a state folder of its own, real parts throughout."""

import os
import pathlib
import shutil
import socket
import subprocess
import tempfile

import pytest

from client import Client

ROOT = pathlib.Path(__file__).resolve().parents[2]


names = []


def take(port):
    """Whether it is ours from now on, and nobody else's who runs tests: a name stands for it, which goes with us."""
    s = socket.socket(socket.AF_UNIX)
    try:
        s.bind(f"\0devbox-test-port-{port}")
    except OSError:
        s.close()
        return False
    names.append(s)
    return True


def free_port(count=4):
    """A port with count - 1 free ones behind it (the gateways take them in a row); never given twice."""
    for base in range(21000 + os.getpid() % 4000, 32000, count):
        ports, held = range(base, base + count), []
        if not all(take(p) for p in ports):
            continue
        try:
            for p in ports:
                s = socket.socket()
                held.append(s)
                s.bind(("127.0.0.1", p))
            return base
        except OSError:
            continue
        finally:
            for s in held:
                s.close()
    raise RuntimeError("no free ports")


class DevBox:
    """One running DevBox."""

    def __init__(self, state, port):
        self.state, self.port = pathlib.Path(state), port
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("DEVBOX_") or k in ("DEVBOX_CACHE", "DEVBOX_BUILD")}

    def command(self, *args, timeout=600, **kw):
        kw.setdefault("capture_output", True)
        kw.setdefault("text", True)
        return subprocess.run([str(ROOT / "devbox"), *args, "--state", str(self.state)] if "--" not in args else
                              [str(ROOT / "devbox"), args[0], "--state", str(self.state), *args[1:]],
                              env=self.env, timeout=timeout, **kw)

    def up(self, *args):
        r = self.command("up", "--port", str(self.port), *args, timeout=3000)
        assert r.returncode == 0, r.stderr[-4000:]
        self.url = r.stdout.strip().splitlines()[-1]
        env = dict(line.split("=", 1) for line in self.command("env").stdout.split())
        assert env["DEVBOX_URL"] == self.url
        self.key = env["DEVBOX_API_KEY"]
        return self

    def status(self):
        import json

        return json.loads(self.command("status", "--json").stdout)

    def daemons(self, name):
        return [d for d in self.status()["daemons"] if d["name"] == name]

    def client(self, **kw):
        return Client(kw.pop("url", self.url), kw.pop("key", self.key), **kw)

    def down(self):
        r = self.command("down", timeout=120)
        assert r.returncode == 0, r.stderr

    def log(self, name):
        return (self.state / "logs" / f"{name}.log").read_text(errors="replace")


@pytest.fixture(scope="session")
def devbox(request):
    """The one most tests share. Its logs are shown when a test failed."""
    state = tempfile.mkdtemp(prefix="devbox-test-")
    box = DevBox(state, free_port())
    try:
        box.up()
        yield box
    finally:
        box.down()
        if request.session.testsfailed:
            for log in sorted((box.state / "logs").glob("*.log")):
                print(f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-40:]))
        shutil.rmtree(state, ignore_errors=True)


@pytest.fixture()
def own_devbox():
    """A second one, beside the shared one, for tests that hurt it."""
    state = tempfile.mkdtemp(prefix="devbox-own-")
    box = DevBox(state, free_port())
    try:
        yield box
    finally:
        box.down()
        shutil.rmtree(state, ignore_errors=True)


@pytest.fixture()
def api(devbox):
    return devbox.client()


def pytest_configure(config):
    config.addinivalue_line("markers", "campaign: takes long; only with ./devbox test --long")


def pytest_collection_modifyitems(config, items):
    """Campaigns are left out, and counted as deselected, unless they are asked for."""
    if os.environ.get("DEVBOX_LONG", "0") not in ("", "0"):
        return
    left_out = [i for i in items if i.get_closest_marker("campaign")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [i for i in items if not i.get_closest_marker("campaign")]


def pytest_terminal_summary(terminalreporter):
    """In CI a skip is a failure, unless the machine truly cannot."""
    if os.environ.get("DBX_TEST_STRICT") and terminalreporter.stats.get("skipped"):
        terminalreporter.write_line("skipped tests count as failures here (DBX_TEST_STRICT)")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("DBX_TEST_STRICT") and reporter and reporter.stats.get("skipped") and exitstatus == 0:
        session.exitstatus = 1
