# SPDX-License-Identifier: Apache-2.0
"""Every limit has its verdict, and the node serves the next at once."""

import pathlib

import pytest


def check_next(api):
    r = api.run("python", {"main.py": "print('next')\n"})
    assert (r["verdict"], r["stdout"]) == ("OK", "next\n"), r


CASES = {
    "cpu": ("python", "while True: pass\n", {"cpu_ms": 1000}, "TIME_LIMIT"),
    "cpu in threads": ("python", "import os\nfor _ in range(3):\n    if os.fork() == 0: break\nwhile True: pass\n", {"cpu_ms": 1000}, "TIME_LIMIT"),
    "wall": ("python", "import time\ntime.sleep(1000)\n", {"wall_ms": 1500}, "WALL_LIMIT"),
    "memory": ("python", "x = bytearray(10**9)\nfor i in range(0, len(x), 4096): x[i] = 1\n", {}, "MEMORY_LIMIT"),
    "memory in /dev/shm": ("python", "f = open('/dev/shm/x', 'wb')\nwhile True: f.write(b'x' * 1000000)\n", {}, ("MEMORY_LIMIT", "EXIT_CODE")),
    "output": ("python", "import os\nb = b'y' * 65536\nwhile True: os.write(1, b)\n", {"output_bytes": 1000000}, "OUTPUT_LIMIT"),
    "fork bomb": ("python", "import os\nwhile True: os.fork()\n", {"cpu_ms": 3000, "wall_ms": 6000}, ("PROCESS_LIMIT", "TIME_LIMIT", "WALL_LIMIT")),
    "processes": ("python", "import subprocess\nps = [subprocess.Popen(['sleep', '5']) for _ in range(100)]\n", {"processes": 20}, "PROCESS_LIMIT"),
    "disk": ("python", "f = open('big', 'wb')\nwhile True: f.write(b'x' * 1000000)\n", {"disk_mb": 64}, "DISK_LIMIT"),
    "disk, default size": ("python", "f = open('/tmp/big', 'wb')\nwhile True: f.write(b'x' * 1000000)\n", {}, "DISK_LIMIT"),
    "signal": ("python", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", {}, "SIGNAL"),
    "open files": ("python", "fs = [open('/dev/null') for _ in range(2000)]\n", {"open_files": 64}, "EXIT_CODE"),
}


@pytest.mark.parametrize("name", CASES)
def test_verdict(api, name):
    template, code, limits, expected = CASES[name]
    r = api.run(template, {"main.py": code}, limits=limits)
    expected = expected if isinstance(expected, tuple) else (expected,)
    assert r["verdict"] in expected, r
    by_itself = r["verdict"] in ("OK", "EXIT_CODE", "SIGNAL")
    assert r["status"] == ("completed" if by_itself else "failed")
    if r["verdict"] == "SIGNAL":
        assert r["signal"] == "SIGSEGV" and r["exit_code"] is None
    if r["verdict"] == "OUTPUT_LIMIT":
        assert r["usage"]["output_bytes"] == limits["output_bytes"]
    if r["verdict"] == "TIME_LIMIT":
        assert limits["cpu_ms"] <= r["usage"]["cpu_ms"] < limits["cpu_ms"] + 2000
    check_next(api)


def test_default_time_limit(api):
    r = api.run("python", {"main.py": "while True: pass\n"})
    assert r["verdict"] == "TIME_LIMIT" and 10000 <= r["usage"]["cpu_ms"] < 12000


@pytest.mark.parametrize("template,files", [
    ("go", {"main.go": "package main\nfunc main() { this is not go }\n"}),
    ("rust", {"main.rs": "fn main() { let x: u8 = \"no\"; }\n"}),
])
def test_compile_error(api, template, files):
    r = api.run(template, files)
    assert (r["status"], r["verdict"], r["exit_code"]) == ("failed", "COMPILE_ERROR", None)
    assert r["compile"]["verdict"] == "EXIT_CODE" and r["compile"]["exit_code"] != 0
    assert "main." in r["compile"]["stderr"] + r["compile"]["stdout"]
    assert r["stdout"] == "" and r["stderr"] == ""
    accepted = api.start(template, files)
    s = api.stream(accepted)
    end = s.until_end()
    assert end["verdict"] == "COMPILE_ERROR"
    assert s.text(phase="compile") and not s.text()


def test_a_program_that_copes_is_ok(api):
    r = api.run("python", {"main.py": "try:\n    open('big', 'wb').write(b'x' * 100000000)\nexcept OSError as e:\n    print(e.errno)\n"},
                limits={"disk_mb": 32})
    assert (r["verdict"], r["stdout"]) == ("OK", "28\n"), r


def test_compiling_and_running_share_a_disk(api):
    code = ("package main\nimport (\"os\"; \"fmt\")\nfunc main() {\n\tif err := os.WriteFile(\"big\", make([]byte, 40<<20), 0o644); err != nil {\n"
            "\t\tfmt.Println(err); os.Exit(1)\n\t}\n\tos.Remove(\"big\")\n}\n")

    def run(**fields):
        r = api.run("go", {"main.go": code}, **fields)
        return r["verdict"], r["usage"]["disk_bytes"], r["compile"]["usage"]["disk_bytes"]

    assert run(limits={"disk_mb": 32})[0] == run(compile_limits={"disk_mb": 32})[0] == "DISK_LIMIT"
    verdict, whole, compiled = run(limits={"disk_mb": 64})
    assert verdict == "OK" and whole >= compiled > 1 << 20
    # The smaller of both, for the compiler too: what it makes does not fit, be it that one file is too large.
    r = api.run("go", {"main.go": code}, limits={"disk_mb": 64}, compile_limits={"disk_mb": 1})
    assert r["verdict"] in ("DISK_LIMIT", "COMPILE_ERROR") and r["compile"]["exit_code"] == 1, r


def rss(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024


def test_a_flood_leaves_memory_flat(devbox, api):
    """16 MiB of output many times over: the shim and the keeper hold what they held before."""
    pids = {n: devbox.daemons(n)[0]["pid"] for n in ("shim", "shim-keeper")}
    flood = {"main.py": "import os\nb = b'y' * 65536\nwhile True: os.write(1, b)\n"}
    assert api.run("python", flood)["verdict"] == "OUTPUT_LIMIT"
    before = {n: rss(p) for n, p in pids.items()}
    for _ in range(6):
        r = api.run("python", flood)
        assert r["verdict"] == "OUTPUT_LIMIT" and r["usage"]["output_bytes"] == 16777216
    for n, p in pids.items():
        assert rss(p) < before[n] + (8 << 20), f"{n} grew from {before[n]} to {rss(p)}"


def test_time_the_log_holds_a_program_back_is_told_as_output_not_lost(api):
    """Fast output of both streams arrives whole and in order."""
    code = "import sys\nfor i in range(100000):\n    print(i)\n    if i % 10 == 0: print(i, file=sys.stderr)\n"
    accepted = api.start("python", {"main.py": code})
    s = api.stream(accepted)
    assert s.until_end()["verdict"] == "OK"
    assert s.text("stdout") == "".join(f"{i}\n" for i in range(100000))
    assert s.text("stderr") == "".join(f"{i}\n" for i in range(0, 100000, 10))
