# SPDX-License-Identifier: Apache-2.0
"""The gateway alone: real PostgreSQL and the real file log; the scheduler, a node and the writer of the log are scripted."""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import queue
import signal
import socket
import struct
import subprocess
import threading
import time
import uuid

import pytest
import requests
import websocket
import yaml

from client import Client, Stream
from link_peer import Keyring, Listener
from pg_fixture import Postgres

ROOT = pathlib.Path(__file__).resolve().parents[2]
KEY = "gateway-test-admin-key-0123456789"
OUT, ERR, STATUS, END, GAP = 1, 2, 4, 5, 6
USAGE = {"queued_ms": 1, "start_ms": 2, "wall_ms": 3, "cpu_ms": 4, "memory_peak_bytes": 5, "output_bytes": 6, "disk_bytes": 7}


def find_bin():
    for d in [os.environ.get("DEVBOX_BIN"), ROOT / "build/asan/bin", ROOT / "build/release/bin", ROOT / "build/dev/bin"]:
        if d and (pathlib.Path(d) / "devbox-gateway").exists():
            return pathlib.Path(d)
    pytest.skip("the gateway is not built (DEVBOX_BIN)")


def outcome(verdict="OK", exit_code=0, signo=None, out=0, err=0):
    return {"verdict": verdict, "exit_code": exit_code, "signal": signo, "stdout_bytes": out, "stderr_bytes": err, "usage": USAGE}


