# SPDX-License-Identifier: Apache-2.0
"""Workspaces end to end: files of record, and programs in a sandbox that stays while it is used."""

import base64
import hashlib
import os
import pathlib
import signal
import subprocess
import time
import uuid

import pytest


class Workspace:
    def __init__(self, api, template="python", **fields):
        self.api = api
        r = api.call("POST", "/api/workspaces", json={"name": "test", "template": template, **fields})
        assert r.status_code == 201, r.text
        self.row = r.json()
        self.id, self.path = self.row["id"], f"/api/workspaces/{self.row['id']}"

    def put(self, path, content):
        """Makes or replaces a file; returns its entry."""
        known = {e["path"]: e for e in self.tree()}
        if path in known:
            r = self.api.call("PUT", f"/api/files/{known[path]['id']}", json={"content": content})
        else:
            r = self.api.call("POST", self.path + "/files", json={"path": path, "content": content})
        assert r.status_code in (200, 201), r.text
        return r.json()

    def tree(self):
        r = self.api.call("GET", self.path + "/files")
        assert r.status_code == 200, r.text
        return r.json()

    def start(self, command, **fields):
        r = self.api.call("POST", self.path + "/run", json={"command": command, **fields})
        assert r.status_code == 202, r.text
        assert set(r.json()) == {"process_id", "sandbox_id", "stream_token"}
        return r.json()

    def wait(self, run, timeout=60):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            p = self.api.call("GET", f"/api/processes/{run['process_id']}").json()
            if p["status"] not in ("pending", "running"):
                return p
            time.sleep(0.05)
        raise AssertionError(f"it did not end: {p}")

    def output(self, run, stream="stdout"):
        return self.api.call("GET", f"/api/processes/{run['process_id']}/output?stream={stream}").text

    def run(self, command, **fields):
        run = self.start(command, **fields)
        end = self.wait(run)
        return end, self.output(run), self.output(run, "stderr")

    def input(self, run, data, **fields):
        return self.api.call("POST", f"/api/processes/{run['process_id']}/input", json={"data": data, **fields})

    def give(self, run, data, **fields):
        """Input for a program that may not run yet."""
        deadline = time.monotonic() + 60
        while (r := self.input(run, data, **fields)).status_code != 204:
            assert time.monotonic() < deadline, r.text
            time.sleep(0.05)


@pytest.fixture()
def ws(api):
    w = Workspace(api)
    yield w
    api.call("DELETE", w.path)


def error_of(r):
    return r.status_code, r.json()["error"]["field"]


def test_workspace_crud(api):
    w = Workspace(api, sharing_mode="view")
    got = api.call("GET", w.path).json()
    assert got == {**w.row, "files": []}
    assert (got["name"], got["template"], got["sharing_mode"], got["sandbox_id"]) == ("test", "python", "view", None)
    r = api.call("PUT", w.path, json={"name": "other"})
    assert r.status_code == 200 and r.json()["name"] == "other" and r.json()["sharing_mode"] == "view"
    more = [Workspace(api) for _ in range(3)]
    seen, cursor = [], ""
    while cursor is not None:
        page = api.call("GET", f"/api/workspaces?limit=2{cursor}").json()
        seen += [x["id"] for x in page["items"]]
        cursor = "&cursor=" + page["next_cursor"] if page["next_cursor"] else None
    assert len(seen) == len(set(seen)) and seen.index(more[2].id) < seen.index(more[0].id) < seen.index(w.id)
    for x in [w, *more]:
        assert api.call("DELETE", x.path).status_code == 204
        assert api.call("GET", x.path).status_code == 404
        assert api.call("DELETE", x.path).status_code == 404


