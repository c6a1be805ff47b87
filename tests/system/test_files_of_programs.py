# SPDX-License-Identifier: Apache-2.0
"""What programs do to the files of a workspace becomes files of record, with nobody watching."""

import hashlib
import os
import queue
import signal
import time

import pytest

from inject import freeze
from test_adoption import node  # noqa: F401 (a fixture)
from test_shim import files_block
from test_workspaces import Workspace


@pytest.fixture()
def ws(api):
    w = Workspace(api)
    yield w
    api.call("DELETE", w.path)


def until(ws, wanted, timeout=60):
    """Until the files of record are these: {path: content or None for a folder}."""
    deadline = time.monotonic() + timeout
    while True:
        tree = {e["path"]: e for e in ws.tree()}
        if {p: e["etag"] for p, e in tree.items()} == {p: c if c is None else hashlib.sha256(c.encode()).hexdigest() for p, c in wanted.items()}:
            return tree
        assert time.monotonic() < deadline, sorted(tree)
        time.sleep(0.02)


def content(ws, entry):
    return ws.api.call("GET", f"/api/files/{entry['id']}").json()["content"]


def test_output_files_appear(ws):
    ws.put("main.py", "print('x')")
    end, _, err = ws.run("mkdir -p out/deep && echo hello > out/deep/a.txt && printf one > 'b \"q\\' && mkdir node_modules && echo no > node_modules/x")
    assert end["verdict"] == "OK", err
    tree = until(ws, {"main.py": "print('x')", "out": None, "out/deep": None, "out/deep/a.txt": "hello\n", "b \"q\\": "one"})
    assert content(ws, tree["out/deep/a.txt"]) == "hello\n"
    # Changed, moved and removed; by a program that does not end.
    run = ws.start("mv out in && rm b* && echo 'print(2)' > main.py; echo done; sleep 1000")
    tree = until(ws, {"main.py": "print(2)\n", "in": None, "in/deep": None, "in/deep/a.txt": "hello\n"})
    # Nothing comes back: the same files, the same etags, and programs see them.
    assert ws.run("find . -type f | sort; cat main.py")[1] == "./in/deep/a.txt\n./main.py\n./node_modules/x\nprint(2)\n"
    ws.put("main.py", "print(3)")
    assert ws.run("cat main.py")[1] == "print(3)"
    assert ws.api.call("POST", f"/api/processes/{run['process_id']}/cancel").status_code == 202
    until(ws, {"main.py": "print(3)", "in": None, "in/deep": None, "in/deep/a.txt": "hello\n"})


def test_many_and_large(ws):
    end, _, err = ws.run("for i in $(seq 300); do echo $i > f$i; done; head -c 1048576 /dev/zero > just; head -c 1048577 /dev/zero > /tmp/more; mv /tmp/more .")
    assert end["verdict"] == "OK", err
    deadline = time.monotonic() + 60
    while len(tree := {e["path"]: e["size"] for e in ws.tree()}) != 301 or tree["just"] != 1 << 20:
        assert time.monotonic() < deadline, len(tree)
        time.sleep(0.05)
    assert "more" not in tree
    assert ws.run("rm -r f*; ls")[1] == "just\nmore\n"
    deadline = time.monotonic() + 60
    while len(ws.tree()) != 1:
        assert time.monotonic() < deadline, len(ws.tree())
        time.sleep(0.05)


def test_a_lost_sandbox_costs_nothing_that_was_told(ws):
    run = ws.start("echo kept > result; sleep 1000")
    until(ws, {"result": "kept\n"})
    assert ws.api.call("POST", f"/api/processes/{run['process_id']}/cancel").status_code == 202
    ws.api.call("PUT", ws.path, json={"template": "node"})  # the next program gets a sandbox of its own
    second = ws.start("cat result")
    assert second["sandbox_id"] != run["sandbox_id"]
    assert ws.wait(second)["verdict"] == "OK" and ws.output(second) == "kept\n"


def test_both_changed(own_devbox):
    """The later wins, the other is kept beside it: here and in the sandbox."""
    own_devbox.env["DEVBOX_SCHEDULER_LEASE_MS"] = "60000"
    own_devbox.up()
    ws = Workspace(own_devbox.client())
    ws.put("f", "first")
    run = ws.start("echo up; read x; sleep 4; echo inside > f; echo done; read x")
    s = ws.api.stream(run)
    s.until_output("up\n")
    assert ws.input(run, "\n").status_code == 204
    # The record changes while the node does not hear of it, and the program writes without seeing that.
    shim = own_devbox.daemons("shim")[0]["pid"]
    freeze(shim)
    try:
        ws.put("f", "by the API")
        time.sleep(7)
    finally:
        os.kill(shim, signal.SIGCONT)
    other = hashlib.sha256(b"by the API").hexdigest()[:8]
    tree = until(ws, {"f": "inside\n", f"f.conflict-{other}": "by the API"})
    assert content(ws, tree[f"f.conflict-{other}"]) == "by the API"
    deadline = time.monotonic() + 60
    while (seen := ws.run("cat f f.conflict-*")[1]) != "inside\nby the API":
        assert time.monotonic() < deadline, seen
    assert ws.input(run, "\n").status_code == 204
    assert ws.wait(run)["verdict"] == "OK"
    s.close()


