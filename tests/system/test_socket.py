# SPDX-License-Identifier: Apache-2.0
"""The workspace's socket at two gateways: real PostgreSQL, the rest scripted. Its examples in docs/protocols.md are executed."""

import base64
import json
import re
import time
import uuid

import pytest
import requests
import websocket

from client import Client
from test_gateway import ERR, KEY, ROOT, Program, World, outcome


@pytest.fixture(scope="module")
def w(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("socket"))
    world.other = Client(world.gateway(), KEY)
    yield world
    world.close()


class Socket:
    """One connection: messages by channel."""

    def __init__(self, client, workspace, query="", timeout=60, header=None, **kw):
        if header is None:
            header = [] if "token=" in query else [f"Authorization: Bearer {client.key}"]
        self.ws = websocket.create_connection(client.url.replace("http", "ws", 1) + f"/api/workspaces/{workspace}/socket{query}",
                                              timeout=timeout, header=header, **kw)
        self.seen, self.timeout = [], timeout
        self.hello = self.next()
        assert self.hello["ch"] == 0 and self.hello["type"] == "hello"

    def next(self):
        deadline = time.monotonic() + self.timeout
        while True:
            opcode, frame = self.ws.recv_data_frame(control_frame=True)
            if opcode != websocket.ABNF.OPCODE_PING:
                break
            assert time.monotonic() < deadline, f"only pings came; before: {self.seen[-20:]}"
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return {"ch": None, "type": "close", "code": int.from_bytes(frame.data[:2], "big"), "reason": frame.data[2:].decode()}
        m = json.loads(frame.data)
        self.seen.append(m)
        return m

    def until(self, type, **fields):
        while True:
            m = self.next()
            if m["type"] == type and all(m.get(k) == v for k, v in fields.items()):
                return m
            assert m["type"] != "close", (type, m, self.seen[-5:])

    def send(self, **message):
        self.ws.send(json.dumps(message))

    def send_together(self, *messages):
        """In one write: the gateway has read all of them before it can answer the first."""
        frames = (websocket.ABNF.create_frame(json.dumps(m), websocket.ABNF.OPCODE_TEXT) for m in messages)
        self.ws.sock.sendall(b"".join(f.format() for f in frames))

    def open(self, channel, kind, **fields):
        self.send(ch=0, type="open", channel=channel, kind=kind, **fields)
        return self.until("opened", channel=channel)

    def close(self):
        self.ws.close()


class Workspace:
    def __init__(self, api, **fields):
        self.api = api
        r = api.call("POST", "/api/workspaces", json={"name": "test", "template": "python", **fields})
        assert r.status_code == 201, r.text
        self.id = r.json()["id"]
        self.path = f"/api/workspaces/{self.id}"

    def create(self, path, content="", api=None):
        r = (api or self.api).call("POST", self.path + "/files", json={"path": path, "content": content})
        assert r.status_code == 201, r.text
        return r.json()


@pytest.fixture()
def ws(w):
    return Workspace(w.api)


def refused(client, workspace, query="", header=None, origin=None):
    """Status and code of the answer that comes instead of an upgrade."""
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": base64.b64encode(b"0123456789abcdef").decode()}
    if header is None and "token=" not in query:
        headers["Authorization"] = f"Bearer {client.key}"
    if origin:
        headers["Origin"] = origin
    r = requests.get(f"{client.url}/api/workspaces/{workspace}/socket{query}", headers=headers, timeout=60)
    return r.status_code, r.json()["error"]["code"]


