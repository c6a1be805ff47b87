# SPDX-License-Identifier: Apache-2.0
"""Many warm sandboxes at once on one node: what they cost while they wait, that all can be used, and that nothing of them
stays. And a node after the worst that programs leave behind."""

import os
import pathlib
import shutil
import time

import pytest

from test_shim import ROOT, Node

LONG = os.environ.get("DEVBOX_LONG") == "1"


def metric(node, name):
    return sum(float(line.rsplit(" ", 1)[1]) for line in node.get("/metrics")[1].splitlines() if line.split("{")[0].split(" ")[0] == name)


def until(what, timeout, why):
    deadline = time.monotonic() + timeout
    while not (got := what()):
        assert time.monotonic() < deadline, why
        time.sleep(0.05)
    return got


def own_node(warm, **options):
    """Of Python alone, so that what is counted is of one kind."""
    node = Node(warm=warm)
    templates = node.dir / "templates"
    templates.mkdir()
    shutil.copy(ROOT / "bundles/templates/python.json", templates)
    node.args[node.args.index("--templates-dir") + 1] = templates
    node.args[node.args.index("--log-level") + 1] = "info"
    for name, value in options.items():
        node.args += ["--" + name.replace("_", "-"), str(value)]
    return node


def cpu_seconds(node):
    """Of the node's sandboxes, its shim and its keeper."""
    ticks = 0
    for p in (node.shim, node.keeper):
        fields = pathlib.Path(f"/proc/{p.pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    v1, v2 = (pathlib.Path(f"/sys/fs/cgroup{at}/devbox-{node.node_id}") for at in ("/cpuacct", ""))
    if v1.is_dir():
        inside = int((v1 / "cpuacct.usage").read_text()) / 1e9
    else:
        inside = int((v2 / "cpu.stat").read_text().split()[1]) / 1e6
    return ticks / os.sysconf("SC_CLK_TCK") + inside


def descriptors(process):
    return len(os.listdir(f"/proc/{process.pid}/fd"))


def mounts(node):
    return sum(str(node.dir) in line for line in pathlib.Path("/proc/self/mounts").read_text().splitlines())


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.campaign)])
def test_warm_at_once(count):
    node = own_node(count, max_sandboxes=count + 24)
    try:
        node.start()
        until(lambda: metric(node, "devbox_shim_pool_warm") >= count, 20 + 2 * count, "the pool is not full")
        settled = [descriptors(p) for p in (node.shim, node.keeper)]
        begin, at = cpu_seconds(node), time.monotonic()
        while time.monotonic() < at + 10:
            time.sleep(1)
        share = (cpu_seconds(node) - begin) / (time.monotonic() - at)
        print(f"{count} warm: {share * 100:.2f} % of a core while idle")
        assert share <= 0.02
        runs = [node.order("python", {"main.py": f"print({i})\n"}) for i in range(count)]
        for i, run in enumerate(runs):
            assert run.wait(60 + count)["verdict"] == "OK" and run.output() == b"%d\n" % i
        until(lambda: metric(node, "devbox_shim_pool_warm") >= count and metric(node, "devbox_shim_sandboxes") == count, 60 + 2 * count, "not as before")
        assert [descriptors(p) for p in (node.shim, node.keeper)] == pytest.approx(settled, abs=8)
    finally:
        node.close()  # asserts that no process, no cgroup and no folder is left
    assert mounts(node) == 0


LEFT = {
    # what, limits, verdict, whether it takes minutes
    "deep folders": ("import os\nfor i in range(%d):\n    os.mkdir('d')\n    os.chdir('d')\nprint('made')\n" % (100000 if LONG else 10000), {}, False),
    "files": ("for i in range(20000):\n    open(f'f{i}', 'w').close()\nprint('made')\n", {}, False),
    "a million files": ("for i in range(1000000):\n    open(f'f{i}', 'w').close()\nprint('made')\n", {}, True),
    "processes": ("import os, time\nfor i in range(%d):\n    if os.fork() == 0:\n        os.setsid()\n        time.sleep(1000)\nprint('made')\n" % (2000 if LONG else 300), {}, False),
    "threads": ("import threading, time\nfor i in range(300):\n    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\nprint('made')\n", {}, False),
    "open files": ("import os\nfs = [os.memfd_create('x') for _ in range(1000)]\nfor f in fs: os.write(f, b'x' * 10000)\nprint('made', flush=True)\nos.fork()\nos.setsid()\nos.kill(os.getpid(), 9) if os.getpid() % 2 else None\n", {}, False),
    "a full disk": ("f = open('big', 'wb')\ntry:\n    while True: f.write(b'x' * 1000000)\nexcept OSError: pass\nprint('made')\nimport os\nos._exit(0)\n", {}, False),
    "sockets and pipes": ("import socket, os\ns = [socket.socketpair() for _ in range(400)]\nfor a, b in s: a.setblocking(False); a.send(b'x' * 1000)\nprint('made')\n", {}, False),
}


@pytest.fixture(scope="module")
def worn():
    n = own_node(1)
    try:
        yield n.start()
    finally:
        n.close()


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.campaign] if LEFT[n][2] else []) for n in LEFT])
def test_what_a_program_leaves(worn, name):
    code, _, slow = LEFT[name]
    calm = lambda: metric(worn, "devbox_shim_sandboxes") == metric(worn, "devbox_shim_pool_warm") == 1
    until(calm, 60, "the pool is not calm before")
    before = [descriptors(worn.shim), descriptors(worn.keeper), mounts(worn), len(worn.cgroups())]
    took = metric(worn, "devbox_shim_sandbox_teardown_seconds_sum")
    count = metric(worn, "devbox_shim_sandbox_teardown_seconds_count")
    big = {"cpu_ms": 600000, "wall_ms": 600000, "processes": 4000, "memory_mb": 6144, "open_files": 4096, "disk_mb": 256}
    run = worn.python(code, timeout=700, limits=big)
    assert run.output().startswith(b"made"), (run.end["verdict"], run.end["run"], run.output("stderr"))
    until(lambda: metric(worn, "devbox_shim_sandbox_teardown_seconds_count") > count, 60, "it is not taken down")
    took = metric(worn, "devbox_shim_sandbox_teardown_seconds_sum") - took
    print(f"{name}: taken down in {took * 1000:.0f} ms")
    assert took < 10
    until(calm, 60, "the pool is not calm behind")
    until(lambda: [descriptors(worn.shim), descriptors(worn.keeper), mounts(worn), len(worn.cgroups())] <= before, 60, "something is left")
    assert worn.python("print('next')\n").output() == b"next\n"