def test_touched(ws):
    """Who touches a file all the time, or puts the same in its place, changes nothing and loses nothing of the record's."""
    ws.put("f", "first")
    ws.put("g", "same")
    run = ws.start("while :; do touch f; cp g ../tmp/g && mv ../tmp/g g; sleep 0.02; done")
    for i in range(10):
        ws.put("f", f"by the API {i}")
        assert ws.run("cat f g")[1] == f"by the API {i}same"
    assert ws.api.call("POST", f"/api/processes/{run['process_id']}/cancel").status_code == 202
    assert ws.wait(run)["verdict"] == "CANCELLED"
    assert ws.run("cat f")[1] == "by the API 9"
    until(ws, {"f": "by the API 9", "g": "same"})


REWRITES = """import os, time
f = open('f', 'r+')
os.ftruncate(f.fileno(), 0)
print('cut')
until = time.monotonic() + 10
while not os.path.exists('e'): time.sleep(0.001)
f.write('first')
f.flush()
while time.monotonic() < until and open('f').read() != 'second': time.sleep(0.01)
print(open('f').read())
"""


def rewritten(node):
    """The record's f comes while a program is about to write what stood there. False: its empty file was told in between."""
    run = node.order("python", {"main.py": REWRITES, "f": "first"}, command=["python3", "main.py"],
                     workspace={"size": "cpu-small", "revision": 1, "idle_ms": 1000, "max_ms": 600000})
    deadline = time.monotonic() + 60
    while b"cut" not in b"".join(r["data"] for r in run.read() if r["type"] == "stdout"):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    news = ({"op": "record_files", "sandbox_id": run.sandbox_id, "since": 1, "revision": 2}, files_block({"f": "second", "e": ""}))
    node.link.send(*news)
    mine = node.wait(lambda h: h["op"] in ("files_since", "files") and h["sandbox_id"] == run.sandbox_id, 60)
    if mine["op"] == "files_since":
        assert mine["revision"] == 1
        node.link.send(*news)
        run.wait()
        assert run.output() == b"cut\nsecond\n"
        with pytest.raises(queue.Empty):
            node.wait(lambda h: h["op"] == "files" and h["sandbox_id"] == run.sandbox_id, 0.5)
    return mine["op"] == "files_since"


def test_written_as_it_was(node):
    """A write that was left alone for a program's, which then is none, is asked for again."""
    assert any(rewritten(node) for _ in range(10))


def test_the_shim_dies(own_devbox):
    """What happens while none is there is told to the next."""
    own_devbox.env["DEVBOX_SCHEDULER_LEASE_MS"] = "60000"
    own_devbox.up()
    ws = Workspace(own_devbox.client())
    run = ws.start("echo one > a; while :; do test -e a2 || cp a a2; sleep 0.01; date +%N > ticks; done")
    deadline = time.monotonic() + 60
    while "a2" not in {e["path"] for e in ws.tree()}:
        assert time.monotonic() < deadline
    s = ws.api.stream(run)
    os.kill(own_devbox.daemons("shim")[0]["pid"], signal.SIGKILL)
    while len(own_devbox.daemons("shim")) != 1 or not own_devbox.status()["ready"]:
        assert time.monotonic() < deadline + 60
    # It may begin only now to serve: what is written from here on, and before, must come.
    assert ws.run("echo two > b")[0]["verdict"] == "OK"
    deadline = time.monotonic() + 60
    while "b" not in {e["path"] for e in ws.tree()}:
        assert time.monotonic() < deadline, ws.tree()
    first = {e["path"]: e["etag"] for e in ws.tree()}["ticks"]
    while {e["path"]: e["etag"] for e in ws.tree()}["ticks"] == first:
        assert time.monotonic() < deadline
    s.close()


def test_the_next_shim_knows_the_files(own_devbox):
    """Nothing is written again, and what happened while none was there is found, removals too."""
    own_devbox.env["DEVBOX_SCHEDULER_LEASE_MS"] = "60000"
    own_devbox.up()
    ws = Workspace(own_devbox.client())
    for name in ("same", "changed", "removed", "by-api", "src/deep", ".git/config"):
        ws.put(name, f"first {name}")
    run = ws.start("touch -d 2001-01-01 same by-api; echo up; read x; sleep 2; "
                   "echo later > changed; rm removed; mv src moved; echo new > new; echo done; read x; ls")
    s = ws.api.stream(run)
    s.until_output("up\n")
    wanted = {"same": "first same", "changed": "later\n", "by-api": "second", ".git/config": "first .git/config", ".git": None,
              "moved": None, "moved/deep": "first src/deep", "new": "new\n"}
    # The program works while nobody listens: it is told to by one that is killed with the shim's life.
    pid = own_devbox.daemons("shim")[0]["pid"]
    assert ws.input(run, "\n").status_code == 204
    freeze(pid)
    time.sleep(3)
    os.kill(pid, signal.SIGKILL)
    ws.put("by-api", "second")
    until(ws, wanted, timeout=60)
    deadline = time.monotonic() + 60
    while (seen := ws.run("stat -c %y same | cut -c1-4; cat by-api; cat .git/config; ls")[1]) != \
            "2001\nsecondfirst .git/configby-api\nchanged\nmoved\nnew\nsame\n":
        assert time.monotonic() < deadline, seen
    assert ws.input(run, "\n").status_code == 204
    assert ws.wait(run)["verdict"] == "OK"
    s.close()