def test_files(api, ws):
    assert ws.tree() == []
    a = ws.put("src/deep/a.txt", "alpha")
    assert a["etag"] == hashlib.sha256(b"alpha").hexdigest() and a["size"] == 5
    assert [(e["path"], e["type"]) for e in ws.tree()] == [("src", "directory"), ("src/deep", "directory"), ("src/deep/a.txt", "file")]
    r = api.call("GET", f"/api/files/{a['id']}")
    assert r.json()["content"] == "alpha" and r.headers["ETag"] == f'"{a["etag"]}"'
    # The last write wins without If-Match; a stale one is refused.
    old = r.headers["ETag"]
    r = api.call("PUT", f"/api/files/{a['id']}", json={"content": "beta"}, headers={"If-Match": old})
    assert r.status_code == 200 and r.json()["etag"] == hashlib.sha256(b"beta").hexdigest()
    r = api.call("PUT", f"/api/files/{a['id']}", json={"content": "gamma"}, headers={"If-Match": old})
    assert r.status_code == 412 and r.json()["error"]["code"] == "stale"
    assert api.call("DELETE", f"/api/files/{a['id']}", headers={"If-Match": old}).status_code == 412
    for strange in ('"stale"', 'W/"x"', f'"x", {old}'):  # no tag that it could have
        assert api.call("DELETE", f"/api/files/{a['id']}", headers={"If-Match": strange}).status_code == 412
    assert api.call("PUT", f"/api/files/{a['id']}", json={"content_base64": base64.b64encode(b"\xff\0").decode()}).status_code == 200
    assert api.call("GET", f"/api/files/{a['id']}").json()["content_base64"] == "/wA="
    # What is there, is there.
    assert error_of(api.call("POST", ws.path + "/files", json={"path": "src/deep/a.txt", "content": ""})) == (409, "path")
    assert error_of(api.call("POST", ws.path + "/files", json={"path": "src/deep/a.txt/b", "content": ""})) == (409, "path")
    # A folder moves with all that is in it; parents are made.
    src = next(e for e in ws.tree() if e["path"] == "src")
    assert api.call("POST", f"/api/files/{src['id']}/move", json={"path": "src/x"}).status_code == 409
    r = api.call("POST", f"/api/files/{src['id']}/move", json={"path": "new \"q\\/lib"})
    assert r.status_code == 200, r.text
    assert [e["path"] for e in ws.tree()] == ["new \"q\\", "new \"q\\/lib", "new \"q\\/lib/deep", "new \"q\\/lib/deep/a.txt"]
    assert api.call("POST", ws.path + "/files", json={"path": "empty", "type": "directory"}).json()["etag"] is None
    assert api.call("DELETE", f"/api/files/{src['id']}").status_code == 204
    assert [e["path"] for e in ws.tree()] == ["empty", "new \"q\\"]
    assert api.call("GET", f"/api/files/{a['id']}").status_code == 404


def test_file_bounds(api, ws):
    big = "x" * (1 << 20)
    assert api.call("POST", ws.path + "/files", json={"path": "big", "content": big}).status_code == 201
    assert error_of(api.call("POST", ws.path + "/files", json={"path": "more", "content": big + "x"})) == (400, "content")
    assert api.call("GET", f"/api/files/{ws.tree()[0]['id']}").json()["content"] == big


def test_bad_input_names_the_field(api, ws):
    def post(path, body):
        return error_of(api.call("POST", path, json=body))

    assert post("/api/workspaces", {"name": "x", "template": "cobol"}) == (400, "template")
    assert post("/api/workspaces", {"name": "x", "template": "python", "y": 1}) == (400, "y")
    for path in ("/a", "a/../b", "a//b", "", "a\0b"):
        assert post(ws.path + "/files", {"path": path, "content": ""}) == (400, "path")
    assert post(ws.path + "/run", {}) == (400, "command")
    assert post(ws.path + "/run", {"command": "x", "pty": {"cols": 80}}) == (400, "pty.rows")
    assert post(ws.path + "/run", {"command": "x", "limits": {"cpu_ms": 0}}) == (400, "limits.cpu_ms")
    assert post(ws.path + "/run", {"command": "x", "limits": {"memory_mb": 64}}) == (400, "limits.memory_mb")
    assert post(ws.path + "/sandbox", {"size": "gpu"}) == (409, "size")
    assert error_of(api.call("PUT", "/api/files/" + ws.id, json={"content": ""}, headers={"If-Match": "x"})) == (400, "If-Match")
    assert error_of(api.call("GET", "/api/workspaces?limit=0")) == (400, "limit")
    assert api.call("GET", "/api/workspaces/none").status_code == 404
    assert api.call("POST", "/api/workspaces/none/run", json={"command": "x"}).status_code == 404


