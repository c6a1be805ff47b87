# SPDX-License-Identifier: Apache-2.0
"""A workspace's sandbox that is ordered before any process: POST .../sandbox has it ready, with the files in it."""

import os
import re
import signal
import time
import uuid

import pytest

from test_adoption import node  # noqa: F401 (a fixture)
from test_sandboxes import status
from test_sandboxes import until_status as until_status_within
from test_shim import files_block
from test_workspaces import Workspace


@pytest.fixture()
def ws(api):
    w = Workspace(api)
    yield w
    api.call("DELETE", w.path)


def until_status(api, sandbox, wanted, timeout=60):
    return until_status_within(api, sandbox, wanted, timeout=timeout)


def order(ws, **body):
    r = ws.api.call("POST", ws.path + "/sandbox", json=body)
    assert r.status_code == 200, r.text
    return r.json()


def made(devbox, sandbox):
    """How many sandboxes the node has had for this one, by its own word."""
    return len(re.findall(rf"sandbox={sandbox} .*the workspace's sandbox is [0-9a-f-]{{36}}", devbox.log("shim")))


def test_ready_and_used(devbox, api, ws):
    ws.put("src/main.py", "print('there')")
    ws.put("run.sh", "#!/bin/sh\nexec python3 src/main.py\n")
    box = order(ws)
    assert box["status"] == "pending"
    s = until_status(api, box["sandbox_id"], "idle")
    assert (s["processes"], s["workspace_id"], s["ended_at"]) == (0, ws.id, None)
    assert made(devbox, box["sandbox_id"]) == 1
    # Again is the same, and changes nothing.
    assert order(ws)["sandbox_id"] == box["sandbox_id"] and order(ws)["status"] == "idle"
    # What is changed in the record meanwhile is there too, and what programs write comes back.
    ws.put("src/main.py", "print('changed'); open('made', 'w').write('x')")
    end, out, err = ws.run("./run.sh")
    assert (end["verdict"], out, end["sandbox_id"]) == ("OK", "changed\n", box["sandbox_id"]), err
    assert made(devbox, box["sandbox_id"]) == 1  # it ran in what stood there
    until_status(api, box["sandbox_id"], "idle")
    deadline = time.monotonic() + 60
    while "made" not in {e["path"] for e in ws.tree()}:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_process_does_not_wait_for_it(devbox, api, ws):
    """Started in the same moment: one sandbox, and all files."""
    ws.put("a", "1")
    box = order(ws)
    end, out, _ = ws.run("cat a; ls")
    assert (end["verdict"], out, end["sandbox_id"]) == ("OK", "1a\n", box["sandbox_id"])
    until_status(api, box["sandbox_id"], "idle")
    assert made(devbox, box["sandbox_id"]) == 1


def test_ended_before_anything_ran(api, ws):
    for wait in (True, False):
        box = order(ws)["sandbox_id"]
        if wait:
            until_status(api, box, "idle")
        assert api.call("DELETE", f"/api/sandboxes/{box}").status_code == 204
        assert until_status(api, box, "terminated")["reason"] == "requested"
    box = order(ws)["sandbox_id"]
    until_status(api, box, "idle")
    assert ws.run("true")[0]["sandbox_id"] == box


def test_another_size(api, ws):
    """What was made ready of another size ends, and what is in use stays."""
    small = order(ws)
    until_status(api, small["sandbox_id"], "idle")
    large = order(ws, size="cpu-large")
    assert (large["size"], large["status"]) == ("cpu-large", "pending") and large["sandbox_id"] != small["sandbox_id"]
    until_status(api, small["sandbox_id"], "terminated")
    assert until_status(api, large["sandbox_id"], "idle")["size"] == "cpu-large"
    assert ws.run("true")[0]["sandbox_id"] == large["sandbox_id"]
    r = api.call("POST", ws.path + "/sandbox", json={"size": "cpu-small"})
    assert (r.status_code, r.json()["error"]["field"]) == (409, "size")


def test_who_looks_orders_nothing(devbox, api):
    w = Workspace(api, sharing_mode="view")
    guest = devbox.client(key=None)
    csrf = {"X-CSRF-Token": guest.call("POST", "/api/auth/guest", json={}).json()["csrf_token"]}
    r = guest.call("POST", w.path + "/sandbox", headers=csrf)
    assert r.status_code == 200 and r.json()["status"] == "pending"
    box = r.json()["sandbox_id"]
    # It stands nowhere, whatever else is ordered meanwhile, until somebody orders it who may.
    other = Workspace(api)
    until_status(api, order(other)["sandbox_id"], "idle")
    assert status(api, box)["status"] == "pending" and made(devbox, box) == 0
    assert order(w)["sandbox_id"] == box
    until_status(api, box, "idle")
    for x in (w, other):
        assert api.call("DELETE", x.path).status_code == 204


