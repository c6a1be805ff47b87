# SPDX-License-Identifier: Apache-2.0
"""Attacks from outside, on the whole: tokens, Origins, malformed WebSocket and HTTP traffic, JSON bombs, SQL in names, double submits and
cancels. (What a body may say field by field: test_bad_input.py; who may do what: test_matrix.py; previews, archives: not here.)"""

import base64
import concurrent.futures
import hashlib
import hmac
import json
import os
import pathlib
import re
import socket
import struct
import time
import uuid

import pytest
import requests
import websocket

from client import Client, Stream

ORIGINS = ["https://evil.example", "null", "file://", "http://127.0.0.1.evil.example:{port}", "http://evil.example#127.0.0.1:{port}",
           "https://127.0.0.1:{port}@evil.example", "http://sub.127.0.0.1:{port}", "http://127.0.0.1:1", "http://127.0.0.1:{port}.evil.example",
           "http://localhost.evil.example", "chrome-extension://x", "http://", "http://127.0.0.1:{port}/x", "a" * 5000]


def rss_kb(box):
    total = 0
    for d in box.daemons("gateway"):
        status = pathlib.Path(f"/proc/{d['pid']}/status").read_text()
        total += int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))
    return total


@pytest.fixture(autouse=True)
def unharmed(devbox):
    """After each: the same gateways, no larger than before by much, and they serve."""
    before, kb = [d["pid"] for d in devbox.daemons("gateway")], rss_kb(devbox)
    yield
    assert [d["pid"] for d in devbox.daemons("gateway")] == before
    assert rss_kb(devbox) < kb + 100_000
    assert devbox.client().run("python", {"main.py": "print(1)"})["stdout"] == "1\n"


@pytest.fixture()
def running(api):
    """An execution that waits for input."""
    a = api.start("python", {"main.py": "print(input(), flush=True)\n"}, limits={"wall_ms": 20000})
    yield a
    api.call("DELETE", f"/api/executions/{a['id']}")


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def status_of(url, **kw):
    try:
        ws = websocket.create_connection(url, timeout=60, **kw)
        ws.close()
        return 101
    except websocket.WebSocketBadStatusException as e:
        return e.status_code
    except (websocket.WebSocketException, OSError):
        return 0  # closed without an answer


# --- D1, D2: tokens ---

class Forge:
    """Makes tokens with the keys of the state folder, to be wrong in one thing at a time."""

    def __init__(self, box):
        line = next(x for x in (box.state / "keys/cluster.key").read_text().splitlines() if x and x[0] != "#")
        self.id, self.key = int(line.split()[0]), bytes.fromhex(line.split()[1])

    def token(self, sandbox, kind=1, role=3, expires=600, user=None, label=b"", key=None, key_id=None, reserved=0):
        payload = struct.pack("<BBBBq", self.id if key_id is None else key_id, kind, role, reserved, int(time.time()) + expires)
        payload += uuid.UUID(sandbox).bytes + (user or uuid.UUID(int=0)).bytes + label
        signed = "dbx1." + b64(payload)
        return signed + "." + b64(hmac.new(key or self.key, signed.encode(), hashlib.sha256).digest())