def test_idempotency(api, ws):
    def twice(method, path, body):
        headers = {"Idempotency-Key": os.urandom(8).hex()}
        a, b = (api.call(method, path, json=body, headers=headers) for _ in range(2))
        assert a.status_code == b.status_code, (a.text, b.text)
        assert api.call(method, path, json={**(body or {}), "zz": 1}, headers=headers).status_code in (400, 409)
        return a, b

    a, b = twice("POST", "/api/workspaces", {"name": "one", "template": "python"})
    assert a.json() == b.json()
    a, b = twice("POST", ws.path + "/files", {"path": "f", "content": "1"})
    assert a.json() == b.json() and len(ws.tree()) == 1
    a, b = twice("POST", ws.path + "/run", {"command": "true"})
    assert a.json()["process_id"] == b.json()["process_id"]
    file = ws.tree()[0]["id"]
    twice("PUT", f"/api/files/{file}", {"content": "2"})
    twice("POST", f"/api/files/{file}/move", {"path": "g"})
    headers = {"Idempotency-Key": "k" + file}
    assert api.call("DELETE", f"/api/files/{file}", headers=headers).status_code == 204
    assert api.call("DELETE", f"/api/files/{file}", headers=headers).status_code == 204
    assert api.call("PUT", ws.path, json={"name": "n"}, headers=headers).status_code == 409


def test_a_key_for_input_and_cancel(api, ws):
    """What a program was given, or told, under a key is not given again; what failed may be tried again."""
    run = ws.start("cat")
    path = f"/api/processes/{run['process_id']}"

    def ask(what, key, body=None):
        r = api.call("POST", f"{path}/{what}", json=body, headers={"Idempotency-Key": run["process_id"] + key})
        return r.status_code, r.json()["error"]["code"] if r.status_code >= 400 else None

    s = api.stream(run)
    s.until(lambda m: m["type"] == "status" and m["status"] == "running")
    assert [ask("input", "1", {"data": "one\n"}) for _ in range(3)] == [(204, None)] * 3
    assert ask("input", "1", {"data": "other\n"}) == (409, "idempotency_key_reused")
    assert ask("signal", "1", {"signal": "SIGCONT"}) == (409, "idempotency_key_reused")
    assert [ask("signal", "2", {"signal": "SIGCONT"}) for _ in range(2)] == [(204, None)] * 2
    assert [ask("input", "3", {"data": "two\n", "eof": True}) for _ in range(2)] == [(204, None)] * 2
    assert ws.wait(run)["verdict"] == "OK"
    assert ask("input", "3", {"data": "two\n", "eof": True}) == (204, None)  # it was given, whatever came then
    assert [ask("input", "4", {"data": "late\n"}) for _ in range(2)] == [(409, "not_running")] * 2
    assert [ask("cancel", "5")[0] for _ in range(2)] == [200] * 2
    assert ask("input", "5", {"data": ""}) == (409, "idempotency_key_reused")
    assert ws.output(run) == "one\ntwo\n"
    s.close()


def test_run_streams_and_the_sandbox_stays(api, ws):
    ws.put("main.py", "import sys\nprint('out', open('data/x').read())\nprint('err', file=sys.stderr)\n")
    ws.put("data/x", "one")
    run = ws.start("python3 main.py && echo kept > made-inside && pwd")
    s = api.stream(run)
    end = s.until_end()
    assert (end["status"], end["verdict"], end["exit_code"]) == ("completed", "OK", 0)
    assert s.text("stdout") == "out one\n/workspace\n" and s.text("stderr") == "err\n"
    assert api.call("GET", ws.path).json()["sandbox_id"] == run["sandbox_id"]
    # The same sandbox, with what was written to its disk and in /tmp; the changed file is there, the deleted one is not.
    ws.put("data/x", "two")
    ws.put("data/y", "new")
    second = ws.start(["sh", "-c", "cat made-inside data/x data/y; ls"])
    assert second["sandbox_id"] == run["sandbox_id"]
    assert ws.wait(second)["verdict"] == "OK"
    assert ws.output(second) == "kept\ntwonewdata\nmade-inside\nmain.py\n"
    for e in ws.tree():
        if e["path"] == "data":
            assert api.call("DELETE", f"/api/files/{e['id']}").status_code == 204
    # What a program changes becomes the file of record; the next change of that is seen.
    end, out, _ = ws.run("ls; echo 'print(5)' > main.py")
    assert out == "made-inside\nmain.py\n"
    assert ws.run("python3 main.py")[1] == "5\n"
    ws.put("main.py", "print(6)")
    assert ws.run("python3 main.py")[1] == "6\n"
    r = api.call("POST", ws.path + "/sandbox").json()
    assert r["sandbox_id"] == run["sandbox_id"] and r["status"] == "idle"
    assert api.stream(r).until_end()


