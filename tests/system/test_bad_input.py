# SPDX-License-Identifier: Apache-2.0
"""Bad input gets a 4xx that names the field, tells nothing it should not, and harms nobody."""

import json
import socket

import pytest
import requests
import websocket

OK = {"template": "python", "files": [{"path": "main.py", "content": "print(1)"}]}


def changed(**kw):
    return {**OK, **kw}


def with_file(**kw):
    return changed(files=[{"path": "main.py", "content": "1"}, kw])


BAD = [
    (changed(template="cobol"), "template"),
    (changed(template=7), "template"),
    ({"files": []}, "template"),
    (changed(surprise=1), "surprise"),
    (changed(files="x"), "files"),
    (with_file(path="/etc/passwd", content="x"), "files[1].path"),
    (with_file(path="../x", content="x"), "files[1].path"),
    (with_file(path="a/../../x", content="x"), "files[1].path"),
    (with_file(path="a//b", content="x"), "files[1].path"),
    (with_file(path="a\0b", content="x"), "files[1].path"),
    (with_file(path="", content="x"), "files[1].path"),
    (with_file(path="x"), "files[1].content"),
    (with_file(path="x", content="a", content_base64="YQ=="), "files[1].content"),
    (with_file(path="x", content_base64="!!!"), "files[1].content_base64"),
    (with_file(path="main.py", content="twice"), "files[1].path"),
    (with_file(path="x", content="a", mode=1), "files[1].mode"),
    (changed(limits={"cpu_ms": 0}), "limits.cpu_ms"),
    (changed(limits={"cpu_ms": 10001}), "limits.cpu_ms"),
    (changed(limits={"memory_mb": 10**9}), "limits.memory_mb"),
    (changed(limits={"wall_ms": "1"}), "limits.wall_ms"),
    (changed(limits={"nonsense": 1}), "limits.nonsense"),
    (changed(compile_limits={"cpu_ms": -1}), "compile_limits.cpu_ms"),
    (changed(command=5), "command"),
    (changed(command=[]), "command"),
    (changed(command=["a", 1]), "command[1]"),
    (changed(env={"A=B": "x"}), "env.A=B"),
    (changed(env={"A": 1}), "env.A"),
    (changed(stdin=1), "stdin"),
    (changed(retry="sometimes"), "retry"),
]


@pytest.mark.parametrize("body,field", BAD, ids=[f"{i}-{f}" for i, (_, f) in enumerate(BAD)])
def test_field_is_named(api, body, field):
    r = api.call("POST", "/api/executions", json=body)
    assert r.status_code == 400, r.text
    error = r.json()["error"]
    assert error["field"] == field, error
    assert set(error) == {"type", "code", "message", "field", "request_id"} and error["message"]
    assert r.headers["DevBox-API-Version"] == "1"


@pytest.mark.parametrize("raw", [
    b"", b"{", b"[]", b"null", b'{"template":"python","template":"node"}', b'{"template": "\xff"}', b'{"template":"\\ud800"}',
    b"[" * 100000, b'{"a":' * 50000, b"1e999", b'{"template":"python","files":[]}x', b"\0" * 10],
    ids=range(12))
def test_bad_json(api, raw):
    r = api.call("POST", "/api/executions", data=raw, headers={"Content-Type": "application/json"})
    assert r.status_code == 400, r.text
    assert r.json()["error"]["message"]


def test_large_bodies(devbox, api):
    r = api.call("POST", "/api/executions", json=changed(stdin="x" * (9 << 20)))
    assert r.status_code == 413, r.text[:300]
    # 100 MB, announced and not: refused without being read to the end.
    for chunked in (False, True):
        def body():
            for _ in range(100):
                yield b"x" * (1 << 20)
        try:
            r = requests.post(devbox.url + "/api/executions", data=body() if chunked else b"x" * (100 << 20), timeout=60,
                              headers={"Authorization": f"Bearer {devbox.key}"})
            assert r.status_code == 413
        except requests.ConnectionError:
            pass  # the server closed while we still sent: as RFC 9112 allows
    assert api.run("python", {"main.py": "print(1)"})["stdout"] == "1\n"