def test_tokens(devbox, api, running):
    f, good, sandbox = Forge(devbox), running["stream_token"], running["sandbox_id"]
    head, payload, mac = good.split(".")
    jwt = b64(b'{"alg":"none"}') + "." + b64(b'{"sub":"x"}') + "."
    other = api.start("python", {"main.py": "1"})
    tokens = {
        "none": jwt, "kid": b64(b'{"alg":"HS256","kid":"../../../dev/null"}') + "." + payload + "." + mac,
        "unsigned": f"{head}.{payload}.", "no mac": f"{head}.{payload}", "twice": good + "." + mac, "no head": f"{payload}.{mac}",
        "cut": good[:-1], "padded": good + "=", "spaces": " " + good, "nul": good + "%00", "prefix": "dbx2." + payload + "." + mac, "long": "x" * 4000,
        "bit": good[:20] + ("A" if good[20] != "A" else "B") + good[21:], "of another sandbox": other["stream_token"],
        "old": f.token(sandbox, expires=-120), "long ago": f.token(sandbox, expires=-10**9), "daemon": f.token(sandbox, kind=2, label=b"gateway"),
        "workspace": f.token(sandbox, kind=3), "kind 0": f.token(sandbox, kind=0), "role 9": f.token(sandbox, role=9), "reserved": f.token(sandbox, reserved=1),
        "other key": f.token(sandbox, key=os.urandom(32)), "wrong key id": f.token(sandbox, key_id=(f.id + 1) % 256), "empty key": f.token(sandbox, key=b"\0" * 32),
    }
    url = f"{devbox.url.replace('http', 'ws', 1)}/api/stream/{sandbox}?token="
    got = {name: status_of(url + t) for name, t in tokens.items()}
    assert all(status in (400, 401, 403, 431) for status in got.values()), got
    assert status_of(url + good) == 101
    # None of them is a key, and a key is no token.
    for t in (good, f.token(sandbox, kind=2, label=b"gateway"), jwt):
        assert Client(devbox.url, t).call("GET", "/api/me").status_code == 401
    assert status_of(url + devbox.key) == 401
    # A megabyte, and one that claims a label that is longer than there is room for.
    with socket.create_connection(("127.0.0.1", devbox.port), timeout=60) as s:
        try:
            s.sendall(b"GET /api/stream/" + sandbox.encode() + b"?token=" + b"x" * (1 << 20) + b" HTTP/1.1\r\n\r\n")
            assert s.recv(100).split()[1] in (b"400", b"414", b"431")
        except ConnectionError:
            pass
    assert status_of(url + f.token(sandbox, label=b"l" * 65)) == 401


def test_links_of_daemons_are_closed_to_others(devbox, running):
    """The scheduler's and the shim's doors: only a daemon's token opens them, and only in a header."""
    f = Forge(devbox)
    for name, path in (("scheduler", "/gateway"), ("scheduler", "/node"), ("shim", "/link")):
        url = devbox.daemons(name)[0]["url"].replace("http", "ws", 1) + path
        for token in ("", running["stream_token"], devbox.key, f.token(running["sandbox_id"], kind=2, label=b"gateway", expires=-200),
                      f.token(running["sandbox_id"], kind=2, label=b"stranger"), f.token(running["sandbox_id"], kind=1, label=b"gateway")):
            assert status_of(url, header=[f"Authorization: Bearer {token}"], subprotocols=["devbox.link.v1"]) in (400, 401, 403, 404), (name, path, token)
        assert status_of(url + "?token=" + f.token(running["sandbox_id"], kind=2, label=b"gateway")) in (400, 401, 403)


# --- D4: pages of others ---

def test_origins(devbox, api, running):
    r = requests.post(devbox.url + "/api/auth/guest", timeout=60)
    cookie, csrf = r.cookies["devbox"], r.json()["csrf_token"]
    mine = requests.post(devbox.url + "/api/workspaces", json={"name": "x", "template": "python"}, timeout=60,
                         headers={"Cookie": f"devbox={cookie}", "X-CSRF-Token": csrf}).json()["id"]
    ws = devbox.url.replace("http", "ws", 1)
    stream, room = f"{ws}/api/stream/{running['sandbox_id']}?token={running['stream_token']}", f"{ws}/api/workspaces/{mine}/socket"
    for origin in [o.format(port=devbox.port) for o in ORIGINS]:
        assert status_of(stream, origin=origin) in (400, 403, 431), origin
        assert status_of(room, origin=origin, cookie=f"devbox={cookie}") in (400, 403, 431), origin
        r = requests.post(devbox.url + "/api/workspaces", json={"name": "x", "template": "python"}, timeout=60,
                          headers={"Origin": origin, "Cookie": f"devbox={cookie}", "X-CSRF-Token": csrf})
        assert r.status_code in (400, 403, 431), (origin, r.text)
        assert "Access-Control-Allow-Origin" not in requests.get(devbox.url + "/api/version", headers={"Origin": origin}, timeout=60).headers
    assert status_of(room, origin=devbox.url, cookie=f"devbox={cookie}") == 101
    r = requests.options(devbox.url + "/api/workspaces", headers={"Origin": ORIGINS[0], "Access-Control-Request-Method": "POST"}, timeout=60)
    assert not [h for h in r.headers if h.lower().startswith("access-control")]


# --- D8: WebSocket, RFC 6455 ---