def test_who_may_open_it(w, ws):
    token = w.api.call("POST", ws.path + "/token").json()
    assert token["role"] == "owner" and token["expires_at"]
    for query in ("", f"?token={token['token']}"):
        s = Socket(w.api, ws.id, query)
        assert s.hello == {"ch": 0, "type": "hello", "workspace_id": ws.id, "role": "owner"}
        s.close()
    stranger = w.user("socket-stranger-0123456789")
    assert refused(stranger, ws.id) == refused(w.api, str(uuid.uuid4())) == refused(w.api, "x") == (404, "not_found")
    assert refused(w.api, ws.id, header=[]) == (401, "unauthorized")
    assert refused(w.api, ws.id, "?token=x") == (401, "unauthorized")
    assert refused(w.api, Workspace(w.api).id, f"?token={token['token']}") == (403, "foreign_token")
    sandbox = w.api.call("POST", ws.path + "/sandbox", json={}).json()
    Socket(w.api, ws.id, f"?token={sandbox['stream_token']}").close()
    assert refused(w.api, Workspace(w.api).id, f"?token={sandbox['stream_token']}") == (404, "not_found")
    assert refused(w.api, ws.id, f"?token={w.token(sandbox['sandbox_id'], lifetime=-100)}") == (401, "token_expired")
    for origin in ("https://evil.example", "null", "http://127.0.0.1.evil.example"):
        assert refused(w.api, ws.id, origin=origin) == (403, "foreign_origin")
        assert refused(w.api, ws.id, f"?token={token['token']}", origin=origin) == (403, "foreign_origin")
    Socket(w.api, ws.id, origin=w.url).close()
    r = w.api.call("GET", ws.path + "/socket")
    assert r.status_code == 426 and r.headers["Upgrade"] == "websocket"


def test_tree_events_from_any_gateway(w, ws):
    first = ws.create("src/a.py", "a")
    s = Socket(w.api, ws.id)
    s.open(1, "tree")
    tree = s.until("tree", ch=1)
    assert [e["path"] for e in tree["entries"]] == ["src", "src/a.py"]
    assert tree["entries"][1] == first
    b = ws.create("b.py", "b", api=w.other)
    m = s.until("events", ch=1)
    assert [(e["op"], e["path"], e["id"], e["etag"]) for e in m["events"]] == [("created", "b.py", b["id"], b["etag"])]
    assert m["seq"] == m["events"][-1]["seq"] > tree["seq"]
    w.other.call("PUT", f"/api/files/{b['id']}", json={"content": "bb"})
    assert [(e["op"], e["size"]) for e in s.until("events")["events"]] == [("changed", 2)]
    w.other.call("POST", f"/api/files/{tree['entries'][0]['id']}/move", json={"path": "lib"})
    m = s.until("events")
    assert {(e["op"], e["from_path"], e["path"]) for e in m["events"]} == {("moved", "src", "lib"), ("moved", "src/a.py", "lib/a.py")}
    s.close()
    # What happened meanwhile comes after the number he names, once; also at another gateway.
    w.api.call("DELETE", f"/api/files/{b['id']}")
    ws.create("c.py")
    s = Socket(w.other, ws.id)
    s.open(7, "tree", since=m["seq"])
    missed = s.until("events", ch=7)
    assert [(e["op"], e["path"]) for e in missed["events"]] == [("deleted", "b.py"), ("created", "c.py")]
    s.open(8, "tree", since=missed["seq"])
    ws.create("d.py")
    got = [s.until("events") for _ in range(2)]
    assert {m["ch"] for m in got} == {7, 8} and all([e["path"] for e in m["events"]] == ["d.py"] for m in got)
    s.send(ch=0, type="close", channel=8)
    assert s.until("closed", channel=8) == {"ch": 0, "type": "closed", "channel": 8}
    s.close()


def test_what_is_not_kept_is_read_anew(w, ws):
    ws.create("a")
    s = Socket(w.api, ws.id)
    s.open(1, "tree")
    seq = s.until("tree")["seq"]
    for name in "bcd":
        ws.create(name)
    while s.until("events")["events"][-1]["path"] != "d":
        pass  # it has them before they go
    w.pg.sql("delete from file_events where seq < (select max(seq) from file_events)")
    t = Socket(w.api, ws.id)
    t.open(1, "tree", since=seq)
    assert [e["path"] for e in t.until("tree")["entries"]] == ["a", "b", "c", "d"]
    w.pg.sql("delete from file_events")
    u = Socket(w.api, ws.id)
    u.open(1, "tree", since=seq)
    u.until("tree")
    ws.create("e")
    for x in (s, t, u):
        while "e" not in [e["path"] for e in x.next().get("events" if x is not u else "entries", [])]:
            pass
        x.close()


