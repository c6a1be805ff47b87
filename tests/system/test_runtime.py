# SPDX-License-Identifier: Apache-2.0
"""Sandboxes as the shim makes and ends them, with the real runsc: devbox-runtime-check does it, and here is looked whether
anything is left: process, mount, cgroup, file."""

import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest

from test_bundles import ROOT, cache_dir, images, program, runsc  # noqa: F401 (fixtures)

CGROUPS = pathlib.Path("/sys/fs/cgroup")


def processes_of(state):
    """Command lines that name the state folder, or whose cgroup is ours."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = pathlib.Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            group = pathlib.Path("/proc", pid, "cgroup").read_text()
        except OSError:
            continue
        if str(state) in line or state.name in group:
            found.append((pid, line))
    return found


def leftovers(state):
    left = [f"process {p}" for p in processes_of(state)]
    left += [f"mount {m}" for m in pathlib.Path("/proc/self/mountinfo").read_text().splitlines() if str(state) in m]
    left += [f"cgroup {c}" for c in [*CGROUPS.glob(state.name + "*"), *CGROUPS.glob(f"*/{state.name}*")]]
    left += [f"file {f}" for f in (state / "sandboxes").glob("*")]
    left += [f"file {f}" for f in (state / "runsc").glob("*")]
    return left


@pytest.fixture()
def check(runsc, images, tmp_path):  # noqa: F811
    """Arguments of the program; python's image alone is in its cache."""
    state = tmp_path / f"devbox-rt-{os.getpid()}-{tmp_path.name[-12:]}"
    init = tmp_path / "init"
    only = tmp_path / "cache" / "images"
    for d in (state, init, only):
        d.mkdir(parents=True)
    shutil.copy(program("devbox-sandbox-init"), init / "init")
    shutil.copy(cache_dir() / "images" / "python.json", only)
    image = pathlib.Path(images["python"])
    (only / image.name).symlink_to(image)
    args = [program("devbox-runtime-check"), "--runsc", runsc, "--shim-exec", program("devbox-shim-exec"), "--init-dir", init,
            "--cache", tmp_path / "cache", "--templates", ROOT / "bundles" / "templates", "--state-dir", state,
            "--cgroup", state.name]
    yield [str(a) for a in args], state
    assert leftovers(state) == []


def test_twenty_sandboxes_leave_nothing(check):
    args, state = check
    r = subprocess.run([*args, "--count", "20"], capture_output=True, text=True, timeout=300)
    print(r.stdout, r.stderr)
    assert r.returncode == 0 and "FAILED" not in r.stdout
    for line in ("python ran in each, one by one", "100 MiB of 128 can be had", "200 MiB of 128 cannot",
                 "400 MiB on the disk are not memory", "the probe is content", "each claim got one that works",
                 "what an earlier shim left is ended", "no descriptor is left open"):
        assert f"ok {line}" in r.stdout
    assert leftovers(state) == []


@pytest.mark.parametrize("after", [0.3, 1.0, 2.0])
def test_what_a_killed_one_left_is_swept(check, after):
    """Killed at some moment: its sandboxes end with its sockets or not, the next one takes all of it away."""
    args, state = check
    p = subprocess.Popen([*args, "--count", "20"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list((state / "sandboxes").glob("*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(subprocess.TimeoutExpired):
        p.wait(after)
    p.send_signal(signal.SIGKILL)
    p.wait()
    r = subprocess.run([*args, "--count", "1"], capture_output=True, text=True, timeout=200)
    assert r.returncode == 0, r.stdout + r.stderr
    assert leftovers(state) == []


def test_a_runsc_that_knows_fewer_flags(check, tmp_path):
    """Sandboxes are told not to spin only where runsc knows that."""
    args, _ = check
    old = tmp_path / "runsc"
    real = args[args.index("--runsc") + 1]
    old.write_text(f'#!/bin/bash\nfor a; do [[ $a != --systrap-disable-fast-path* ]] || exit 2; done\nexec {real} "$@"\n')
    old.chmod(0o755)
    r = subprocess.run([*(str(old) if a == real else a for a in args), "--count", "1"], capture_output=True, text=True, timeout=300)
    print(r.stdout, r.stderr)
    assert r.returncode == 0 and "ok the probe is content" in r.stdout