class Raw:
    """A stream whose frames are ours to spoil."""

    def __init__(self, box, a):
        self.s = socket.create_connection(("127.0.0.1", box.port), timeout=60)
        self.s.sendall(f"GET /api/stream/{a['sandbox_id']}?token={a['stream_token']} HTTP/1.1\r\nHost: 127.0.0.1:{box.port}\r\nConnection: Upgrade\r\n"
                       "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
        self.buf = b""
        while b"\r\n\r\n" not in self.buf:
            self.buf += self.s.recv(4096)
        assert self.buf.startswith(b"HTTP/1.1 101")
        self.buf = self.buf.split(b"\r\n\r\n", 1)[1]

    def take(self, n):
        while len(self.buf) < n:
            more = self.s.recv(65536)
            if not more:
                raise ConnectionError
            self.buf += more
        out, self.buf = self.buf[:n], self.buf[n:]
        return out

    def frame(self):
        a, b = self.take(2)
        assert not b & 0x80, "a server's frame is masked"
        n = b & 127
        n = struct.unpack(">H", self.take(2))[0] if n == 126 else struct.unpack(">Q", self.take(8))[0] if n == 127 else n
        return a & 15, self.take(n)

    def closed(self):
        """The code it closes with; None when it just does. Any answer before is passed over."""
        try:
            while True:
                op, data = self.frame()
                if op == 8:
                    return struct.unpack(">H", data[:2])[0] if data else None
        except ConnectionError:
            return None


def frame(op, data=b"", fin=True, rsv=0, mask=True, length=None):
    n = len(data) if length is None else length
    head = bytes([(0x80 if fin else 0) | rsv << 4 | op])
    m = 0x80 if mask else 0
    head += bytes([m | n]) if n < 126 else struct.pack(">BH", m | 126, n) if n < 65536 else struct.pack(">BQ", m | 127, n)
    return head + (b"\0\0\0\0" if mask else b"") + data


SPOILT = {
    "rsv1": (frame(1, b"{}", rsv=4), {1002}), "rsv2": (frame(1, b"{}", rsv=2), {1002}),
    "rsv3": (frame(1, b"{}", rsv=1), {1002}), "opcode 3": (frame(3, b"x"), {1002}), "opcode 7": (frame(7), {1002}), "opcode 11": (frame(11), {1002}),
    "opcode 15": (frame(15), {1002}), "a ping in pieces": (frame(9, b"x", fin=False), {1002}), "a close in pieces": (frame(8, fin=False), {1002}),
    "a ping of 126": (frame(9, b"x" * 126), {1002}), "a close of 126": (frame(8, b"\x03\xe8" + b"x" * 124), {1002}),
    "continues nothing": (frame(0, b"x"), {1002}), "begins in a message": (frame(1, b"a", fin=False) + frame(1, b"b"), {1002}),
    "2^63": (frame(1, b"x", length=1 << 63), {1002, 1009}), "2^62": (frame(1, b"x", length=1 << 62), {1009}),
    "4 GiB": (frame(2, b"x", length=1 << 32), {1009}),
    "no UTF-8": (frame(1, b'{"type":"\xff"}'), {1007}), "half a character": (frame(1, b"\xe2\x82"), {1007}), "surrogate": (frame(1, b"\xed\xa0\x80"), {1007}),
    "above Unicode": (frame(1, b"\xf4\x90\x80\x80"), {1007}), "close of 1 byte": (frame(8, b"x"), {1002}), "close 1005": (frame(8, b"\x03\xed"), {1002}),
    "close 1006": (frame(8, b"\x03\xee"), {1002}), "close 999": (frame(8, b"\x03\xe7"), {1002}), "close 65535": (frame(8, b"\xff\xff"), {1002}),
    "close with no UTF-8": (frame(8, b"\x03\xe8\xff"), {1002, 1007}),
}


@pytest.mark.parametrize("name", SPOILT)
def test_spoilt_frames(devbox, running, name):
    data, codes = SPOILT[name]
    raw = Raw(devbox, running)
    raw.s.sendall(data)
    code = raw.closed()
    raw.s.close()
    assert code is None or code in codes, (name, code)


def test_an_unmasked_frame(devbox, running):
    """lws takes one as it takes any other (docs/dependencies.md): it is read as a message, and the connection goes on."""
    raw = Raw(devbox, running)
    raw.s.sendall(frame(1, b"{}", mask=False) + frame(9, b"still?"))
    while raw.frame() != (10, b"still?"):
        pass
    raw.s.sendall(frame(8, b"\x03\xe8"))
    assert raw.closed() == 1000
    raw.s.close()


def test_floods_of_frames(devbox, running):
    """A great many frames that say nothing: they are answered or the connection is closed, and neither costs memory (see unharmed)."""
    for flood in (frame(9, b"p" * 100) * 1000, frame(10) * 3000, frame(1, b"", fin=False) + frame(0, b"", fin=False) * 10000, frame(2, b"x") * 1000,
                  frame(1, b"[" * 1000) * 50):
        raw = Raw(devbox, running)
        raw.s.settimeout(10)
        try:
            for _ in range(10):
                raw.s.sendall(flood)
            raw.s.sendall(frame(8, b"\x03\xe8"))
            raw.closed()
        except OSError:
            pass
        raw.s.close()


# --- D9: HTTP ---

CHUNKED = b"Transfer-Encoding: chunked\r\n"
SMUGGLED = {
    "CL and TE": b"POST /api/executions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "two CL": b"POST /api/executions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "CL list": b"POST /api/executions HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 6\r\n\r\nhello!",
    "CL +5": b"POST /api/executions HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello",
    "CL 2^64": b"POST /api/executions HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551616\r\n\r\n",
    "TE twice": b"POST /api/executions HTTP/1.1\r\nHost: x\r\n" + CHUNKED + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "TE xchunked": b"POST /api/executions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunk size": b"POST /api/executions HTTP/1.1\r\nHost: x\r\n" + CHUNKED + b"\r\n-1\r\nx\r\n0\r\n\r\n",
    "huge chunk": b"POST /api/executions HTTP/1.1\r\nHost: x\r\n" + CHUNKED + b"\r\nffffffffffffffff1\r\n",
    "space before colon": b"GET /healthz HTTP/1.1\r\nHost : x\r\n\r\n",
    "folded": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: 1\r\n  2\r\n\r\n",
    "NUL in a header": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: a\0b\r\n\r\n",
    "NUL in the target": b"GET /healthz\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "CR alone": b"GET /healthz HTTP/1.1\r\nHost: x\rX-A: 1\r\n\r\n",
    "no version": b"GET /healthz\r\n\r\n", "HTTP/3.0": b"GET /healthz HTTP/3.0\r\nHost: x\r\n\r\n", "two hosts": b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "no name": b"GET /healthz HTTP/1.1\r\nHost: x\r\n: v\r\n\r\n", "a method of 10 kB": b"G" * 10000 + b" / HTTP/1.1\r\nHost: x\r\n\r\n",
}


def answers(box, data, timeout=60):
    """All status codes that come, until it closes (or stays quiet after the last)."""
    with socket.create_connection(("127.0.0.1", box.port), timeout=timeout) as s:
        buf = b""
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            while more := s.recv(65536):
                buf += more
        except OSError:
            pass
    return [int(x) for x in re.findall(rb"(?:^|\n|\})HTTP/1\.[01] (\d{3}) ", buf)]


@pytest.mark.parametrize("name", SMUGGLED)
def test_smuggling(devbox, name):
    """What could be read in two ways is refused, and the connection with it: what follows on it is never taken for a request."""
    got = answers(devbox, SMUGGLED[name] + b"GET /api/version HTTP/1.1\r\nHost: x\r\n\r\n")
    assert got in ([], [400], [411], [413], [431], [501], [505], [401]) and len(got) <= 1, got


def test_odd_but_harmless(devbox):
    get = b"GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n"
    assert answers(devbox, get % (b"http://evil.example/healthz", b""))[0] in (200, 400, 404, 421)  # absolute form
    assert answers(devbox, get % (b"/healthz", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"))[0] in (200, 400)
    assert answers(devbox, b"\r\n\r\n" + get % (b"/healthz", b""))[:1] in ([200], [400], [])
    assert answers(devbox, b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")[0] in (400, 404, 405)
    assert answers(devbox, b"CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")[0] in (400, 404, 405)
    assert answers(devbox, (get % (b"/healthz", b"")) * 50) == [200] * 50  # pipelined: answered in order


def test_slow_ones_do_not_keep_others_out(devbox):
    """Connections that never finish their request; the rest is served meanwhile."""
    slow = []
    try:
        for _ in range(300):
            s = socket.create_connection(("127.0.0.1", devbox.port), timeout=60)
            s.sendall(b"POST /api/executions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nX-Slow: ")
            slow.append(s)
        for _ in range(20):
            for s in slow[::10]:
                s.sendall(b"x")
            assert requests.get(devbox.url + "/healthz", timeout=60).status_code == 200
    finally:
        for s in slow:
            s.close()


# --- D11: JSON ---

@pytest.mark.parametrize("name,raw,status", [
    ("a million keys", b"{" + b",".join(b'"k%d":1' % i for i in range(400_000)) + b"}", (400, 413)),
    ("a million values", b'{"template":"python","files":[' + b"1," * 1_000_000 + b"1]}", (400, 413)),
    ("deep in a field", b'{"template":"python","files":' + b"[" * 500_000 + b"]" * 500_000 + b"}", (400, 413)),
    ("the same key inside", b'{"template":"python","files":[{"path":"a","path":"b","content":""}]}', (400,)),
    ("1e999", b'{"template":"python","files":[],"limits":{"cpu_ms":1e999}}', (400,)),
    ("a long number", b'{"template":"python","files":[],"limits":{"cpu_ms":' + b"9" * 100_000 + b"}}", (400,)),
    ("a fraction", b'{"template":"python","files":[],"limits":{"cpu_ms":1.5}}', (400,)),
    ("half a pair", b'{"template":"python","files":[{"path":"main.py","content":"\\udc00\\ud800"}]}', (400,)),
    ("overlong", b'{"template":"python","files":[{"path":"\xc0\xaf","content":""}]}', (400,)),
    ("NaN", b'{"template":NaN}', (400,)), ("a comment", b'{/* */"template":"python"}', (400,)), ("__proto__", b'{"__proto__":{"admin":true}}', (400,)),
    ("BOM", b'\xef\xbb\xbf{}', (400,)), ("utf-16", '{"template":"python"}'.encode("utf-16"), (400,))], ids=lambda v: v if isinstance(v, str) else "")
def test_json(api, name, raw, status):
    for path in ("/api/executions", "/api/batches"):
        r = api.call("POST", path, data=raw, headers={"Content-Type": "application/json"})
        assert r.status_code in status and r.json()["error"]["message"], (path, r.status_code, r.text[:300])


# --- D12: SQL in names ---

SQL = ["'; drop table workspaces; --", "\\'; select pg_sleep(100); --", "$1", "%", "_", "a%b_c", "\\", "' or '1'='1", "{}", "\";--", "x' || (select key from api_keys) || '"]


def test_sql_in_names(api):
    ids = {}
    for name in SQL:
        r = api.call("POST", "/api/workspaces", json={"name": name, "template": "python"})
        assert r.status_code == 201 and r.json()["name"] == name
        ids[name] = r.json()["id"]
    listed = {w["id"]: w["name"] for w in api.call("GET", "/api/workspaces?limit=200").json()["items"]}
    assert {i: n for n, i in ids.items()}.items() <= listed.items()
    for text in SQL:
        for path in (f"/api/executions?cursor={requests.utils.quote(text)}", f"/api/processes?sandbox_id={requests.utils.quote(text)}",
                     f"/api/users?email={requests.utils.quote(text)}", f"/api/audit?cursor={requests.utils.quote(text)}", f"/api/workspaces/{requests.utils.quote(text)}"):
            r = api.call("GET", path)
            assert r.status_code in (200, 400, 404), (path, r.text)
            assert r.status_code != 200 or r.json()["items"] == [], path  # no wildcard matches what it is not
        r = api.call("POST", "/api/executions", json={"template": text, "files": []}, headers={"Idempotency-Key": text})
        assert r.status_code == 400
        assert Client(api.url, None).call("POST", "/api/auth/login", json={"email": text + "@example.org", "password": text + "12345678"}).status_code in (400, 401)
    for i in ids.values():
        assert api.call("DELETE", f"/api/workspaces/{i}").status_code == 204


def test_wildcards_in_paths(api):
    """A folder named a_b or a% is that folder alone."""
    ws = api.call("POST", "/api/workspaces", json={"name": "x", "template": "python"}).json()["id"]

    def make(path):
        r = api.call("POST", f"/api/workspaces/{ws}/files", json={"path": path, "content": path})
        assert r.status_code == 201, r.text
        return r.json()["id"]

    def tree():
        return {e["path"]: e["id"] for e in api.call("GET", f"/api/workspaces/{ws}/files").json()}

    paths = ["a_b/1", "axb/1", "a%/1", "abc/1", "a\\_b/1", "a'b/1"]
    for p in paths:
        make(p)
    assert api.call("POST", f"/api/files/{tree()['a_b']}/move", json={"path": "moved_%"}).status_code == 200
    assert {"moved_%/1", "axb/1", "a%/1", "abc/1", "a\\_b/1", "a'b/1"} <= set(tree())
    assert api.call("DELETE", f"/api/files/{tree()['a%']}").status_code == 204
    assert api.call("DELETE", f"/api/files/{tree()['moved_%']}").status_code == 204
    assert {p for p in tree() if "/" in p} == {"axb/1", "abc/1", "a\\_b/1", "a'b/1"}
    api.call("DELETE", f"/api/workspaces/{ws}")


# --- D3, D13: twice, and cancelled ---

def at_once(n, fn):
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        return list(pool.map(lambda i: fn(), range(n)))


def test_the_same_submit_many_times_at_once(devbox):
    key = uuid.uuid4().hex
    body = {"template": "python", "files": [{"path": "main.py", "content": "print(1)"}]}

    def submit():
        return devbox.client().call("POST", "/api/executions", json=body, headers={"Idempotency-Key": key})

    got = at_once(20, submit)
    assert {r.status_code for r in got} == {202} and len({r.json()["id"] for r in got}) == 1, [r.text for r in got]
    r = devbox.client().call("POST", "/api/executions", json={**body, "stdin": "x"}, headers={"Idempotency-Key": key})
    assert r.status_code == 409 and r.json()["error"]["code"] == "idempotency_key_reused"
    assert devbox.client().wait_end(got[0].json()["id"])["stdout"] == "1\n"


def terminals(s):
    return [m for m in s.seen if m["type"] == "status" and m["status"] in ("completed", "failed", "cancelled")]


def test_cancels_at_every_moment(api):
    """Before it starts, while it does, while it runs, while it ends, after: one end, the same for all who ask."""
    for delay in (0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3):
        a = api.start("python", {"main.py": "print('up', flush=True)\nimport time\ntime.sleep(0.05)\n"})
        s = api.stream(a)
        time.sleep(delay)  # what is being tried, not waited for
        first = api.call("DELETE", f"/api/executions/{a['id']}")
        assert first.status_code in (200, 202), first.text
        end = s.until_end()
        after = api.call("DELETE", f"/api/executions/{a['id']}")
        assert after.status_code == 200
        row = api.call("GET", f"/api/executions/{a['id']}").json()
        assert row["status"] == end["status"] == after.json()["status"] and row["verdict"] == end["verdict"] == after.json()["verdict"]
        assert row["verdict"] in ("OK", "CANCELLED")
        again = api.stream(a)
        again.until_end()
        assert len(terminals(again)) == len(terminals(s)) == 1
        s.close()
        again.close()


def test_a_thousand_cancels(devbox, api, running):
    s = api.stream(running)

    def cancel():
        c, seen = devbox.client(), set()
        for i in range(50):
            if i % 2:
                seen.add(c.call("DELETE", f"/api/executions/{running['id']}").status_code)
            else:
                seen.add(c.call("POST", f"/api/processes/{running['process_id']}/cancel").status_code)
        return seen

    assert set().union(*at_once(20, cancel)) <= {200, 202}
    assert s.until_end()["status"] == "cancelled"
    row = api.call("GET", f"/api/executions/{running['id']}").json()
    assert (row["status"], row["verdict"]) == ("cancelled", "CANCELLED")
    again = api.stream(running)
    again.until_end()
    assert len(terminals(again)) == 1
    for verb in ("input", "signal"):
        r = api.call("POST", f"/api/processes/{running['process_id']}/{verb}", json={"data": "x"} if verb == "input" else {"signal": "SIGTERM"})
        assert r.status_code == 409, r.text