def test_a_workspace_that_goes(w, ws):
    ws.create("a")
    s = Socket(w.api, ws.id)
    s.open(3, "tree")
    s.until("tree")
    assert w.other.call("DELETE", ws.path).status_code == 204
    while (m := s.next())["type"] != "close":
        assert m["type"] == "closed", m  # perhaps the channel sees it first
    assert m["code"] == 1008


def test_the_database_restarts(w, ws):
    s = Socket(w.api, ws.id)
    s.open(1, "tree")
    s.until("tree")
    w.pg.stop()
    r = w.api.call("GET", ws.path)
    assert r.status_code == 503 and r.headers["Retry-After"]
    assert refused(w.api, ws.id)[0] == 503
    w.pg.start()
    w.until(lambda: w.api.call("GET", ws.path).status_code == 200, 60)
    ws.create("after", api=w.api)
    while s.until("events")["events"][-1]["path"] != "after":
        pass
    s.close()


def test_roles_and_revocation(w, ws):
    stranger = w.user("socket-viewer-0123456789-x")
    w.api.call("PUT", ws.path, json={"sharing_mode": "edit"})
    s = Socket(stranger, ws.id)
    assert s.hello["role"] == "editor"
    token = stranger.call("POST", ws.path + "/token").json()["token"]
    w.api.call("PUT", ws.path, json={"sharing_mode": "view"})
    assert s.until("role")["role"] == "viewer"
    begun = time.monotonic()
    w.api.call("PUT", ws.path, json={"sharing_mode": "private"})
    m = s.next()
    assert m["type"] == "close" and m["code"] == 1008 and time.monotonic() - begun < 20
    assert refused(stranger, ws.id, f"?token={token}") == (404, "not_found")


def test_bad_messages(w, ws):
    s = Socket(w.api, ws.id)

    def error(**message):
        s.send(**message)
        m = s.until("error")
        return m["code"], m["message"].split(":")[0]

    assert error(type="open") == ("invalid", "ch")
    assert error(ch=0) == ("invalid", "type")
    assert error(ch=0, type="nonsense")[0] == "unknown_type"
    assert error(ch=0, type="open", channel=0, kind="tree") == ("invalid", "channel")
    assert error(ch=0, type="open", channel=1 << 40, kind="tree") == ("invalid", "channel")
    assert error(ch=0, type="open", channel=1, kind="x") == ("invalid", "kind")
    assert error(ch=0, type="open", channel=1, kind="tree", more=1) == ("invalid", "more")
    assert error(ch=0, type="open", channel=1, kind="tree", since="x") == ("invalid", "since")
    assert error(ch=5, type="x")[0] == "unknown_channel"
    s.open(1, "tree")
    assert error(ch=0, type="open", channel=1, kind="tree") == ("invalid", "channel")
    assert error(ch=1, type="x")[0] == "unknown_type"
    for n in range(2, 65):
        s.open(n, "tree")
    assert error(ch=0, type="open", channel=65, kind="tree") == ("invalid", "channel")
    s.send(ch=0, type="ping")
    s.until("pong")
    for text in ("x", "[]", "[" * 100, '{"ch":0,"ch":1}') * 3:
        try:
            s.ws.send(text)
        except OSError:
            break
    try:
        while (m := s.next())["type"] != "close":
            pass
        assert m["code"] == 1008
    except (OSError, websocket.WebSocketConnectionClosedException):
        pass  # what was sent behind the end breaks the connection before the reason is read