def test_words_of_a_run(ws):
    ws.put("d/f", "x")
    end, out, _ = ws.run("pwd; echo $A; exit 3", cwd="d", env={"A": "b c"})
    assert out == "/workspace/d\nb c\n" and (end["verdict"], end["exit_code"]) == ("EXIT_CODE", 3)
    end, _, err = ws.run(["no-such-program"])
    assert (end["exit_code"], err) == (127, "no-such-program: No such file or directory\n")
    end, _, err = ws.run("true", cwd="not/there")
    assert end["verdict"] == "EXIT_CODE" and "not/there" in err
    assert ws.run("kill -SEGV $$")[0]["signal"] == "SIGSEGV"
    # What it leaves behind in its group ends with it; the sandbox does not.
    end, out, _ = ws.run("sleep 1000 & echo $!")
    assert ws.run(f"kill -0 {out.strip()} 2>/dev/null && echo lives || echo gone")[1] == "gone\n"


def test_limits_only_where_given(ws):
    assert ws.run("sleep 30", limits={"wall_ms": 500})[0]["verdict"] == "WALL_LIMIT"
    assert ws.run("while :; do :; done", limits={"cpu_ms": 500})[0]["verdict"] == "TIME_LIMIT"
    assert ws.run("echo ok")[1] == "ok\n"


def test_side_by_side_with_input(api, ws):
    ws.put("main.py", "import sys\nfor line in sys.stdin:\n    print(sys.argv[1], line.strip(), flush=True)\nprint('end')\n")
    a, b = (ws.start(["python3", "main.py", name]) for name in "ab")
    assert a["sandbox_id"] == b["sandbox_id"]
    s = api.stream(a)
    for run, name in ((a, "a"), (b, "b")):
        ws.give(run, f"to {name}\n")
    wanted = {a["process_id"]: "a to a\n", b["process_id"]: "b to b\n"}
    said = dict.fromkeys(wanted, "")
    while any(len(said[p]) < len(wanted[p]) for p in wanted):  # a line may come in pieces
        m = s.next()
        if m["type"] == "output":
            said[m["process_id"]] += m["data"]
    assert said == wanted
    # Cancelling one leaves the other alone.
    assert api.call("POST", f"/api/processes/{a['process_id']}/cancel").status_code == 202
    assert ws.wait(a)["verdict"] == "CANCELLED"
    assert ws.input(b, "more\n", eof=True).status_code == 204
    assert ws.wait(b)["verdict"] == "OK"
    assert ws.output(b) == "b to b\nb more\nend\n"
    assert ws.input(b, "late").status_code == 409
    assert api.call("POST", f"/api/processes/{b['process_id']}/cancel").status_code == 200


def test_deleting_ends_what_runs(api):
    w = Workspace(api)
    run = w.start("echo up; sleep 1000")
    api.stream(run).until_output("up\n")
    assert api.call("DELETE", w.path).status_code == 204
    assert w.wait(run)["verdict"] == "CANCELLED"


