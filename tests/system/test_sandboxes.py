# SPDX-License-Identifier: Apache-2.0
"""The life of a workspace's sandbox, as its owner sees it: status, end, sizes, and what keeps it alive."""

import hashlib
import time
import uuid

import pytest
import websocket

from test_workspaces import Workspace


@pytest.fixture()
def ws(api):
    w = Workspace(api)
    yield w
    api.call("DELETE", w.path)


def status(api, sandbox):
    r = api.call("GET", f"/api/sandboxes/{sandbox}/status")
    assert r.status_code == 200, r.text
    return r.json()


def until_status(api, sandbox, *wanted, timeout=60):
    deadline = time.monotonic() + timeout
    while (s := status(api, sandbox))["status"] not in wanted:
        assert time.monotonic() < deadline, s
        time.sleep(0.05)
    return s


def test_status_and_end(api, ws):
    bound = api.call("POST", ws.path + "/sandbox").json()
    assert bound["status"] == "pending"
    run = ws.start("echo up; sleep 1000")
    other = ws.start("echo up; trap '' TERM; sleep 1000 & wait")
    assert run["sandbox_id"] == other["sandbox_id"] == bound["sandbox_id"]
    s = until_status(api, run["sandbox_id"], "running")
    assert (s["workspace_id"], s["template"], s["size"], s["processes"], s["ended_at"]) == (ws.id, "python", "cpu-small", 2, None)
    for _ in range(2):
        assert api.call("DELETE", f"/api/sandboxes/{run['sandbox_id']}").status_code == 204
    assert {ws.wait(r)["verdict"] for r in (run, other)} == {"CANCELLED"}
    s = until_status(api, run["sandbox_id"], "terminated")
    assert s["processes"] == 0 and s["ended_at"]
    assert api.call("DELETE", f"/api/sandboxes/{run['sandbox_id']}").status_code == 204
    # The workspace goes on, in another one.
    end, out, _ = ws.run("echo again")
    assert (end["verdict"], out) == ("OK", "again\n") and end["sandbox_id"] != run["sandbox_id"]
    until_status(api, end["sandbox_id"], "idle")


def test_end_before_anything_ran(api, ws):
    bound = api.call("POST", ws.path + "/sandbox").json()["sandbox_id"]
    assert api.call("DELETE", f"/api/sandboxes/{bound}").status_code == 204
    assert until_status(api, bound, "terminated")["reason"] == "requested"  # a node may be making it
    assert api.call("POST", ws.path + "/sandbox").json()["sandbox_id"] != bound
    assert api.call("GET", f"/api/sandboxes/{uuid.uuid4()}/status").status_code == 404
    assert api.call("DELETE", f"/api/sandboxes/{uuid.uuid4()}").status_code == 404


def test_ended_and_at_once_used_again(api, ws):
    """What is started in the same moment is in another sandbox, and is not cancelled."""
    for i in range(3):
        run = ws.start("sleep 1000")
        assert api.call("DELETE", f"/api/sandboxes/{run['sandbox_id']}").status_code == 204
        nxt = ws.start(f"echo {i}")
        assert nxt["sandbox_id"] != run["sandbox_id"]
        assert ws.wait(nxt)["verdict"] == "OK" and ws.output(nxt) == f"{i}\n"
        assert ws.wait(run)["verdict"] == "CANCELLED"


def test_the_sandbox_of_an_execution(api):
    ex = api.call("POST", "/api/executions", json={
        "template": "python", "files": [{"path": "main.py", "content": "import time\nprint(1)\ntime.sleep(1000)"}]}).json()
    assert status(api, ex["sandbox_id"])["workspace_id"] is None
    assert api.call("DELETE", f"/api/sandboxes/{ex['sandbox_id']}").status_code == 204
    until_status(api, ex["sandbox_id"], "terminated")
    assert api.call("GET", f"/api/executions/{ex['id']}").json()["verdict"] == "CANCELLED"