def test_examples_of_the_documentation(w, ws):
    """Every line of the socket's examples: `->` is sent, `<-` must come, as written where it is not `…`."""
    text = (ROOT / "docs/protocols.md").read_text()
    section = text.split("## The socket of a workspace")[1].split("\n## ")[0]
    blocks = [b for b in re.findall(r"```\n(.*?)```", section, re.S) if b.startswith("->")]
    assert blocks
    ws.create("src/main.py", 'print("Hello")\n')

    def fits(said, wanted):
        if wanted == "…":
            return True
        if isinstance(wanted, dict):
            return isinstance(said, dict) and all(k in said and fits(said[k], v) for k, v in wanted.items())
        if isinstance(wanted, list):
            return isinstance(said, list) and len(said) == len(wanted) and all(fits(a, b) for a, b in zip(said, wanted))
        return said == wanted

    sandbox = w.api.call("POST", ws.path + "/sandbox", json={}).json()["sandbox_id"]
    s = Socket(w.api, ws.id)
    files = 0
    for block in (b.replace("SANDBOX", sandbox) for b in blocks):
        for line in block.strip().splitlines():
            way, message = line[:2], json.loads(line[3:])
            if way == "->":
                s.send(**message)
                continue
            if message["type"] == "events":
                files += 1
                ws.create("b.txt" if files == 1 else f"more-{files}", "b", api=w.other)
            while True:
                m = s.next()
                assert m["type"] not in ("close", "error") or message["type"] == "error", m
                if m["ch"] == message["ch"] and m["type"] == message["type"]:
                    break
            assert fits(m, message), (m, message)
    s.close()


def search(s, channel, query, **fields):
    s.send(ch=0, type="open", channel=channel, kind="search", query=query, **fields)
    found = []
    while True:
        m = s.next()
        if m["type"] == "matches" and m["ch"] == channel:
            found += [(m["path"], x["line"], x["column"], x["length"]) for x in m["matches"]]
        elif m["type"] == "done" and m["ch"] == channel:
            assert s.until("closed", channel=channel) == {"ch": 0, "type": "closed", "channel": channel}
            assert m["matches"] == len(found) and m["files"] == len({f[0] for f in found})
            return found, m
        elif m["type"] == "closed":
            return m["code"], m["message"]


def test_search(w, ws):
    ws.create("a.py", "import os\nprint(os)\r\nÜber print\n")
    ws.create("lib/b.js", "console.log('PRINT', print_all)\n" * 3)
    ws.create("lib/c.py", "x = 1\n")
    ws.create("bin", "print\0")
    s = Socket(w.api, ws.id)
    a = [("a.py", 2, 1, 5), ("a.py", 3, 6, 5)]
    b = [("lib/b.js", n, c, 5) for n in (1, 2, 3) for c in (14, 22)]
    assert search(s, 1, "print")[0] == a + b
    assert search(s, 1, "print", case_sensitive=True)[0] == a + [x for x in b if x[2] == 22]
    assert search(s, 1, "print", whole_word=True)[0] == a + [x for x in b if x[2] == 14]
    assert search(s, 1, "print", include=["*.py"])[0] == a
    assert search(s, 1, "print", exclude=["a.py"], include=["**/*.js", "*.py"])[0] == b
    assert search(s, 1, "print", exclude=["lib"])[0] == a
    assert search(s, 1, "^.ber\\s+p\\w+$", regex=True)[0] == [("a.py", 3, 1, 10)]
    assert search(s, 1, "os)")[0] == [("a.py", 2, 7, 3)]
    found, done = search(s, 1, "print", max_results=3)
    assert len(found) == 3 and done["truncated"]
    assert search(s, 1, "(", regex=True)[0] == "invalid"
    assert search(s, 1, "x", include=["a" * 300])[0] == "invalid"
    assert search(s, 1, "nowhere to be found")[0] == []
    s.close()