def test_another_users_is_not_there(devbox, api, ws):
    key = "stranger-" + os.urandom(12).hex()
    file = ws.put("f", "x")
    run = ws.start("true")
    add_user(devbox, key)
    other = devbox.client(key=key)
    assert other.call("GET", "/api/workspaces").json()["items"] == []
    for method, path, body in [("GET", ws.path, None), ("PUT", ws.path, {"name": "x"}), ("DELETE", ws.path, None),
                               ("GET", ws.path + "/files", None), ("POST", ws.path + "/files", {"path": "p", "content": ""}),
                               ("POST", ws.path + "/run", {"command": "true"}), ("POST", ws.path + "/sandbox", {}),
                               ("GET", f"/api/files/{file['id']}", None), ("PUT", f"/api/files/{file['id']}", {"content": ""}),
                               ("DELETE", f"/api/files/{file['id']}", None), ("POST", f"/api/files/{file['id']}/move", {"path": "q"}),
                               ("GET", f"/api/processes/{run['process_id']}", None),
                               ("POST", f"/api/processes/{run['process_id']}/input", {"data": "x"}),
                               ("POST", f"/api/processes/{run['process_id']}/cancel", None)]:
        assert other.call(method, path, json=body).status_code == 404, (method, path)
    assert ws.tree()[0]["etag"] == file["etag"]


def add_user(devbox, key):
    """People come with a later issue: a row by hand."""
    args = pathlib.Path(f"/proc/{devbox.daemons('scheduler')[0]['pid']}/cmdline").read_text().split("\0")
    conninfo = next(a for a in args if a.startswith("--database=")).split("=", 1)[1]
    sql = f"""with u as (insert into users (id, email) values (gen_random_uuid(), '{key}') returning id)
              insert into api_keys (id, user_id, hash) select gen_random_uuid(), id, '\\x{hashlib.sha256(key.encode()).hexdigest()}' from u"""
    subprocess.run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", conninfo, "-c", sql], check=True, capture_output=True)


def test_idle_and_lost(own_devbox):
    """A sandbox that is not used ends; one whose node is lost is replaced, with the files of record."""
    own_devbox.env["DEVBOX_GATEWAY_WORKSPACE_IDLE_MS"] = "1500"
    own_devbox.up()
    api = own_devbox.client()
    w = Workspace(api)
    w.put("f", "of record")
    first = w.start("echo x > /tmp/inside; sleep 3; echo there; read x")  # longer than the idle time: it is used
    api.stream(first).until_output("there\n")
    assert w.start("true")["sandbox_id"] == first["sandbox_id"]
    w.give(first, "\n")
    assert w.wait(first)["verdict"] == "OK"
    deadline = time.monotonic() + 60
    while api.call("GET", w.path).json()["sandbox_id"] is not None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    end, out, _ = w.run("ls; cat f")
    assert out == "f\nof record"
    assert api.call("GET", w.path).json()["sandbox_id"] != first["sandbox_id"]
    lost = w.start("echo up; sleep 1000")
    api.stream(lost).until_output("up\n")
    os.kill(own_devbox.daemons("shim-keeper")[0]["pid"], signal.SIGKILL)
    end = w.wait(lost, timeout=60)
    assert (end["status"], end["verdict"]) == ("failed", "NODE_LOST")
    again = w.start("ls; cat f")
    assert again["sandbox_id"] != lost["sandbox_id"]
    end = w.wait(again)
    assert end["verdict"] == "OK", end
    assert w.output(again) == "f\nof record"


def test_input_in_the_instant_of_a_start(ws):
    """What is typed before the stream has heard of the program is its input all the same."""
    stream = ws.api.stream(ws.start("sleep 60"))
    for i in range(10):
        run = ws.start("cat") if i % 2 else ws.start("head -n 1")
        stream.send(type="input", process_id=run["process_id"], data=f"line {i}\n")
        stream.send(type="eof", process_id=run["process_id"])
        end = ws.wait(run)
        assert (end["verdict"], ws.output(run)) == ("OK", f"line {i}\n"), stream.seen
    assert not [m for m in stream.seen if m["type"] == "error"]


def test_input_for_another_sandbox_by_ones_own_stream(ws):
    other = Workspace(ws.api)
    stream = ws.api.stream(ws.start("sleep 60"))
    run = other.start("head -n 1")
    for process in (run["process_id"], str(uuid.uuid4())):
        for message in ({"type": "input", "data": "stolen\n"}, {"type": "eof"}, {"type": "resize", "cols": 9, "rows": 9}):
            stream.send(process_id=process, **message)
            m = stream.until(lambda m: m["type"] == "error")
            assert (m["code"], m["process_id"]) == ("unknown_process", process)
    ws.give(run, "mine\n")
    other.wait(run)
    assert other.output(run) == "mine\n"
    other.api.call("DELETE", other.path)