def test_list_of_processes(api, ws):
    runs = [ws.start("true") for _ in range(3)]
    stays = ws.start("sleep 1000")
    for r in runs:
        ws.wait(r)
    seen, cursor = [], ""
    while cursor is not None:
        page = api.call("GET", f"/api/processes?limit=2&sandbox_id={stays['sandbox_id']}{cursor}").json()
        seen += page["items"]
        cursor = "&cursor=" + page["next_cursor"] if page["next_cursor"] else None
    assert [p["id"] for p in seen] == [r["process_id"] for r in (stays, *reversed(runs))]
    assert seen[1]["verdict"] == "OK" and seen[1]["execution_id"] is None
    open_ones = api.call("GET", f"/api/processes?open=true&sandbox_id={stays['sandbox_id']}").json()["items"]
    assert [p["id"] for p in open_ones] == [stays["process_id"]]
    assert stays["process_id"] in [p["id"] for p in api.call("GET", "/api/processes?limit=200").json()["items"]]
    for bad, field in (("limit=0", "limit"), ("cursor=x", "cursor"), ("sandbox_id=x", "sandbox_id"), ("open=maybe", "open")):
        r = api.call("GET", "/api/processes?" + bad)
        assert (r.status_code, r.json()["error"]["field"]) == (400, field)


def test_sizes(api, ws):
    def bind(**body):
        r = api.call("POST", ws.path + "/sandbox", json=body)
        return r.status_code, r.json().get("size") or r.json()["error"]["field"]

    assert bind() == (200, "cpu-small") and bind(size="cpu-large") == (200, "cpu-large") and bind() == (200, "cpu-large")
    assert bind(size="gpu") == (409, "size") and bind(size="huge") == (400, "size")
    run = ws.start("echo up; sleep 1000")
    s = ws.api.stream(run)
    s.until_output("up\n")
    assert status(api, run["sandbox_id"])["size"] == "cpu-large"
    assert bind(size="cpu-large") == (200, "cpu-large") and bind(size="cpu-small") == (409, "size")  # it is in use
    # More than cpu-small could hold, and 2 GB more of it is not there.
    end, out, err = ws.run(["python3", "-c", "b = bytearray(2600 << 20)\nfor i in range(0, len(b), 4096): b[i] = 1\nprint(len(b) >> 20)"])
    assert (end["verdict"], out) == ("OK", "2600\n"), (end, err)
    # The next one is of the same size, and another may be chosen before anything runs in it.
    assert api.call("DELETE", f"/api/sandboxes/{run['sandbox_id']}").status_code == 204
    assert bind() == (200, "cpu-large") and bind(size="cpu-small") == (200, "cpu-small")
    end, _, _ = ws.run("true")
    assert status(api, end["sandbox_id"])["size"] == "cpu-small"
    s.close()


def test_who_watches_keeps_it_alive(own_devbox):
    own_devbox.env["DEVBOX_GATEWAY_WORKSPACE_IDLE_MS"] = "1500"
    own_devbox.env["DEVBOX_GATEWAY_WORKSPACE_MAX_MS"] = "20000"
    own_devbox.up()
    api = own_devbox.client()
    streamed, opened, alone, busy = (Workspace(api) for _ in range(4))
    began = time.monotonic()
    at_work = busy.start("sleep 1000")
    runs = [w.start("read x") for w in (streamed, opened, alone)]
    s = api.stream(runs[0])  # before its program ends: from then on it would be idle
    k = websocket.create_connection(api.url.replace("http", "ws", 1) + opened.path + "/socket", timeout=60,
                                    header={"Authorization": f"Bearer {api.key}"})
    for w, r in zip((streamed, opened, alone), runs):
        w.give(r, "\n")
    for w, r in zip((streamed, opened, alone), runs):
        assert w.wait(r)["verdict"] == "OK"
    assert until_status(api, runs[2]["sandbox_id"], "terminated")["reason"] == "idle"
    while time.monotonic() < began + 7:  # several idle times, and well before the oldest age
        assert {status(api, r["sandbox_id"])["status"] for r in runs[:2]} == {"idle"}
        time.sleep(0.2)
    k.close()
    assert until_status(api, runs[1]["sandbox_id"], "terminated")["reason"] == "idle"
    # Whatever watches it, and runs in it: none is older than that.
    assert until_status(api, runs[0]["sandbox_id"], "terminated", "running")["reason"] == "max_age"
    assert until_status(api, at_work["sandbox_id"], "terminated")["reason"] == "max_age"
    assert busy.wait(at_work)["verdict"] == "WALL_LIMIT"
    s.close()


