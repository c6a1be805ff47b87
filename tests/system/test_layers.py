# SPDX-License-Identifier: Apache-2.0
"""Dependency layers: a lock file is installed once, by the real installer in a sandbox of its own, and is there at
once in every sandbox afterwards."""

import json
import os
import re
import signal
import uuid

import pytest

from test_packages import shell, workspace  # noqa: F401 (a fixture)
from test_workspaces import Workspace

MAIN = "import markupsafe\nprint(markupsafe.__file__)\n"
PLACE = r"/home/dev/\.local/lib/python3\.\d+/site-packages/markupsafe/__init__\.py\n"


def fresh(lock):
    """The same lock file, which nobody has ever installed."""
    return f"# {uuid.uuid4()}\n{lock}"


def messages(api, run):
    """All that a viewer sees of a process, to its end."""
    s = api.stream(run)
    s.until(lambda m: m.get("process_id") == run["process_id"] and m.get("status") in ("completed", "failed", "cancelled"))
    s.close()
    return [m for m in s.seen if m.get("process_id") == run["process_id"]]


def layers_counted(box, result):
    out = box.client(url=next(d["url"] for d in box.status()["daemons"] if d["name"] == "shim")).call("GET", "/metrics").text
    got = re.search(r'^devbox_shim_layers_total\{result="%s"\} (\d+)' % result, out, re.M)
    return int(got.group(1)) if got else 0


def in_phase(got, phase):
    return "".join(m["data"] for m in got if m["type"] == "output" and m.get("phase") == phase)


def test_installed_once(api, workspace):
    """The first run shows the installer; the second is of another workspace, and waits for nothing."""
    lock = fresh("MarkupSafe==3.0.2\n")
    ends = []
    for i in range(2):
        w = workspace("python")
        w.put("requirements.txt", lock)
        w.put("main.py", MAIN)
        run = w.start(["python3", "main.py"])
        end = w.wait(run, timeout=120)
        got = messages(api, run)
        assert end["verdict"] == "OK" and re.fullmatch(PLACE, w.output(run)), (end, w.output(run, "stderr"))
        said, status = in_phase(got, "compile"), got[-1]
        if i == 0:
            assert said.startswith("$ pip install ") and "Successfully installed MarkupSafe-3.0.2\n" in said
            assert status["compile"]["verdict"] == "OK"
        else:
            assert said == "" and status["compile"] is None
        ends.append(w)
    # Writable on top, for this sandbox alone.
    out = shell(ends[0], "pip install -q itsdangerous; echo >>~/.local/lib/python3*/site-packages/markupsafe/__init__.py "
                         "'NEW = 1'; python3 -c 'import itsdangerous, markupsafe; print(markupsafe.NEW)'")
    assert out.endswith("1\n")
    out = shell(ends[1], "python3 -c 'import markupsafe; print(hasattr(markupsafe, \"NEW\"))'; pip list --user; "
                         "ls /.layers 2>&1 || true; touch /.layers/x 2>&1 || true")
    assert out.startswith("False\n") and "MarkupSafe" in out and "itsdangerous" not in out
    assert out.count("Permission denied") + out.count("Read-only") == 2, out
    assert ends[1].tree() == ends[1].tree() and {e["path"] for e in ends[1].tree()} == {"main.py", "requirements.txt"}


def test_npm(workspace):
    w = workspace("node")
    package = {"name": "x", "version": "1.0.0", "scripts": {"postinstall": "exit 7"}, "dependencies": {"semver": "^7.0.0"}}
    w.put("package.json", json.dumps(package))
    shell(w, "npm install --package-lock-only --ignore-scripts")
    lock = shell(w, "cat package-lock.json")
    w = workspace("node")
    w.put("package.json", json.dumps(package))
    w.put("package-lock.json", lock)
    out = shell(w, "node -p 'require.resolve(\"semver\")'; node_modules/.bin/semver 1.2.3; npm ls")
    assert out.startswith("/workspace/node_modules/semver/index.js\n1.2.3\n") and "UNMET" not in out, out
    out = shell(w, "npm install --ignore-scripts left-pad && node -p 'require(\"left-pad\")(1, 3) + !!require(\"semver\")'")
    assert out.endswith("  1true\n")
    assert "node_modules" not in {e["path"].split("/")[0] for e in w.tree()}