class Log:
    """The shim's side of the output log."""

    def __init__(self, program, folder):
        self.proc = subprocess.Popen([program, f"file:{folder}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def append(self, sandbox, record):
        self.proc.stdin.write(f"{sandbox} {record.hex()}\n")
        self.proc.stdin.flush()
        offset = int(self.proc.stdout.readline())
        assert offset >= 0
        return offset

    def close(self):
        self.proc.stdin.close()
        assert self.proc.wait(60) == 0


class Program:
    """What a node would write and say of one process."""

    def __init__(self, world, accepted):
        self.world, self.pid, self.sandbox = world, accepted["process_id"], accepted["sandbox_id"]
        self.seq, self.at = 0, {}

    def record(self, kind, data=b"", compile=False, offset=0):
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
        head = struct.pack("<BBBBIQq16sQ", 0xDB, 1, kind, 1 if compile else 0, len(data), self.seq, time.time_ns() // 1000,
                           uuid.UUID(self.pid).bytes, offset)
        self.seq += 1
        return head + data

    def append(self, record):
        return self.world.log.append(self.sandbox, record)

    def phase(self, name):
        self.append(self.record(STATUS, {"status": "running", "phase": name}, name == "compile"))

    def write(self, data, kind=OUT, compile=False):
        at = self.at.get((kind, compile), 0)
        self.at[kind, compile] = at + len(data)
        record = self.record(kind, data, compile, at)
        self.append(record)
        return record

    def started(self):
        self.world.pg.sql(f"update processes set status = 'running', started_at = now() where id = '{self.pid}'")
        self.world.push(op="started", process_id=self.pid, sandbox_id=self.sandbox, node_id="n", url=self.world.node_url)

    def end(self, status="completed", verdict="OK", run=None, compile=None, record=True, push=True):
        body = {"compile": compile, "run": run, "status": status, "verdict": verdict, "sha256": {}}
        if record:
            self.append(self.record(END, body))
        text = json.dumps(body).replace("'", "''") if record else None
        self.world.pg.sql(f"update processes set status = '{status}', verdict = '{verdict}', ended_at = now(), "
                          f"outcome = {repr(text) if text else 'null'} where id = '{self.pid}'")
        if push:
            self.world.push(op="ended", process_id=self.pid, sandbox_id=self.sandbox, status=status, verdict=verdict,
                            outcome=body if record else None)


class World:
    def __init__(self, tmp, *options):
        """options: of every gateway"""
        self.tmp, self.bin, self.options = tmp, find_bin(), options
        self.pg = Postgres()
        for f in sorted((ROOT / "common/proto/schema").glob("*.sql")):
            self.pg.sql(f.read_text())
        self.keys = Keyring(tmp / "keys")
        (tmp / "admin").write_text(KEY + "\n")
        (tmp / "templates").mkdir()
        for name in ("python", "go"):
            (tmp / f"templates/{name}.json").write_text(json.dumps(
                {"name": name, "title": name.title(), "order": 1, "extensions": ["py"], "entries": [{"file": "main.py", "run": ["x"]}]}))
        (tmp / "log").mkdir()
        self.log = Log(self.bin / "test_gateway_log_writer", tmp / "log")
        self.placed, self.cancels, self.inputs = {}, [], []
        self.changed = threading.Condition()
        self.script = {}  # op -> answer, when it is not the usual
        self.scheduler = Listener(self.on_scheduler)
        self.node = Listener(self.on_node)
        self.node_url = f"http://127.0.0.1:{self.node.port}"
        self.gateways = []
        self.url = self.gateway()
        self.api = Client(self.url, KEY)

    def gateway(self, *extra):
        proc = subprocess.Popen(
            [self.bin / "devbox-gateway", "--listen=127.0.0.1:0", f"--database={self.pg.conninfo}",
             f"--scheduler=ws://127.0.0.1:{self.scheduler.port}/gateway", f"--keys={self.tmp}/keys",
             f"--output-log=file:{self.tmp}/log", f"--templates-dir={self.tmp}/templates", f"--admin-key-file={self.tmp}/admin",
             *self.options, *extra],
            stderr=subprocess.PIPE, text=True)
        seen = []
        port = None
        for line in proc.stderr:
            seen.append(line)
            if "serving on port" in line:
                port = int(line.split("serving on port")[1].split('"')[0])
                break
        assert port, "".join(seen)
        errors = []
        threading.Thread(target=lambda: errors.extend(proc.stderr), daemon=True).start()
        self.gateways.append((proc, errors))
        url = f"http://127.0.0.1:{port}"
        self.until(lambda: requests.get(url + "/readyz", timeout=60).status_code == 200)
        return url

    def until(self, what, timeout=60):
        deadline = time.monotonic() + timeout
        while not what():
            assert time.monotonic() < deadline, "timed out"
            time.sleep(0.01)

    def on_scheduler(self, header, blob):
        with self.changed:
            if header["op"] == "place":
                self.placed[header["process_id"]] = (header, blob)
            elif header["op"] == "cancel":
                self.cancels.append(header["process_id"])
            self.changed.notify_all()
        if header["op"] in self.script:
            return self.script[header["op"]](header)
        return {"place": {"ok": True, "state": "placed"}, "cancel": {"ok": True}, "end_sandbox": {"ok": True}, "batch": {"ok": True}, "keep": None, "standby": None,
                "where": {"ok": True, "status": "running", "node_id": "n", "url": self.node_url}}[header["op"]]

    def on_node(self, header, blob):
        if header["op"] in self.script:
            answer = self.script[header["op"]](header)
            if answer:
                return answer
        with self.changed:
            self.inputs.append((header["op"], header["process_id"], blob))
            self.changed.notify_all()
        return {"ok": True}

    def wait(self, what):
        with self.changed:
            assert self.changed.wait_for(what, 60), "timed out"

    def push(self, **header):
        for peer in list(self.scheduler.open):
            if not peer.closed.is_set():
                try:
                    peer.send(header)
                except OSError:
                    pass

    def start(self, **fields):
        accepted = self.api.start("python", {"main.py": "x"}, **fields)
        self.wait(lambda: accepted["process_id"] in self.placed)
        return Program(self, accepted), accepted

    def token(self, sandbox, role=3, lifetime=600, key=None):
        payload = struct.pack("<BBBBq16s16s", 1, 1, role, 0, int(time.time()) + lifetime, uuid.UUID(sandbox).bytes,
                              uuid.UUID(self.pg.sql("select id from users where email = 'admin'")[0][0]).bytes)
        signed = b"dbx1." + base64.urlsafe_b64encode(payload).rstrip(b"=")
        mac = hmac.new(key or self.keys.key, signed, hashlib.sha256).digest()
        return (signed + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()

    def user(self, key):
        user = str(uuid.uuid4())
        digest = hashlib.sha256(key.encode()).hexdigest()
        self.pg.sql(f"insert into users (id) values ('{user}'); insert into api_keys (id, user_id, hash) "
                    f"values ('{uuid.uuid4()}', '{user}', '\\x{digest}')")
        return Client(self.url, key)

    def close(self):
        for proc, errors in self.gateways:
            if proc.poll() is None:
                proc.send_signal(signal.SIGTERM)
            assert proc.wait(60) == 0, "".join(errors)[-4000:]
        self.scheduler.close()
        self.node.close()
        self.log.close()
        self.pg.close()


@pytest.fixture(scope="module")
def w(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("gateway"))
    yield world
    world.close()


@pytest.fixture(autouse=True)
def usual(w):
    yield
    w.script.clear()


def in_background(fn):
    box = []
    t = threading.Thread(target=lambda: box.append(fn()))
    t.start()
    return lambda: (t.join(120), box[0])[1]


# --- REST ---

def test_accept(w):
    r = w.api.submit("python", {"main.py": "print(1)", "d/x": "y"}, stdin="in", env={"A": "b"}, command=["a"], limits={"cpu_ms": 7})
    a = r.json()
    assert r.status_code == 202 and set(a) == {"id", "process_id", "sandbox_id", "stream_token", "status"} and a["status"] == "pending"
    w.wait(lambda: a["process_id"] in w.placed)
    header, blob = w.placed[a["process_id"]]
    assert header["sandbox_id"] == a["sandbox_id"] and header["trace"].startswith("00-")
    request = header["request"]
    assert request["limits"]["cpu_ms"] == 7 and request["env"] == {"A": "b"} and request["stdin_open"] is False
    assert blob[:4] == b"DBXF" and blob[header["files_len"]:] == b"in"
    stored = w.pg.sql(f"select request, log_offset, trace from processes where id = '{a['process_id']}'")[0]
    assert json.loads(stored[0]) == request and stored[2] == header["trace"]
    got = w.api.call("GET", f"/api/executions/{a['id']}").json()
    assert got["status"] == "pending" and got["verdict"] is None and got["stream_token"]
    assert w.placed[w.start()[0].pid][0]["request"]["stdin_open"] is True  # posted without stdin: more may come


def test_headers(w):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    r = w.api.call("POST", "/api/executions", json={"template": "python", "files": []}, headers={"X-Request-Id": "abc-1", "traceparent": trace})
    assert r.headers["X-Request-Id"] == "abc-1" and r.headers["DevBox-API-Version"] == "1"
    assert r.headers["X-Content-Type-Options"] == "nosniff" and r.headers["Cache-Control"] == "no-store"
    assert "frame-ancestors 'none'" in r.headers["Content-Security-Policy"] and r.headers["Referrer-Policy"] == "no-referrer"
    w.wait(lambda: r.json()["process_id"] in w.placed)
    assert w.placed[r.json()["process_id"]][0]["trace"].split("-")[1] == trace.split("-")[1]
    r = w.api.call("PATCH", "/api/executions")
    assert r.status_code == 405 and r.headers["Allow"] == "POST, GET" and r.json()["error"]["code"] == "method_not_allowed"
    r = w.api.call("GET", "/api/none")
    assert r.status_code == 404 and set(r.json()["error"]) == {"type", "code", "message", "field", "request_id"}
    r = requests.get(w.url + "/api/executions", timeout=60)
    assert r.status_code == 401 and r.headers["WWW-Authenticate"].startswith("Bearer")
    r = w.api.call("POST", "/api/executions", data=b"x" * (9 << 20))
    assert r.status_code == 413 and r.json()["error"]["request_id"] == r.headers["X-Request-Id"]
    r = w.api.call("POST", "/api/executions?wait=maybe", json={"template": "python", "files": []})
    assert r.status_code == 400 and r.json()["error"]["field"] == "wait"


def test_small_routes(w):
    assert w.api.call("GET", "/api/templates").json()["items"][0]["name"] in ("go", "python")
    assert w.api.call("GET", "/api/version").json()["version"]
    assert requests.get(w.url + "/healthz", timeout=60).text == "ok\n"
    text = requests.get(w.url + "/metrics", timeout=60).text
    assert "devbox_gateway_requests_total" in text and "devbox_gateway_request_seconds_bucket" in text
    assert requests.get(w.url + "/", timeout=60).status_code == 404  # no IDE


def test_the_ide_is_served(w):
    ide = pathlib.Path(w.tmp) / "ide"
    (ide / "assets").mkdir(parents=True)
    for name, text in {"index.html": "<html>", "icon.svg": "<svg/>", "assets/a-1.js": "let a = 1", "assets/a-1.js.br": "packed", "secret": "x"}.items():
        (ide / name).write_text(text)
    url = w.gateway(f"--ide-dir={ide}")

    def get(path, **headers):
        request = requests.Request("GET", url + path, headers={"Accept-Encoding": "identity", **headers}).prepare()
        request.url = url + path  # as it stands, dots and all
        return requests.Session().send(request, timeout=60)

    for path in ("/", "/w/some-id", "/recover"):
        r = get(path)
        assert r.status_code == 200 and r.text == "<html>" and r.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "script-src 'self';" in r.headers["Content-Security-Policy"] and "frame-ancestors 'none'" in r.headers["Content-Security-Policy"]
        assert r.headers["Cache-Control"] == "no-cache"
        assert get(path, **{"If-None-Match": r.headers["ETag"]}).status_code == 304
    for path in ("/s/" + "x" * 22, "/s/x"):  # a link that is none: words for a browser, and an error for a program
        r = get(path, Accept="text/html,*/*")
        assert r.status_code == 404 and r.text == "<html>" and "script-src 'self';" in r.headers["Content-Security-Policy"]
        assert get(path).json()["error"]["code"] == "not_found"
    r = get("/assets/a-1.js")
    assert r.text == "let a = 1" and "immutable" in r.headers["Cache-Control"] and "Content-Encoding" not in r.headers
    assert r.headers["X-Content-Type-Options"] == "nosniff" and r.headers["Vary"] == "Accept-Encoding"
    packed = requests.get(url + "/assets/a-1.js", headers={"Accept-Encoding": "gzip, br"}, stream=True, timeout=60)
    assert packed.headers["Content-Encoding"] == "br" and packed.raw.read(decode_content=False) == b"packed"
    assert packed.headers["ETag"] != r.headers["ETag"]
    assert get("/icon.svg").headers["Content-Type"] == "image/svg+xml"
    for path in ("/secret", "/assets/../icon.svg", "/assets/%2e%2e/icon.svg", "/assets/", "/assets/a-1.js.br", "/index.html", "/assets/..%2ficon.svg"):
        assert get(path).status_code == 404, path


def run_to_end(w, script, **fields):
    """POST ?wait=true, played by script(program); the result."""
    mark = uuid.uuid4().hex
    answer = in_background(lambda: w.api.submit("python", {"main.py": "x"}, wait=True, env={"MARK": mark}, **fields))

    def mine():
        return [h for h, _ in w.placed.values() if h["request"]["env"].get("MARK") == mark]
    w.wait(mine)
    header = mine()[0]
    assert header["request"]["stdin_open"] is False
    p = Program(w, header)
    script(p)
    r = answer()
    assert r.status_code == 200, r.text
    return r.json(), p


def test_wait(w):
    def script(p):
        p.started()
        p.phase("run")
        p.write(b"hel")
        p.write(b"lo\n")
        p.write(b"oops\n", ERR)
        p.end("completed", "EXIT_CODE", outcome("EXIT_CODE", 3, out=6, err=5))
    result, p = run_to_end(w, script)
    assert set(result) == {"id", "status", "verdict", "exit_code", "signal", "stdout", "stderr", "truncated", "compile", "usage"}
    assert (result["status"], result["verdict"], result["exit_code"], result["signal"]) == ("completed", "EXIT_CODE", 3, None)
    assert (result["stdout"], result["stderr"], result["truncated"], result["compile"]) == ("hello\n", "oops\n", False, None)
    assert result["usage"] == USAGE
    again = w.api.call("GET", f"/api/executions/{result['id']}").json()
    assert {k: again[k] for k in result} == result and again["stream_token"]
    process = w.api.call("GET", f"/api/processes/{p.pid}").json()
    assert process["execution_id"] == result["id"] and process["exit_code"] == 3


def test_wait_compile_error_and_bytes(w):
    def script(p):
        p.started()
        p.phase("compile")
        p.write(b"bad \xff", ERR, compile=True)
        p.end("failed", "COMPILE_ERROR", None, outcome("EXIT_CODE", 1, err=5))
    result, _ = run_to_end(w, script)
    assert (result["status"], result["verdict"], result["exit_code"], result["stdout"]) == ("failed", "COMPILE_ERROR", None, "")
    c = result["compile"]
    assert (c["verdict"], c["exit_code"], c["stderr_encoding"], c["stdout"]) == ("EXIT_CODE", 1, "base64", "")
    assert base64.b64decode(c["stderr"]) == b"bad \xff" and "stdout_encoding" not in c


def test_wait_ends_by_the_row(w):
    """No END record: never started, or its node was lost after some output."""
    result, _ = run_to_end(w, lambda p: p.end("cancelled", "CANCELLED", record=False))
    assert (result["status"], result["verdict"], result["stdout"], result["usage"]["wall_ms"]) == ("cancelled", "CANCELLED", "", 0)

    def lost(p):
        p.started()
        p.write(b"some")
        p.end("failed", "NODE_LOST", record=False)
    result, p = run_to_end(w, lost)
    assert (result["verdict"], result["stdout"]) == ("NODE_LOST", "some")
    # Without the push, too: the row is read again.
    result, _ = run_to_end(w, lambda p: p.end("failed", "NODE_LOST", record=False, push=False))
    assert result["verdict"] == "NODE_LOST"


def test_an_attempt_that_was_lost_is_not_the_end(w):
    def script(p):
        p.started()
        p.phase("run")
        p.write(b"one")
        p.append(p.record(END, {"status": "failed", "verdict": "NODE_LOST"}))
        second = Program(w, {"process_id": p.pid, "sandbox_id": p.sandbox})
        second.phase("run")
        second.write(b"one")
        second.write(b" two")
        second.end(run=outcome(out=7))
    result, _ = run_to_end(w, script)
    assert (result["verdict"], result["stdout"]) == ("OK", "one two")


def test_wait_truncates(w):
    text = "ä" * 700000
    def script(p):
        p.started()
        for i in range(0, 1400000, 60001):
            p.write(text.encode()[i:i + 60001])
        p.end(run=outcome(out=1400000))
    result, p = run_to_end(w, script)
    assert result["truncated"] is True and result["stdout"] == "ä" * (1 << 19)
    r = w.api.call("GET", f"/api/executions/{result['id']}/output?stream=stdout&from=1048577")
    assert r.content == text.encode()[1048577:] and r.headers["X-Next-Offset"] == "1400000"


def test_output(w):
    p, a = w.start()
    url = f"/api/executions/{a['id']}/output"
    r = w.api.call("GET", url + "?stream=stdout")
    assert (r.status_code, r.content, r.headers["X-Next-Offset"]) == (200, b"", "0")
    p.phase("compile")
    p.write(b"cc", compile=True)
    p.phase("run")
    p.write(b"0123")
    p.write(b"E", ERR)
    p.write(b"4567")
    for query, content, offset in (("stream=stdout", b"01234567", 8), ("stream=stdout&from=3", b"34567", 8), ("stream=stderr", b"E", 1),
                                   ("stream=stdout&phase=compile", b"cc", 2), ("stream=pty", b"", 0), ("stream=stdout&from=99", b"", 99)):
        r = w.api.call("GET", f"{url}?{query}")
        assert (r.content, r.headers["X-Next-Offset"]) == (content, str(offset)), query
    assert w.api.call("GET", f"/api/processes/{p.pid}/output?stream=stdout").content == b"01234567"
    for query, field in (("stream=x", "stream"), ("stream=stdout&from=-1", "from"), ("stream=stdout&phase=x", "phase")):
        r = w.api.call("GET", f"{url}?{query}")
        assert r.status_code == 400 and r.json()["error"]["field"] == field


def test_idempotency(w):
    body = {"template": "python", "files": [{"path": "main.py", "content": "1"}]}
    headers = {"Idempotency-Key": "k1"}
    answers = [in_background(lambda: w.api.call("POST", "/api/executions", json=body, headers=headers)) for _ in range(8)]
    answers = [a() for a in answers]
    assert {r.status_code for r in answers} == {202} and len({r.text for r in answers}) == 1
    assert w.pg.sql(f"select count(*) from processes where execution_id = '{answers[0].json()['id']}'") == [["1"]]
    r = w.api.call("POST", "/api/executions", json={**body, "stdin": ""}, headers=headers)
    assert r.status_code == 409 and r.json()["error"]["code"] == "idempotency_key_reused"
    p = Program(w, answers[0].json())
    p.write(b"x")
    p.end(run=outcome(out=1))
    r = w.api.call("POST", "/api/executions?wait=true", json=body, headers=headers)
    assert r.status_code == 200 and r.json()["stdout"] == "x" and r.json()["id"] == answers[0].json()["id"]
    for key in ("", "x" * 201, "a\x01b"):
        r = w.api.call("POST", "/api/executions", json=body, headers={"Idempotency-Key": key})
        assert r.status_code == 400 and (not r.json()["error"]["field"] or r.json()["error"]["field"] == "Idempotency-Key")


def test_owners(w):
    p, a = w.start()
    other = w.user("another-key-0123456789")
    for method, path in (("GET", f"/api/executions/{a['id']}"), ("DELETE", f"/api/executions/{a['id']}"),
                         ("GET", f"/api/executions/{a['id']}/output?stream=stdout"), ("GET", f"/api/processes/{p.pid}"),
                         ("GET", f"/api/processes/{p.pid}/output?stream=stdout")):
        theirs = other.call(method, path)
        missing = other.call(method, path.replace(a["id"], str(uuid.uuid4())).replace(p.pid, str(uuid.uuid4())))
        assert theirs.status_code == missing.status_code == 404
        assert {**theirs.json()["error"], "request_id": 0} == {**missing.json()["error"], "request_id": 0}
    b = other.start("python", {})
    assert w.api.call("GET", f"/api/executions/{b['id']}").status_code == 200  # the administrator sees all
    assert not w.cancels or w.cancels[-1] != p.pid


def test_list(w):
    client = w.user("list-key-0123456789-x")
    ids = [client.start("python", {})["id"] for _ in range(5)]
    got, cursor = [], ""
    while True:
        r = client.call("GET", f"/api/executions?limit=2{cursor}").json()
        got += [i["id"] for i in r["items"]]
        if not r["next_cursor"]:
            break
        cursor = "&cursor=" + r["next_cursor"]
    assert got == ids[::-1]
    for query, field in (("limit=0", "limit"), ("limit=x", "limit"), ("cursor=x", "cursor"), ("cursor=1.x", "cursor")):
        r = client.call("GET", "/api/executions?" + query)
        assert r.status_code == 400 and r.json()["error"]["field"] == field


def test_cancel(w):
    p, a = w.start()
    r = w.api.call("DELETE", f"/api/executions/{a['id']}")
    assert r.status_code == 202 and r.json()["status"] == "pending" and w.cancels[-1] == p.pid
    p.end("cancelled", "CANCELLED", record=False)
    n = len(w.cancels)
    r = w.api.call("DELETE", f"/api/executions/{a['id']}")
    assert r.status_code == 200 and r.json()["verdict"] == "CANCELLED" and len(w.cancels) == n
    p, a = w.start()
    w.script["cancel"] = lambda h: {"error": {"kind": "unavail", "field": "", "message": "not the leader"}}
    r = w.api.call("DELETE", f"/api/executions/{a['id']}")
    assert r.status_code == 503 and r.headers["Retry-After"]


# --- docs/openapi.yaml against the server ---

DOC = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())
TYPES = {"string": str, "integer": int, "object": dict, "array": list, "boolean": bool, "null": type(None)}


def breaches(value, schema, at="$"):
    """What of a value is not as a schema says: the part of JSON Schema that the document uses."""
    if "$ref" in schema:
        schema = DOC["components"]["schemas"][schema["$ref"].split("/")[-1]]
    kinds = schema.get("type", [])
    kinds = kinds if isinstance(kinds, list) else [kinds]
    bad = []
    if kinds and not any(isinstance(value, TYPES[k]) and not (k == "integer" and isinstance(value, bool)) for k in kinds):
        return [f"{at}: {value!r} is no {kinds}"]
    if "enum" in schema and value not in schema["enum"]:
        bad.append(f"{at}: {value!r} is not in {schema['enum']}")
    for key in schema.get("required", []):
        bad += [] if key in value else [f"{at}.{key} is missing"]
    for key, sub in schema.get("properties", {}).items():
        if isinstance(value, dict) and key in value:
            bad += breaches(value[key], sub, f"{at}.{key}")
    for i, item in enumerate(value if "items" in schema and value else []):
        bad += breaches(item, schema["items"], f"{at}[{i}]")
    for sub in schema.get("allOf", []):
        bad += breaches(value, sub, at)
    if "anyOf" in schema and all(breaches(value, sub, at) for sub in schema["anyOf"]):
        bad.append(f"{at}: {value!r} is none of {schema['anyOf']}")
    return bad


def conforms(r, path, method="get"):
    content = DOC["paths"][path][method]["responses"][str(r.status_code)]
    while "$ref" in content:
        content = DOC["components"]["responses"][content["$ref"].split("/")[-1]]
    bad = breaches(r.json(), content["content"]["application/json"]["schema"])
    assert not bad, bad


def test_openapi(w):
    one = "/api/executions/{id}"
    p, a = w.start()
    conforms(w.api.submit("python", {}), "/api/executions", "post")
    conforms(w.api.submit("none", {}), "/api/executions", "post")
    conforms(w.api.call("GET", f"/api/executions/{a['id']}"), one)
    conforms(w.api.call("DELETE", f"/api/executions/{a['id']}"), one, "delete")
    p.phase("compile")
    p.write(b"\xff", compile=True)
    p.end("failed", "COMPILE_ERROR", None, outcome("EXIT_CODE", 1, out=1))
    for path, method, url in ((one, "get", a["id"]), (one, "delete", a["id"]), (one, "get", uuid.uuid4()),
                              ("/api/processes/{id}", "get", p.pid)):
        conforms(w.api.call(method.upper(), path.replace("{id}", str(url))), path, method)
    result, _ = run_to_end(w, lambda p: p.end("completed", "SIGNAL", outcome("SIGNAL", None, 11)))
    assert result["signal"] == "SIGSEGV" and not breaches(result, DOC["components"]["schemas"]["Result"])
    for path in ("/api/executions", "/api/templates", "/api/version", "/readyz"):
        conforms(w.api.call("GET", path), path)
    conforms(requests.get(w.url + "/api/executions", timeout=60), "/api/executions")
    for example in DOC["components"]["examples"].values():
        assert not breaches(example["value"], DOC["components"]["schemas"]["Result"])


def test_every_documented_route_is_there(w):
    for path, methods in DOC["paths"].items():
        if path.startswith("/api/stream"):
            continue
        for method in ("get", "post", "put", "patch", "delete"):
            r = w.api.call(method.upper(), path.replace("{id}", "x"))
            assert (r.status_code == 405) == (method not in methods), (method, path)


# --- the stream ---

def test_stream_replay_and_live(w):
    p, a = w.start()
    p.started()
    p.phase("compile")
    p.write(b"warn\n", ERR, compile=True)
    p.phase("run")
    p.write("grü".encode()[:-1])
    s = w.api.stream(a)
    s.until_output("gr", "stdout")
    p.write("ü\n".encode()[1:])
    p.write(b"\xff\xfe", ERR)
    s.until_output("grü\n", "stdout")
    p.end(run=outcome(out=5, err=2), compile=outcome(err=5))
    end = s.until_end()
    kinds = [(m["type"], m.get("phase"), m.get("stream")) for m in s.seen]
    assert kinds[:3] == [("status", "compile", None), ("output", "compile", "stderr"), ("status", "run", None)]
    assert s.output("stderr") == b"\xff\xfe" and s.text("stderr", "compile") == "warn\n"
    assert end["usage"]["wall_ms"] == 3 and end["compile"]["verdict"] == "OK" and end["signal"] is None
    ids = [m["id"] for m in s.seen if m["type"] == "output"]
    assert ids == sorted(ids) and len(set(ids)) == len(ids)
    late = w.api.stream(a)
    late.until_end()
    assert (late.output("stdout"), late.output("stderr")) == (s.output("stdout"), s.output("stderr"))
    assert [m["type"] for m in late.seen].count("status") == 3


def test_resume_everywhere(w):
    """From every id, at another gateway, exactly what came later; and within a connection."""
    p, a = w.start()
    p.started()
    p.phase("compile")
    data = ("é€🎉a" * 20).encode()
    for i in range(0, len(data), 7):
        p.write(data[i:i + 7], OUT, compile=True)
    p.phase("run")
    for i in range(0, len(data), 5):
        p.write(data[i:i + 5])
        p.write(data[i:i + 5], ERR)
    p.end(run=outcome(out=len(data), err=len(data)), compile=outcome(out=len(data)))
    s = w.api.stream(a)
    s.until_end()
    assert s.output("stdout") == s.output("stderr") == s.output("stdout", "compile") == data
    other = w.gateway()
    first = list(s.seen)
    outputs = [m for m in first if m["type"] == "output"]
    for m in outputs[::7] + [outputs[-1]]:
        rest = first[first.index(m) + 1:]
        r = Stream(other, a["sandbox_id"], a["stream_token"], resume=f"{p.pid}:{m['id']}")
        r.until_end()
        for stream in ("stdout", "stderr"):
            for phase in (None, "compile"):
                want = Stream.output(type("S", (), {"seen": rest}), stream, phase)
                assert r.output(stream, phase) == want
        assert sum(x["type"] == "status" for x in r.seen) == sum(x["type"] == "status" for x in rest)
        s.send(type="resume", process_id=p.pid, last_seen_id=m["id"])
        n = len(s.seen)
        assert s.next() == {"type": "resumed", "process_id": p.pid, "last_seen_id": m["id"], "_at": s.seen[-1]["_at"]}
        s.until_end()
        assert [x.get("data") for x in s.seen[n + 1:]] == [x.get("data") for x in r.seen]
        r.close()
    proc, errors = w.gateways.pop()
    proc.send_signal(signal.SIGTERM)
    assert proc.wait(60) == 0, errors


def test_end_waits_for_row_and_output(w):
    p, a = w.start()
    s = w.api.stream(a)
    p.started()
    p.phase("run")
    p.write(b"x")
    p.append(p.record(END, {"status": "completed", "verdict": "OK"}))
    s.until_output("x")
    s.ws.settimeout(0.3)
    with pytest.raises(websocket.WebSocketTimeoutException):
        s.next()  # the row is not terminal
    s.ws.settimeout(60)
    p.end(run=outcome(out=1))
    assert s.until_end()["verdict"] == "OK"
    # No END record.
    p, a = w.start()
    s = w.api.stream(a)
    p.started()
    p.write(b"some\xc3")
    p.end("failed", "NODE_LOST", record=False)
    assert s.until_end()["verdict"] == "NODE_LOST" and s.output() == b"some\xc3"


def test_gap(w):
    p, a = w.start()
    p.phase("run")
    p.write(b"ab")
    p.at[OUT, False] = 10
    p.write(b"cd")
    p.append(p.record(GAP, struct.pack("<QQB", 12, 20, 1)))
    p.at[OUT, False] = 20
    p.write(b"ef")
    p.end(run=outcome(out=22))
    s = w.api.stream(a)
    s.until_end()
    assert [(m["from"], m["to"]) for m in s.seen if m["type"] == "gap"] == [(2, 10), (12, 20)] and s.output() == b"abcdef"
    r = w.api.call("GET", f"/api/executions/{a['id']}/output?stream=stdout")
    assert (r.content, r.headers["X-Next-Offset"]) == (b"ab", "2")
    r = w.api.call("GET", f"/api/executions/{a['id']}/output?stream=stdout&from=2")
    assert (r.content, r.headers["X-First-Offset"], r.headers["X-Next-Offset"]) == (b"cd", "10", "12")
    assert w.api.call("GET", f"/api/executions/{a['id']}").json()["truncated"] is True


def test_input(w):
    p, a = w.start()
    s = w.api.stream(a)
    s.send(type="input", process_id=p.pid, data="one\n")  # waits for the program
    s.send(type="input", process_id=p.pid, data="AP8=", encoding="base64")
    assert not w.inputs
    p.started()
    w.wait(lambda: b"".join(b for _, pid, b in w.inputs if pid == p.pid) == b"one\n\0\xff")
    s.send(type="input", process_id=p.pid, data="two\n")
    s.send(type="input", process_id=p.pid, data="", seq=7)
    s.send(type="input", process_id=p.pid, data="!", seq=8)
    assert s.until(lambda m: m["type"] == "input_taken" and m["seq"] == 8)["process_id"] == p.pid
    s.send(type="eof", process_id=p.pid)
    w.wait(lambda: ("eof", p.pid, b"") in w.inputs)
    assert b"".join(b for _, pid, b in w.inputs if pid == p.pid) == b"one\n\0\xfftwo\n!"
    w.script["input"] = lambda h: {"error": {"kind": "conflict", "field": "", "message": "stdin is closed"}}
    s.send(type="input", process_id=p.pid, data="three\n")
    assert s.until(lambda m: m["type"] == "error")["code"] == "stdin_closed"
    s.send(type="cancel", process_id=p.pid)
    w.wait(lambda: w.cancels and w.cancels[-1] == p.pid)
    p.end("cancelled", "CANCELLED")
    s.until_end()
    s.send(type="input", process_id=p.pid, data="four\n")
    assert s.until(lambda m: m["type"] == "error")["code"] == "not_running"


def test_viewers_only_look(w):
    p, a = w.start()
    p.phase("run")
    p.write(b"x")
    s = Stream(w.url, a["sandbox_id"], w.token(a["sandbox_id"], role=1))
    s.until_output("x")
    for message in ({"type": "input", "data": "x"}, {"type": "eof"}, {"type": "cancel"}, {"type": "resize", "cols": 1, "rows": 1}):
        s.send(process_id=p.pid, **message)
        assert s.next()["code"] == "forbidden"
    s.send(type="resume", process_id=p.pid, last_seen_id="0")
    assert s.next()["type"] == "resumed"
    editor = Stream(w.url, a["sandbox_id"], w.token(a["sandbox_id"], role=2))
    editor.until_output("x")
    editor.send(type="cancel", process_id=p.pid)
    w.wait(lambda: w.cancels and w.cancels[-1] == p.pid)


def test_bad_messages(w):
    p, a = w.start()
    s = w.api.stream(a)
    w.script["resize"] = lambda h: {"error": {"kind": "conflict", "field": "", "message": "the process has no terminal"}}
    p.started()
    for raw, code in (('{"type":"x"}', "unknown_type"), ('{"type":"eof"}', "invalid"),
                      (json.dumps({"type": "eof", "process_id": str(uuid.uuid4())}), "unknown_process"),
                      (json.dumps({"type": "resume", "process_id": p.pid, "last_seen_id": "zzz"}), "invalid"),
                      (json.dumps({"type": "resize", "process_id": p.pid, "cols": 1, "rows": 1}), "no_terminal")):
        s.ws.send(raw)
        assert s.next()["code"] == code, raw
    for _ in range(11):
        s.ws.send("{")
        assert s.next()["code"] == "malformed"
    op, data = s.ws.recv_data()
    assert op == websocket.ABNF.OPCODE_CLOSE and struct.unpack(">H", data[:2])[0] == 1008


def test_answers_that_nobody_reads(w):
    p, a = w.start()
    s = w.api.stream(a)
    frame = b"\x81\x8c\0\0\0\0" + b'{"type":"x"}'  # masked with zeros
    with contextlib.suppress(OSError):  # it may be closed before all of them are sent
        for _ in range(100):  # each is answered, and none of it is read
            s.ws.sock.sendall(frame * 2000)
    op = None
    while op != websocket.ABNF.OPCODE_CLOSE:
        op, data = s.ws.recv_data()
    assert struct.unpack(">H", data[:2])[0] == 1008


def upgrade(w, sandbox, query, **kw):
    try:
        websocket.create_connection(w.url.replace("http", "ws") + f"/api/stream/{sandbox}{query}", timeout=60, **kw).close()
        return 101
    except websocket.WebSocketBadStatusException as e:
        return e.status_code


def test_tokens_and_origins(w):
    _, a = w.start()
    sandbox, token = a["sandbox_id"], a["stream_token"]
    assert upgrade(w, sandbox, f"?token={token}") == 101
    assert upgrade(w, sandbox, "") == upgrade(w, sandbox, "?token=") == upgrade(w, sandbox, f"?token={token}x") == 401
    assert upgrade(w, sandbox, f"?token={w.token(sandbox, lifetime=-120)}") == 401
    assert upgrade(w, sandbox, f"?token={w.token(sandbox, key=b'x' * 32)}") == 401
    assert upgrade(w, sandbox, f"?token={w.keys.token('gateway')}") == 401  # another kind
    assert upgrade(w, str(uuid.uuid4()), f"?token={token}") == 403
    assert upgrade(w, "x", f"?token={token}") == 404
    assert upgrade(w, sandbox, f"?token={token}&resume=x") == 400
    for origin, status in ((w.url, 101), ("null", 403), ("https://evil.example", 403), (w.url + ".evil.example", 403),
                           (w.url.replace("127", "x.127"), 403)):
        assert upgrade(w, sandbox, f"?token={token}", origin=origin) == status
    assert upgrade(w, sandbox, f"?token={token}", subprotocols=["chat"]) == 400
    for protocol in ("devbox.json.v1", "devbox.bin.v1"):
        ws = websocket.create_connection(w.url.replace("http", "ws") + f"/api/stream/{sandbox}?token={token}", subprotocols=["x", protocol])
        assert ws.getsubprotocol() == protocol
        ws.close()


def binary(w, a, count, resume=""):
    ws = websocket.create_connection(w.url.replace("http", "ws") + f"/api/stream/{a['sandbox_id']}?token={a['stream_token']}{resume}",
                                     subprotocols=["devbox.bin.v1"], timeout=60)
    frames = [ws.recv() for _ in range(count)]
    ws.close()
    return frames


def test_binary(w):
    p, a = w.start()
    p.phase("run")
    records = [p.write(b"a\xff"), p.write(b"b", ERR), p.write(b"c")]
    p.append(records[0])  # twice in the log: once to the viewer
    p.end(run=outcome(out=3, err=1))
    frames = binary(w, a, 5)
    assert frames[1:4] == records and frames[0][2] == STATUS and frames[4][2] == END
    assert json.loads(frames[4][48:])["run"]["exit_code"] == 0
    assert binary(w, a, 2, f"&resume={p.pid}:s2")[0] == records[2]
    p, a = w.start()
    p.write(b"x")
    p.end("failed", "NODE_LOST", record=False)
    frames = binary(w, a, 2)
    assert frames[1][2] == END and json.loads(frames[1][48:])["verdict"] == "NODE_LOST"


def test_acks(w):
    p, a = w.start()
    p.phase("run")
    s = w.api.stream(a)
    p.write(b"x" * 1000)
    s.until(lambda m: m["type"] == "output")
    s.send(type="ack", process_id=p.pid, bytes=0)
    s.send(type="nonsense")  # its answer says that the ack was taken
    s.until(lambda m: m["type"] == "error")
    total = 1_000_000
    for _ in range(20):
        p.write(b"y" * ((total - 1000) // 20))
    total = sum(p.at.values())
    p.end(run=outcome(out=total))
    acked = 0
    while acked < total:
        allowed = min(total, acked + 100000)
        while len(s.output()) < allowed:
            s.next()
        assert len(s.output()) == allowed
        if allowed < total:
            s.ws.settimeout(0.3)
            with pytest.raises(websocket.WebSocketTimeoutException):
                s.next()
            s.ws.settimeout(60)
        acked = allowed
        s.send(type="ack", process_id=p.pid, bytes=acked)
    end = s.seen[-1] if s.seen[-1]["type"] == "status" else s.until_end()
    assert end["verdict"] == "OK"


def test_slow_viewer_harms_nobody(w):
    p, a = w.start()
    p.phase("run")
    slow, fast = w.api.stream(a), w.api.stream(a)
    block = bytes(range(32, 96)) * 900
    for _ in range(300):
        p.write(block)
    p.end(run=outcome(out=300 * len(block)))
    fast.until_end()
    assert fast.output() == block * 300
    proc = w.gateways[0][0]
    rss = int(next(x for x in open(f"/proc/{proc.pid}/status") if x.startswith("VmRSS")).split()[1])
    slow.until_end()
    assert slow.output() == block * 300
    assert rss < 600_000  # with ASan's own


def test_a_stranger_in_the_log(w):
    """Records of a process that came later, or belongs elsewhere, or are garbage."""
    p, a = w.start()
    s = w.api.stream(a)
    p.phase("run")
    w.log.append(p.sandbox, b"garbage")
    stranger = Program(w, {"process_id": str(uuid.uuid4()), "sandbox_id": p.sandbox})
    stranger.write(b"stranger")
    p.write(b"mine")
    s.until_output("mine")
    assert s.text() == "mine"
    second = str(uuid.uuid4())
    w.pg.sql(f"insert into processes (id, sandbox_id, owner, log_offset, request) select '{second}', sandbox_id, owner, log_offset, '{{}}' "
             f"from processes where id = '{p.pid}'")
    later = Program(w, {"process_id": second, "sandbox_id": p.sandbox})
    later.phase("run")
    later.write(b"later")
    s.until_output("later")
    later.end(run=outcome(out=5))
    assert s.until_end()["process_id"] == second


# --- what is away ---

def test_scheduler_away(w):
    port = w.scheduler.port
    w.scheduler.sock.shutdown(socket.SHUT_RDWR)  # wakes accept, which close does not
    w.scheduler.close()
    held = socket.socket()  # nobody else gets the port meanwhile
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", port))
    try:
        w.until(lambda: w.api.submit("python", {}, wait=True).status_code == 503)
        r = w.api.submit("python", {}, wait=True)
        assert r.headers["Retry-After"] and r.json()["error"]["type"] == "unavail"
        r = w.api.submit("python", {})
        assert r.status_code == 202
        waiting = Program(w, r.json())
        s = w.api.stream(r.json())
        s.send(type="nonsense")
        s.until(lambda m: m["type"] == "error")
        waiting.write(b"x")
        waiting.end(run=outcome(out=1), push=False)  # nobody says so: the row is read
        assert s.until_end()["verdict"] == "OK" and s.output() == b"x"
        assert requests.get(w.url + "/readyz", timeout=60).status_code == 200
    finally:
        again = Listener.__new__(Listener)
        again.on_request, again.peers, again.open = w.on_scheduler, queue.Queue(), []
        again.sock = held
        held.listen()
        again.port = port
        threading.Thread(target=again._accept, daemon=True).start()
        w.scheduler = again
    again.peers.get(timeout=60)

    def placed():
        pid = w.api.start("python", {})["process_id"]
        with w.changed:
            return w.changed.wait_for(lambda: pid in w.placed, 0.5)
    w.until(placed)
    run_to_end(w, lambda p: p.end("cancelled", "CANCELLED", record=False))


def test_client_gone_does_not_cancel(w):
    before = set(w.placed)
    with socket.create_connection(("127.0.0.1", int(w.url.rsplit(":", 1)[1])), timeout=60) as c:
        body = b'{"template": "python", "files": []}'
        c.sendall(b"POST /api/executions?wait=true HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"
                  b"Content-Length: %d\r\n\r\n%s" % (KEY.encode(), len(body), body))
        w.wait(lambda: set(w.placed) - before)
    p = Program(w, w.placed[(set(w.placed) - before).pop()][0])
    assert p.pid not in w.cancels
    p.end(run=outcome())
    assert w.pg.row(p.pid)["status"] == "completed"


def test_database_away(w):
    w.pg.stop()
    try:
        def away():
            r = w.api.submit("python", {})
            assert r.status_code in (503, 202, 401)
            return r.status_code == 503 and r.headers["Retry-After"]
        w.until(away)
        assert requests.get(w.url + "/readyz", timeout=60).status_code == 503
        assert requests.get(w.url + "/healthz", timeout=60).status_code == 200
    finally:
        w.pg.start()
    w.until(lambda: requests.get(w.url + "/readyz", timeout=60).status_code == 200)
    w.until(lambda: w.api.submit("python", {}).status_code == 202)


def test_drain(w):
    url = w.gateway("--drain-ms=1500")
    api = Client(url, KEY)
    p, a = w.start()
    s = Stream(url, a["sandbox_id"], a["stream_token"])
    s.send(type="nonsense")
    s.next()
    before = set(w.placed)
    answer = in_background(lambda: api.submit("python", {}, wait=True))
    w.wait(lambda: set(w.placed) - before)
    proc, errors = w.gateways.pop()
    proc.send_signal(signal.SIGTERM)
    op, data = s.ws.recv_data()
    assert op == websocket.ABNF.OPCODE_CLOSE and data == struct.pack(">H", 1001) + b"reconnect"
    r = answer()
    assert r.status_code == 202 and r.json()["status"] == "pending"
    assert proc.wait(60) == 0, "".join(errors)[-4000:]