def test_keys(devbox):
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eDp5"}, {"Authorization": "Bearer "},
                    {"Authorization": "Bearer " + "x" * 8000}):
        r = requests.post(devbox.url + "/api/executions", json=OK, headers=headers, timeout=60)
        assert r.status_code in (401, 431), r.text
        assert devbox.key not in r.text
    assert requests.get(devbox.url + "/healthz", timeout=60).status_code == 200


def handshake(devbox, sandbox, token, **kw):
    try:
        ws = websocket.create_connection(devbox.url.replace("http", "ws", 1) + f"/api/stream/{sandbox}?token={token}", timeout=60, **kw)
        ws.close()
        return 101
    except websocket.WebSocketBadStatusException as e:
        return e.status_code


def test_stream_tokens(devbox, api):
    a = api.start("python", OK["files"] and {"main.py": "print(1)"})
    b = api.start("python", {"main.py": "print(2)"})
    token = a["stream_token"]
    assert handshake(devbox, a["sandbox_id"], token) == 101
    assert handshake(devbox, b["sandbox_id"], token) in (401, 403)  # another sandbox's
    assert handshake(devbox, a["sandbox_id"], token[:-2]) in (401, 403)
    assert handshake(devbox, a["sandbox_id"], token[:-1] + ("A" if token[-1] != "A" else "B")) in (401, 403)
    assert handshake(devbox, a["sandbox_id"], "") in (401, 403)
    assert handshake(devbox, a["sandbox_id"], "x" * 5000) in (400, 401, 403, 431)
    assert handshake(devbox, "00000000-0000-0000-0000-000000000000", token) in (401, 403, 404)
    assert handshake(devbox, "nonsense", token) in (400, 401, 403, 404)
    # Where a browser says it comes from.
    assert handshake(devbox, a["sandbox_id"], token, origin="https://evil.example") == 403
    assert handshake(devbox, a["sandbox_id"], token, origin=devbox.url) == 101
    assert handshake(devbox, a["sandbox_id"], token, suppress_origin=True) == 101
    assert handshake(devbox, a["sandbox_id"], token, origin="null") == 403


def test_messages_on_a_stream(api):
    a = api.start("python", {"main.py": "print('up', flush=True)\ninput()\nprint('end')\n"})
    s = api.stream(a)
    s.until_output("up\n")
    for raw in ("{", "[]", '{"type":"nonsense"}', '{"type":"input"}', '{"type":"input","process_id":"x","data":"y"}',
                '{"type":"resume","process_id":"%s","last_seen_id":"zzz"}' % a["process_id"],
                '{"type":"input","process_id":"%s","data":7}' % a["process_id"]):
        s.ws.send(raw)
        m = s.until(lambda m: m["type"] == "error")
        assert m["code"]
    s.send(type="input", process_id=a["process_id"], data="\n")
    assert s.until_end()["verdict"] == "OK"


def test_unknown_things(api):
    for method, path, status in (
            ("GET", "/api/executions/00000000-0000-7000-8000-000000000000", 404), ("GET", "/api/executions/xyz", 404),
            ("DELETE", "/api/executions/00000000-0000-7000-8000-000000000000", 404), ("GET", "/api/nonsense", 404),
            ("PATCH", "/api/executions", 405), ("GET", "/api/executions/../../etc/passwd", 404)):
        r = api.call(method, path)
        assert r.status_code == status, (method, path, r.status_code, r.text)
        assert r.json()["error"]["type"]


@pytest.mark.parametrize("raw", [
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(100000)) + b"\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 100, b"\0" * 100000, b"POST /api/executions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\nUpgrade: foo\r\nConnection: Upgrade\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET " + b"/" * 100000 + b" HTTP/1.1\r\n\r\n"], ids=range(7))
def test_raw_bytes(devbox, api, raw):
    """Whatever comes on the socket, the gateway goes on and is the same process."""
    pid = devbox.daemons("gateway")[0]["pid"]
    with socket.create_connection(("127.0.0.1", devbox.port), timeout=60) as s:
        try:
            s.sendall(raw)
            s.settimeout(3)
            while s.recv(65536):
                pass
        except OSError:
            pass
    assert requests.get(devbox.url + "/healthz", timeout=60).status_code == 200
    assert devbox.daemons("gateway")[0]["pid"] == pid
    assert json.loads(api.call("GET", "/api/version").text)
