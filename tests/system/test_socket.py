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
from test_gateway import KEY, ROOT, World


@pytest.fixture(scope="module")
def w(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("socket"))
    world.other = Client(world.gateway(), KEY)
    yield world
    world.close()


class Socket:
    """One connection: messages by channel."""

    def __init__(self, client, workspace, query="", timeout=20, header=None, **kw):
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
    r = requests.get(f"{client.url}/api/workspaces/{workspace}/socket{query}", headers=headers, timeout=20)
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
    w.until(lambda: w.api.call("GET", ws.path).status_code == 200, 30)
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
    assert m["type"] == "close" and m["code"] == 1008 and time.monotonic() - begun < 5
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

    s = Socket(w.api, ws.id)
    files = 0
    for block in blocks:
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
                assert m["type"] not in ("close", "error"), m
                if m["ch"] == message["ch"] and m["type"] == message["type"]:
                    break
            assert fits(m, message), (m, message)
    s.close()