def test_search_of_what_is_hard(w, ws):
    """A pattern that would take for ever takes a bounded time, others are answered meanwhile, and it can be cancelled."""
    ws.create("hard", ("a" * 5000 + "!\n") * 150)
    s = Socket(w.api, ws.id)
    begun = time.monotonic()
    found, done = search(s, 1, "(a+)+$", regex=True)
    assert found == [] and done["lines_too_hard"] > 0 and time.monotonic() - begun < 60
    s.send(ch=0, type="open", channel=2, kind="search", query="(a|aa)+$", regex=True)
    assert w.api.call("GET", ws.path).status_code == 200
    s.send(ch=0, type="close", channel=2)
    s.until("closed", channel=2)
    s.send(ch=0, type="ping")
    s.until("pong")
    s.close()


def test_processes(w, ws):
    run = w.api.call("POST", ws.path + "/run", json={"command": "x"}).json()
    w.wait(lambda: run["process_id"] in w.placed)
    p = Program(w, run)
    s = Socket(w.other, ws.id)
    s.send_together({"ch": 0, "type": "open", "channel": 9, "kind": "processes", "sandbox_id": run["sandbox_id"]},
                    {"ch": 9, "type": "ack", "process_id": p.pid, "bytes": 0})
    assert s.until("error", ch=9)["code"] == "not_ready"
    s.until("ready", ch=9)
    p.started()
    p.phase("run")
    p.write(b"hello\n")
    first = s.until("output", ch=9)
    assert first["data"] == "hello\n" and first["process_id"] == p.pid
    s.send(ch=9, type="input", process_id=p.pid, data="in", seq=4)
    assert s.until("input_taken", ch=9)["seq"] == 4
    s.send(ch=9, type="nonsense", process_id=p.pid)
    assert s.until("error", ch=9)["code"] == "unknown_type"
    # A second channel goes on behind what was seen on the first; both live on one connection.
    s.send(ch=0, type="open", channel=10, kind="processes", sandbox_id=run["sandbox_id"], resume=[f"{p.pid}:{first['id']}"])
    s.until("ready", ch=10)
    p.write(b"more\n", ERR)
    got = {m["ch"]: m["data"] for m in (s.until("output"), s.until("output"))}
    assert got == {9: "more\n", 10: "more\n"}
    s.send(ch=0, type="close", channel=9)
    s.until("closed", channel=9)
    p.end(run=outcome(out=6, err=5))
    assert s.until("status", ch=10, status="completed")["verdict"] == "OK"
    for fields in ({"sandbox_id": str(uuid.uuid4())}, {"sandbox_id": "x"}, {"sandbox_id": run["sandbox_id"], "resume": ["x"]}):
        s.send(ch=0, type="open", channel=11, kind="processes", **fields)
        assert s.until("closed", channel=11)["code"] in ("not_found", "invalid")
    other = Workspace(w.api)
    t = Socket(w.api, other.id)
    t.send(ch=0, type="open", channel=1, kind="processes", sandbox_id=run["sandbox_id"])
    assert t.until("closed", channel=1)["code"] == "not_found"
    t.close()
    s.close()


def test_a_viewer_only_looks(w, ws):
    run = w.api.call("POST", ws.path + "/run", json={"command": "x"}).json()
    w.wait(lambda: run["process_id"] in w.placed)
    w.api.call("PUT", ws.path, json={"sharing_mode": "view"})
    s = Socket(w.user("socket-looker-0123456789-x"), ws.id)
    s.send(ch=0, type="open", channel=1, kind="processes", sandbox_id=run["sandbox_id"])
    s.until("ready", ch=1)
    for message in ({"type": "input", "data": "x"}, {"type": "cancel"}, {"type": "eof"}, {"type": "resize", "cols": 80, "rows": 24}):
        s.send(ch=1, process_id=run["process_id"], **message)
        assert s.until("error", ch=1)["code"] == "forbidden"
    w.api.call("PUT", ws.path, json={"sharing_mode": "private"})
    while s.next()["type"] != "close":
        pass