def test_idle_and_killed_daemons(own_devbox):
    """It ends when nobody comes; it is made, whoever dies meanwhile; and its end is told."""
    own_devbox.env["DEVBOX_GATEWAY_WORKSPACE_IDLE_MS"] = "30000"
    own_devbox.up()
    api = own_devbox.client()
    ready, made = Workspace(api), [Workspace(api) for _ in range(3)]
    ready.put("f", "x")
    box = order(ready)["sandbox_id"]
    until_status(api, box, "idle")
    pids = {name: own_devbox.daemons(name)[0]["pid"] for name in ("scheduler", "shim")}
    for w, victims in zip(made, (["scheduler"], ["shim"], ["scheduler", "shim"])):
        w.put("f", "x")
        b = order(w)["sandbox_id"]
        for name in victims:
            os.kill(own_devbox.daemons(name)[0]["pid"], signal.SIGKILL)
        until_status(api, b, "idle")
        end, out, err = w.run("cat f")
        assert (end["verdict"], out, end["sandbox_id"]) == ("OK", "x", b), err
    assert all(own_devbox.daemons(name)[0]["pid"] != pid for name, pid in pids.items())
    s = until_status(api, box, "terminated", timeout=120)
    assert (s["reason"], s["processes"]) == ("idle", 0)
    assert order(ready)["sandbox_id"] != box


def prepare(node, box, epoch=None, **more):
    return node.link.request("prepare", order={"epoch": node.epoch if epoch is None else epoch, "sandbox_id": box, "template": "python",
                                               "size": "cpu-small", "idle_ms": 300000, "max_ms": 600000, **more})


def test_of_an_earlier_shim(node):
    """Killed between its sandbox and its files, and when it is ready: the next shim has it, and says so."""
    box = str(uuid.uuid4())
    assert prepare(node, box)["ok"] and prepare(node, box)["ok"]
    asked = node.wait(lambda h: h["op"] == "files_since" and h["sandbox_id"] == box, 60)
    assert asked["revision"] == -1
    node.kill()
    node.again()
    assert node.hello["sandboxes"] == [box]
    node.wait(lambda h: h["op"] == "files_since" and h["sandbox_id"] == box, 60)
    node.link.send({"op": "record_files", "sandbox_id": box, "since": -1, "revision": 4}, files_block({"main.py": "print('stands')\n"}))
    node.wait(lambda h: h["op"] == "sandbox_ready" and h["sandbox_id"] == box, 60)
    node.kill()
    node.again()
    node.wait(lambda h: h["op"] == "sandbox_ready" and h["sandbox_id"] == box, 60)
    node.ready()
    run = node.run("python", {"main.py": "print('stands')\n"}, command=["python3", "main.py"], sandbox_id=box, limits={},
                   workspace={"size": "cpu-small", "revision": 4, "idle_ms": 1000, "max_ms": 600000})
    assert run.output() == b"stands\n"
    ended = node.wait(lambda h: h["op"] == "sandbox_ended" and h["sandbox_id"] == box, 60)
    assert ended["reason"] == "idle"


def test_orders_that_are_refused(node):
    box = str(uuid.uuid4())
    for bad, field in (({"template": 1}, "order.template"), ({"size": "gpu"}, "order.size"), ({"idle_ms": 0}, "order.idle_ms"),
                       ({"max_ms": 1 << 60}, "order.max_ms"), ({"sandbox_id": "x"}, "order.sandbox_id"), ({"more": 1}, "order.more")):
        error = prepare(node, box, **bad)["error"]
        assert (error["kind"], error["field"]) == ("invalid", field), error
    assert prepare(node, box, epoch=node.epoch - 1)["error"]["kind"] == "denied"
    assert prepare(node, box, template="none")["error"]["kind"] == "not_found"


def test_gives_way(own_devbox):
    """A full node ends what nobody is in for who waits: first what was never used. What gave way is not made again by itself."""
    own_devbox.env["DEVBOX_SHIM_MAX_SANDBOXES"] = "3"
    own_devbox.up()
    api = own_devbox.client()
    used, first, second, third = (Workspace(api) for _ in range(4))
    used.put("f", "x")
    end, _, _ = used.run("echo kept > result")
    in_use = end["sandbox_id"]
    boxes = [order(first)["sandbox_id"]]
    until_status(api, boxes[0], "idle")
    boxes.append(order(second)["sandbox_id"])
    until_status(api, boxes[1], "idle")
    # There is no room for what is only ordered: nothing gives way for that.
    late = order(third)["sandbox_id"]
    run = {"template": "python", "files": [{"path": "main.py", "content": "print('there was room')"}]}
    r = api.call("POST", "/api/executions?wait=true", json=run)
    assert (r.status_code, r.json()["stdout"]) == (200, "there was room\n"), r.text
    assert until_status(api, boxes[0], "terminated")["reason"] == "evicted"
    assert status(api, boxes[1])["status"] == "idle" and status(api, in_use)["status"] == "idle"
    # The place is free again: what was ordered gets it, and what has given way does not come back.
    until_status(api, late, "idle")
    assert status(api, boxes[0])["ended_at"] and made(own_devbox, boxes[0]) == 1
    # Its workspace gets another, in the place of the next; with all of its files.
    first.put("g", "y")
    end, out, _ = first.run("cat g")
    assert (end["verdict"], out) == ("OK", "y") and end["sandbox_id"] != boxes[0]
    assert until_status(api, boxes[1], "terminated")["reason"] == "evicted"
    # Then what was used, the longest idle first; what a program has left there is a file of record.
    runs = [(third, third.start("echo up; read x"))]
    assert runs[0][1]["sandbox_id"] == late
    until_status(api, late, "running")
    runs.append((second, second.start("echo up; read x")))
    assert until_status(api, in_use, "terminated")["reason"] == "evicted"
    end, out, _ = used.run("cat f result")
    assert (end["verdict"], out) == ("OK", "xkept\n") and end["sandbox_id"] != in_use
    for w, r in runs:
        w.give(r, "\n")
        assert w.wait(r)["verdict"] == "OK"