def test_a_failure_is_the_users(api, workspace):
    """It shows with its log, and the program runs all the same: it may be what mends it."""
    w = workspace("python")
    w.put("requirements.txt", fresh("devbox-has-no-such-package==1.0\n"))
    run = w.start(["sed", "-i", "s/.*/markupsafe/", "requirements.txt"])
    assert w.wait(run, timeout=120)["verdict"] == "OK"
    got = messages(api, run)
    assert "No matching distribution found for devbox-has-no-such-package==1.0" in in_phase(got, "compile")
    assert (got[-1]["verdict"], got[-1]["compile"]["verdict"], got[-1]["compile"]["exit_code"]) == ("OK", "EXIT_CODE", 1)


def test_scripts_run_in_a_sandbox_of_their_own(workspace):
    """What an installation runs sees nothing of the workspace but lock file and manifest."""
    w = workspace("python")
    w.put("secret.txt", "mine")
    w.put("requirements.txt", fresh("MarkupSafe==3.0.2\n"))
    w.put("pip.conf", "[global]\nno-index = true\n")
    out = shell(w, "python3 -c 'import markupsafe; print(markupsafe.__version__)'; cat secret.txt")
    assert out.endswith("3.0.2\nmine")


@pytest.mark.parametrize("lock", ["-r other.txt\n", "-e .\n", "./local\n", "markupsafe @ file:///x\n", "\x00", "--index-url http://x/\nmarkupsafe\n"])
def test_what_reaches_further_makes_no_layer(api, workspace, lock):
    w = workspace("python")
    w.put("requirements.txt", lock)
    run = w.start(["true"])
    assert w.wait(run)["verdict"] == "OK"
    assert messages(api, run)[-1]["compile"] is None


def test_own_installation_is_left_alone(workspace):
    w = workspace("python")
    shell(w, "pip install -q itsdangerous")
    w.put("requirements.txt", fresh("MarkupSafe==3.0.2\n"))
    out = shell(w, "pip list --user")
    assert "itsdangerous" in out and "MarkupSafe" not in out


def test_a_terminal_does_not_wait(workspace):
    w = workspace("python")
    w.put("requirements.txt", fresh("MarkupSafe==3.0.2\n"))
    run = w.start(["echo", "here"], pty={"cols": 80, "rows": 24})
    assert w.wait(run)["verdict"] == "OK" and w.output(run, "pty") == "here\r\n"
    out = shell(w, "python3 -c 'import markupsafe; print(1)'")  # waits for what the terminal began
    assert out.endswith("1\n")


def test_many_wait_for_one(own_devbox):
    """Six workspaces with one new lock file: it is installed once. Then the shim dies and the layers stay; then it
    dies amid an installation, and whoever waited goes on without."""
    box = own_devbox.up()
    api = box.client()
    lock = fresh("MarkupSafe==3.0.2\n")
    made = []
    for _ in range(6):
        made.append(Workspace(api))
        made[-1].put("requirements.txt", lock)
        made[-1].put("main.py", MAIN)
    runs = [w.start(["python3", "main.py"]) for w in made]
    for w, run in zip(made, runs):
        assert w.wait(run, timeout=180)["verdict"] == "OK" and re.fullmatch(PLACE, w.output(run))
    assert layers_counted(box, "built") == 1
    for w in made:
        api.call("DELETE", w.path)

    os.kill(box.daemons("shim")[0]["pid"], signal.SIGKILL)
    w = Workspace(api)
    w.put("requirements.txt", lock)
    w.put("main.py", MAIN)
    run = w.start(["python3", "main.py"])
    assert w.wait(run, timeout=120)["verdict"] == "OK" and re.fullmatch(PLACE, w.output(run))
    assert layers_counted(box, "built") == 0 and layers_counted(box, "hit") == 1

    w = Workspace(api)
    w.put("requirements.txt", fresh("numpy\n"))
    run = w.start(["echo", "went on"])
    tmp = box.state / "layers" / "tmp"
    s = api.stream(run)
    while "$ pip" not in s.text(phase="compile"):
        s.next()
    s.close()
    os.kill(box.daemons("shim")[0]["pid"], signal.SIGKILL)
    end = w.wait(run, timeout=120)
    assert end["verdict"] == "OK" and w.output(run) == "went on\n", end
    assert list(tmp.iterdir()) == []
    out = shell(w, "python3 -c 'import numpy; print(numpy.ones(3).sum())'")
    assert out.endswith("3.0\n")