def test_files_reach_a_live_sandbox(api, ws):
    """What is written, moved and removed by the API is there at once, for programs that run; and none of it comes back."""
    keep = ws.put("src/keep.txt", "keep")
    gone = ws.put("gone.txt", "gone")
    moves = ws.put("old/name.txt", "moves")
    run = ws.start("echo up; while read line; do eval \"$line\"; echo done; done")
    s = api.stream(run)
    s.until_output("up\n")

    def inside(command, wanted, timeout=60):
        """Until the command prints this, in a program that has run for long."""
        deadline = time.monotonic() + timeout
        while True:
            before = len(s.text("stdout"))
            s.send(type="input", process_id=run["process_id"], data=command + "\n")
            s.until(lambda m: "done\n" in s.text("stdout")[before:])
            got = s.text("stdout")[before:].removesuffix("done\n")
            if got == wanted:
                return time.monotonic() - deadline + timeout
            assert time.monotonic() < deadline, (got, [e["path"] for e in ws.tree()])
            time.sleep(0.02)

    def agree(timeout=60):
        """Record and sandbox have the same files, and no copies of them."""
        deadline = time.monotonic() + timeout
        while True:
            tree = sorted(f"{e['etag']}  {e['path']}" for e in ws.tree() if e["type"] == "file")
            before = len(s.text("stdout"))
            s.send(type="input", process_id=run["process_id"], data="find * -type f | xargs sha256sum\n")
            s.until(lambda m: "done\n" in s.text("stdout")[before:])
            there = sorted(s.text("stdout")[before:].splitlines()[:-1])
            if tree == there:
                break
            assert time.monotonic() < deadline, (tree, there)
            time.sleep(0.05)
        assert not any("conflict" in line for line in tree), tree

    inside("cat src/keep.txt; echo", "keep\n")
    assert api.call("PUT", f"/api/files/{keep['id']}", json={"content": "changed"}).status_code == 200
    took = inside("cat src/keep.txt; echo", "changed\n")
    print(f"a change is seen after {took:.2f} s")
    ws.put("src/new/deep.sh", "#!/bin/sh\necho deep\n")
    inside("src/new/deep.sh 2>/dev/null", "deep\n")
    assert api.call("DELETE", f"/api/files/{gone['id']}").status_code == 204
    inside("test -e gone.txt || echo gone", "gone\n")
    assert api.call("POST", f"/api/files/{moves['id']}/move", json={"path": "moved/name.txt"}).status_code == 200
    old = next(e for e in ws.tree() if e["path"] == "old")
    assert api.call("DELETE", f"/api/files/{old['id']}").status_code == 204
    inside("cat moved/name.txt; echo; test -e old || echo none", "moves\nnone\n")
    # A file becomes a folder, and the folder's name a file.
    assert api.call("DELETE", f"/api/files/{keep['id']}").status_code == 204
    ws.put("src/keep.txt/inner", "i")
    inside("cat src/keep.txt/inner; echo", "i\n")
    # Both at once, many times: no copies beside, and the two agree in the end.
    for i in range(20):
        ws.put("both.txt", f"api {i}")
        inside(f"test \"$(cat both.txt)\" != 'api {i}' || cat both.txt > seen-{i % 3}.txt; cat both.txt; echo", f"api {i}\n")
    agree()
    # A program's files and the API's, interleaved: each stays what its last writer made it.
    s.send(type="input", process_id=run["process_id"], data="for i in $(seq 100); do echo $i > by-program.txt; sleep 0.01; done\n")
    for i in range(30):
        ws.put("by-api.txt", str(i))
    inside("cat by-api.txt; echo", "29\n")
    deadline = time.monotonic() + 60
    while {e["path"]: e["etag"] for e in ws.tree()}.get("by-program.txt") != hashlib.sha256(b"100\n").hexdigest():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    agree()
    s.close()
