# SPDX-License-Identifier: Apache-2.0
"""The registry cache alone: the real daemon between scripted upstreams, hostile ones among them, and raw clients; and the
real npm, pip, go and cargo against the registries that this machine uses, then with nothing behind the cache."""

import gzip
import hashlib
import http.client
import json
import os
import pathlib
import random
import shutil
import socket
import subprocess
import threading
import time

import pytest

from link_peer import Keyring
from registry_fixture import ROOT, Cache, Upstream, eventually, sri

TARBALL = bytes(random.Random(1).randbytes(300_000))


@pytest.fixture()
def up():
    u = Upstream()
    yield u
    u.close()


@pytest.fixture()
def make(up, tmp_path):
    made = []

    def one(*options, rules=None, upstreams=None, start=True):
        c = Cache(tmp_path / f"cache{len(made)}", upstreams or
                  f"npm {up.url}/npm\npypi {up.url}/simple\ngo {up.url}/go\ncrates sparse+{up.url}/crates/\n", *options, rules=rules)
        made.append(c)
        return c.start() if start else c

    yield one
    for c in made:
        c.stop()


# --- what each ecosystem is given ---


def test_npm(up, make):
    c = make()
    up.npm("@acme/tool", {"1.0.0": b"one", "1.1.0": TARBALL})
    for path in ("/npm/@acme%2ftool", "/npm/@acme/tool", "/npm/%40acme%2Ftool"):
        a = c.get(path)
        doc = json.loads(a.body)
        assert doc["versions"]["1.1.0"]["dist"]["tarball"] == f"{c.url}/npm/@acme/tool/-/tool-1.1.0.tgz"
        assert doc["versions"]["1.1.0"]["dist"]["integrity"] == sri(TARBALL)
    assert up.counts["/npm/@acme%2ftool"] == 1
    packed = c.get("/npm/@acme/tool", Accept_Encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip" and json.loads(gzip.decompress(packed.body)) == doc
    assert c.get("/npm/@acme/tool", Host="other.example:81").body.count(b"http://other.example:81/npm/") == 2
    a = c.get("/npm/@acme/tool/-/tool-1.1.0.tgz")
    assert (a.status, a.body) == (200, TARBALL) and a.headers["x-cache"] == "miss"
    a = c.get("/@acme/tool/-/tool-1.1.0.tgz")
    assert (a.status, a.body) == (200, TARBALL) and up.counts["/npm/@acme/tool/-/tool-1.1.0.tgz"] == 1
    assert c.get("/npm/@acme/tool/-/tool-9.9.9.tgz").status == 404
    assert json.loads(c.get("/npm/-/package/@acme%2ftool/dist-tags").body) == {"latest": "1.1.0"}
    assert c.get("/npm/nothing").status == 404
    up.pages["/npm/-/npm/v1/security/advisories/bulk"] = (200, {"Content-Type": "application/json"}, b'{"x":[]}')
    a = c.get("/npm/-/npm/v1/security/advisories/bulk", "POST", b"{}")
    assert (a.status, a.body) == (200, b'{"x":[]}')
    assert c.get("/npm/-/npm/v1/security/audits/quick", "POST", b"{}").status == 404
    assert c.get("/npm/@acme%2ftool", "PUT", b"{}").status == 405


def test_a_version_newer_than_the_metadata_is_found(up, make, monkeypatch):
    c = make("--swr-s=3600")
    up.npm("p", {"1.0.0": b"old"})
    assert c.get("/npm/p/-/p-1.0.0.tgz").body == b"old"
    up.npm("p", {"1.0.0": b"old", "2.0.0": b"new"})
    assert c.get("/npm/p/-/p-2.0.0.tgz").status == 404  # it was asked a moment ago
    eventually(lambda: c.get("/npm/p/-/p-2.0.0.tgz").body == b"new")


@pytest.mark.parametrize("html", [False, True])
def test_pypi(up, make, html):
    c = make()
    wheel, digest = TARBALL, hashlib.sha256(TARBALL).hexdigest()
    meta = b"Metadata-Version: 2.1\nName: pkg\n"
    up.pages["/files/pkg-1.0-py3-none-any.whl"] = (200, {}, wheel)
    up.pages["/files/pkg-1.0-py3-none-any.whl.metadata"] = (200, {}, meta)
    if html:
        up.pages["/simple/my-pkg/"] = (200, {"Content-Type": "text/html"}, f"""<a href="../../files/pkg-1.0-py3-none-any.whl#sha256={digest}"
            data-requires-python="&gt;=3" data-core-metadata="sha256={hashlib.sha256(meta).hexdigest()}">x</a>""".encode())
    else:
        up.pages["/simple/my-pkg/"] = (200, {"Content-Type": "application/vnd.pypi.simple.v1+json"}, json.dumps(
            {"meta": {"api-version": "1.1"}, "name": "my-pkg", "files": [
                {"filename": "pkg-1.0-py3-none-any.whl", "url": up.url + "/files/pkg-1.0-py3-none-any.whl", "hashes": {"sha256": digest},
                 "requires-python": ">=3", "core-metadata": {"sha256": hashlib.sha256(meta).hexdigest()}}]}).encode())
    assert c.get("/pypi/simple/My_Pkg").headers["location"] == "/pypi/simple/my-pkg/"
    a = c.get("/pypi/simple/My_Pkg/", Accept="application/vnd.pypi.simple.v1+json")
    assert a.headers["content-type"] == "application/vnd.pypi.simple.v1+json"
    f = json.loads(a.body)["files"][0]
    assert f["url"] == "../../files/my-pkg/pkg-1.0-py3-none-any.whl" and f["hashes"] == {"sha256": digest} and f["requires-python"] == ">=3"
    page = c.get("/pypi/simple/my-pkg/").body.decode()
    assert f'href="../../files/my-pkg/pkg-1.0-py3-none-any.whl#sha256={digest}"' in page and 'data-requires-python="&gt;=3"' in page
    assert c.get("/pypi/files/my-pkg/pkg-1.0-py3-none-any.whl.metadata").body == meta
    assert c.get("/pypi/files/my-pkg/pkg-1.0-py3-none-any.whl").body == wheel
    assert c.get("/pypi/files/my-pkg/other.whl").status == 404
    assert up.counts["/simple/my-pkg/"] <= 2


def test_go(up, make):
    c = make()
    up.pages["/go/x.org/!mod/@v/list"] = (200, {}, b"v1.0.0\n")
    up.pages["/go/x.org/!mod/@v/v1.0.0.zip"] = (200, {}, TARBALL)
    up.pages["/go/sumdb/s.org/tile/8/0/000"] = (200, {}, b"tile")
    up.pages["/go/sumdb/s.org/supported"] = (200, {}, b"")
    assert c.get("/go/x.org/!mod/@v/list").body == b"v1.0.0\n"
    for _ in range(2):
        assert c.get("/go/x.org/!mod/@v/v1.0.0.zip").body == TARBALL
        assert c.get("/go/sumdb/s.org/tile/8/0/000").body == b"tile"
    assert c.get("/go/sumdb/s.org/supported").status == 200
    assert c.get("/go/x.org/!mod/@latest").status == 404
    assert up.counts["/go/x.org/!mod/@v/v1.0.0.zip"] == up.counts["/go/sumdb/s.org/tile/8/0/000"] == 1


def test_crates(up, make):
    c = make()
    line = {"name": "Serde", "vers": "1.0.0", "cksum": hashlib.sha256(TARBALL).hexdigest(), "deps": [], "features": {}, "yanked": False}
    up.pages["/crates/config.json"] = (200, {}, json.dumps({"dl": up.url + "/dl/{lowerprefix}/{crate}/{version}.crate"}).encode())
    up.pages["/crates/se/rd/serde"] = (200, {}, json.dumps(line).encode() + b"\n")
    up.pages["/dl/se/rd/Serde/1.0.0.crate"] = (200, {}, TARBALL)
    assert json.loads(c.get("/crates/config.json").body)["dl"] == c.url + "/crates/api/v1/crates"
    assert json.loads(c.get("/crates/se/rd/serde").body) == line
    assert c.get("/crates/api/v1/crates/Serde/1.0.0/download").body == TARBALL
    assert c.get("/crates/api/v1/crates/Serde/2.0.0/download").status == 404


# --- HTTP ---


def test_conditions_and_ranges(up, make):
    c = make()
    up.npm("p", {"1.0.0": TARBALL})
    path, size = "/npm/p/-/p-1.0.0.tgz", len(TARBALL)
    head = c.get(path, "HEAD")  # also fills
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(size))
    etag = head.headers["etag"]
    assert c.get(path, If_None_Match=f'"x", W/{etag}').status == 304
    assert c.get(path, If_None_Match='"other"').status == 200
    for spec, want in {"bytes=0-9": TARBALL[:10], "bytes=100-": TARBALL[100:], "bytes=-7": TARBALL[-7:],
                       f"bytes={size - 1}-{size + 5}": TARBALL[-1:]}.items():
        a = c.get(path, Range=spec)
        assert (a.status, a.body) == (206, want), spec
        assert a.headers["content-range"].endswith(f"/{size}")
    assert c.get(path, Range=f"bytes={size}-").status == 416
    for spec in ("bytes=5-2", "bytes=0-1,3-4", "lines=1-2", "bytes=a-b", "bytes=-", "bytes=99999999999999999999-"):
        assert c.get(path, Range=spec).body == TARBALL, spec
    assert c.get(path, Range="bytes=0-9", If_Range='"other"').body == TARBALL
    assert c.get(path, Range="bytes=0-9", If_Range=etag).body == TARBALL[:10]
    a = c.get("/npm/p")
    assert c.get("/npm/p", If_None_Match=a.headers["etag"]).status == 304
    blob = c.get("/blobs/sha256/" + hashlib.sha256(TARBALL).hexdigest())
    assert blob.body == TARBALL and c.get("/blobs/sha256/" + "0" * 64).status == 404


def test_blobs_are_put_by_daemons(up, make, tmp_path):
    keys = Keyring(tmp_path / "keys")
    c, keyless = make(f"--keys={tmp_path / 'keys'}"), make()
    layer = random.Random(2).randbytes(3_000_000)
    path = "/blobs/sha256/" + hashlib.sha256(layer).hexdigest()
    daemon = {"Authorization": "Bearer " + keys.token("node:n1")}

    def put(cache, body=layer, at=path, **kw):
        return cache.get(at, method="PUT", body=body, **kw).status

    assert put(keyless, b"x", **daemon) == 403 and put(c, b"x") == 401
    for wrong in (keys.token("x", kind=1), keys.token("node:n1", lifetime=-600), "dbx1.x"):
        assert put(c, b"x", Authorization="Bearer " + wrong) == 403
    assert put(c, b"x", unix=True, **daemon) == 404
    assert put(c, body=layer[:-1], **daemon) == put(c, at="/blobs/sha256/" + "0" * 64, **daemon) == 400
    assert c.get(path).status == 404
    assert put(c, **daemon) == 201 and put(c, **daemon) == 200
    assert c.get(path).body == layer and c.get(path, Range="bytes=10-19").body == layer[10:20]
    c.kill()
    c.start()
    assert c.get(path).body == layer
    assert put(c, b"x", at="/npm/p", **daemon) == 405


def test_maps_of_layers(up, make, tmp_path):
    """A layer's key stands for blobs that are here, by the word of a node, and is forgotten with one of them."""
    keys = Keyring(tmp_path / "keys")
    c = make(f"--keys={tmp_path / 'keys'}", "--max-bytes=20000000")
    node = {"Authorization": "Bearer " + keys.token("node:n1")}
    parts = [random.Random(i).randbytes(n) for i, n in ((1, 8 << 20), (2, 1000))]
    digests = [hashlib.sha256(p).hexdigest() for p in parts]
    good = {"sha256": hashlib.sha256(b"".join(parts)).hexdigest(), "size": sum(map(len, parts)), "parts": digests, "seal": "dbx1.x"}
    path = "/layers/" + "ab" * 32

    def put(words, at=path, **kw):
        return c.get(at, method="PUT", body=words if isinstance(words, bytes) else json.dumps(words).encode(), **{**node, **kw})

    assert put(good).status == 409 and c.get(path).status == 404
    for part, digest in zip(parts, digests):
        assert put(part, "/blobs/sha256/" + digest).status == 201
    for name, bad in {"size": {**good, "size": 0}, "parts": {**good, "size": 5}, "sha256": {**good, "sha256": "x"},
                      "the body": {**good, "more": 1}, "the body ": b"{", "sha256 ": {"size": 1}}.items():
        answer = put(bad)
        assert answer.status == 400 and name.strip() in json.loads(answer.body)["error"], answer.body
    assert put({**good, "parts": [digests[1], digests[0]]}).status == 409  # not of these sizes
    assert put(b" " * 70000).status == 413
    for wrong in (keys.token("gateway"), keys.token("node:n1", kind=4), "dbx1.x"):
        assert put(good, Authorization="Bearer " + wrong).status == 403
    assert c.get(path, method="PUT", body=b"{}").status == 401 and put(good, unix=True).status == 404 and c.get(path, unix=True).status == 404
    assert put(good, "/layers/abc").status == 400 and put(good).status == 201
    c.kill()
    c.start()
    assert json.loads(c.get(path).body) == good
    assert put({**good, "seal": "another"}).status == 201 and json.loads(c.get(path).body)["seal"] == "another"
    for i in range(2):  # pushes the first part out of the store, and later what it has made room for
        blob = random.Random(3 + i).randbytes(8 << 20)
        assert put(blob, "/blobs/sha256/" + hashlib.sha256(blob).hexdigest()).status == 201
    assert c.get("/blobs/sha256/" + digests[0]).status == c.get(path).status == 404



def test_two_sides(up, make):
    c = make()
    up.npm("p", {"1.0.0": TARBALL})
    assert c.get("/npm/p/-/p-1.0.0.tgz", unix=True).body == TARBALL
    assert b"http://127.0.0.1:4873/npm/p/-/" in c.get("/npm/p", unix=True, Host="127.0.0.1:4873").body
    for path in ("/healthz", "/readyz", "/metrics", "/blobs/sha256/" + hashlib.sha256(TARBALL).hexdigest()):
        assert c.get(path, unix=True).status == 404 and c.get(path).status == 200


@pytest.mark.parametrize("path", [
    "/npm/..%2f..%2fetc", "/npm/%2e%2e%2fx", "/npm/@a%2fb%2fc", "/npm/a%00b", "/npm/%c3%a9", "/npm/" + "a" * 300, "/npm/__proto__",
    "/npm/a/../../x", "/npm/a%zz", "/npm//a", "/pypi/simple/..%5cx/", "/pypi/files/p/..%2f..%2fx", "/go/a.b/..%2fx/@v/list",
    "/go/a.b%2fc/@v/list", "/crates/api/v1/crates/a%2fb/1.0.0/download", "/crates/api/v1/crates/a/..%2f/download", "/blobs/sha256/xyz",
    "/" + "x" * 3000, "/npm/a b"])
def test_hostile_names(up, make, path):
    c = make()
    s = socket.create_connection(("127.0.0.1", c.port))
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
    assert s.makefile("rb").readline().split()[1] in (b"400", b"404")
    assert not up.counts


def test_poisoning(up, make):
    """The key is the canonical name: what else a client sends changes nothing for others."""
    c = make()
    up.npm("p", {"1.0.0": TARBALL})
    c.get("/npm/p", Host="evil.example", X_Forwarded_Host="evil.example", X_Forwarded_Proto="https", Range="bytes=0-1")
    a = c.get("/npm/p", Accept_Encoding="gzip;q=0")
    assert b"evil" not in a.body and "content-encoding" not in a.headers
    assert c.get("/npm/p?x=1").body == a.body
    assert c.get("/npm/p", Host="a/b").status == 400 and c.get("/npm/p", Host='h"x').status == 400
    assert sum(up.counts.values()) == 1


# --- one fetch, whoever waits ---


def read_answer(sock):
    f = sock.makefile("rb")
    status = int(f.readline().split()[1])
    length = None
    for line in iter(f.readline, b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return status, f.read(length)


def test_a_thousand_wait_for_one_fetch(up, make):
    c = make("--max-connections=3000")
    go, first = threading.Event(), threading.Event()

    def slow(h):
        h.send_response(200)
        h.send_header("Content-Length", str(len(TARBALL)))
        h.end_headers()
        h.wfile.write(TARBALL[:100_000])
        h.wfile.flush()
        first.set()
        go.wait(60)
        h.wfile.write(TARBALL[100_000:])

    up.npm("p", {"1.0.0": TARBALL})
    up.pages["/npm/p/-/p-1.0.0.tgz"] = slow
    ask = b"GET /npm/p/-/p-1.0.0.tgz HTTP/1.1\r\nHost: h\r\n\r\n"
    socks = []
    for _ in range(1000):
        s = socket.create_connection(("127.0.0.1", c.port))
        s.settimeout(60)
        s.sendall(ask)
        socks.append(s)
    assert first.wait(60)
    got = b""
    while len(got) < 60_000:  # it streams while it fills
        got += socks[500].recv(65536)
    assert not go.is_set()
    socks[0].close()  # who asked first leaves; so does somebody who has seen a part
    socks[500].close()
    go.set()
    assert all(read_answer(s) == (200, TARBALL) for s in socks[1:] if s.fileno() >= 0)
    for s in socks:
        s.close()
    assert up.counts["/npm/p/-/p-1.0.0.tgz"] == 1 and up.counts["/npm/p"] == 1


def test_the_fill_goes_on_without_clients(up, make):
    c = make()
    go, begun = threading.Event(), threading.Event()

    def slow(h):
        begun.set()
        go.wait(60)
        return 200, {}, TARBALL

    up.npm("p", {"1.0.0": TARBALL})
    up.pages["/npm/p/-/p-1.0.0.tgz"] = slow
    s = socket.create_connection(("127.0.0.1", c.port))
    s.sendall(b"GET /npm/p/-/p-1.0.0.tgz HTTP/1.1\r\nHost: h\r\n\r\n")
    assert begun.wait(60)
    s.close()
    go.set()
    eventually(lambda: c.metrics()["devbox_registry_fills"] == 0)
    a = c.get("/npm/p/-/p-1.0.0.tgz")
    assert a.body == TARBALL and a.headers["x-cache"] == "hit" and up.counts["/npm/p/-/p-1.0.0.tgz"] == 1


# --- freshness ---


def test_revalidation(up, make):
    c = make("--swr-s=0")
    up.npm("p", {"1.0.0": b"x"})
    status, headers, body = up.pages["/npm/p"]
    seen = []

    def page(h):
        seen.append(h.headers.get("If-None-Match"))
        if seen[-1] == '"v1"':
            return 304, {"ETag": '"v1"', "Cache-Control": "max-age=0"}, b""
        return 200, {**headers, "ETag": '"v1"', "Cache-Control": "max-age=0"}, body

    up.pages["/npm/p"] = page
    first = c.get("/npm/p").body
    assert c.get("/npm/p").body == first and seen == [None, '"v1"']


def test_stale_while_revalidate_and_if_error(up, make):
    c = make("--swr-s=3600")
    up.npm("p", {"1.0.0": b"x"})
    status, headers, body = up.pages["/npm/p"]
    up.pages["/npm/p"] = (200, {**headers, "Cache-Control": "max-age=0"}, body)
    assert c.get("/npm/p").headers["x-cache"] == "miss"
    up.npm("p", {"1.0.0": b"x", "2.0.0": b"y"})
    a = c.get("/npm/p")
    assert a.headers["x-cache"] == "stale" and b"2.0.0" not in a.body
    eventually(lambda: b"2.0.0" in c.get("/npm/p").body)
    d = make("--swr-s=0")
    up.pages["/npm/p"] = (200, {"Cache-Control": "max-age=0"}, body)
    assert d.get("/npm/p").status == 200
    for bad in (lambda h: (500, {}, b""), lambda h: (429, {}, b"")):
        up.pages["/npm/p"] = bad
        a = d.get("/npm/p")
        assert (a.status, a.headers["x-cache"]) == (200, "stale")
    up.away = True
    assert (d.get("/npm/p").status, d.get("/npm/q").status) == (200, 502)
    for _ in range(3):
        d.get("/npm/r")
    began = time.monotonic()
    assert d.get("/npm/s").status == 503 and time.monotonic() - began < 5  # nobody waits for who is away


def test_offline(up, make):
    c = make("--swr-s=0")
    up.npm("p", {"1.0.0": TARBALL})
    up.pages["/npm/p"] = (200, {"Cache-Control": "max-age=0"}, up.pages["/npm/p"][2])
    assert c.get("/npm/p/-/p-1.0.0.tgz").body == TARBALL and c.get("/npm/p").status == 200
    c.stop()
    up.counts.clear()
    c.start("--offline")
    assert c.get("/npm/p/-/p-1.0.0.tgz").body == TARBALL
    assert b"/npm/p/-/p-1.0.0.tgz" in c.get("/npm/p").body
    assert c.get("/npm/other").status == 503
    assert c.get("/npm/-/v1/search?text=x").status == 503
    assert not up.counts


# --- upstreams that lie ---


def lie(up, make, page, *options, expect=None):
    """The tarball's page is `page`; returns the cache and what a client gets."""
    c = make(*options)
    up.npm("p", {"1.0.0": TARBALL})
    up.pages["/npm/p/-/p-1.0.0.tgz"] = page
    try:
        a = c.get("/npm/p/-/p-1.0.0.tgz")
        return c, a.status, a.body
    except (http.client.IncompleteRead, ConnectionError) as e:
        return c, None, getattr(e, "partial", b"")


def honest_again(up, c):
    up.pages["/npm/p/-/p-1.0.0.tgz"] = (200, {}, TARBALL)
    eventually(lambda: c.get("/npm/p/-/p-1.0.0.tgz").body == TARBALL)


@pytest.mark.parametrize("size", [1000, 300_000])
def test_wrong_hash(up, make, size):
    c, status, body = lie(up, make, (200, {}, b"\0" * size))
    assert status in (502, None) and len(body) < size  # never the whole
    assert size > 1000 or status == 502
    assert c.metrics()['devbox_registry_mismatches_total{ecosystem="npm"}'] == 1
    honest_again(up, c)


def test_wrong_length(up, make):
    def short(h):
        h.send_response(200)
        h.send_header("Content-Length", str(len(TARBALL)))
        h.end_headers()
        h.wfile.write(TARBALL[:-10])
        h.close_connection = True

    c, status, body = lie(up, make, short)
    assert status in (502, None) and len(body) < len(TARBALL)
    honest_again(up, c)


def test_endless_body(up, make):
    def endless(h):
        h.send_response(200)
        h.send_header("Transfer-Encoding", "chunked")
        h.end_headers()
        while True:
            h.wfile.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")

    c, status, body = lie(up, make, endless, "--max-object=1000000")
    assert status in (502, None) and len(body) < 1_100_000
    c2, status, body = lie(up, make, lambda h: (200, {"Content-Length": "99999999999"}, b"x"), "--max-object=1000000")
    assert status == 502
    honest_again(up, c)


def test_slow_body(up, make):
    stop = threading.Event()

    def trickle(h):
        h.send_response(200)
        h.send_header("Content-Length", str(len(TARBALL)))
        h.end_headers()
        for i in range(60):
            h.wfile.write(b"x")
            h.wfile.flush()
            if stop.wait(0.5):
                return

    began = time.monotonic()
    c, status, body = lie(up, make, trickle, "--stall-ms=1000")
    stop.set()
    assert status == 504 and time.monotonic() - began < 15
    assert c.get("/healthz").status == 200
    honest_again(up, c)


@pytest.mark.parametrize("to", ["http://127.0.0.1:9/x", "http://169.254.169.254/x", "file:///etc/passwd", "//[::1]:9/x",
                                "http://user:pw@127.0.0.1/x", "/npm/p/-/p-1.0.0.tgz", "gopher://x/", ""])
def test_redirects(up, make, to):
    c, status, body = lie(up, make, (302, {"Location": to}, b""))
    assert status == 502
    honest_again(up, c)


def test_a_redirect_that_may_be_followed(up, make):
    up.pages["/elsewhere"] = (200, {}, TARBALL)
    c, status, body = lie(up, make, (302, {"Location": "../../../elsewhere"}, b""))
    assert (status, body) == (200, TARBALL)


def test_metadata_that_points_inside(up, make):
    other = Upstream()
    try:
        other.pages["/secret"] = (200, {}, b"secret")
        c = make()
        up.pages["/npm/p"] = (200, {}, json.dumps({"versions": {"1.0.0": {"dist": {"tarball": other.url + "/secret", "integrity": sri(b"secret")}},
                                                                "2.0.0": {"dist": {"tarball": "file:///etc/passwd"}}}}).encode())
        assert c.get("/npm/p/-/secret").status == 502 and c.get("/npm/p/-/passwd").status == 404
        assert not other.counts
        trusting = make(upstreams=f"npm {up.url}/npm\ntrust 127.0.0.1\n")
        assert trusting.get("/npm/p/-/secret").body == b"secret"
    finally:
        other.close()


@pytest.mark.parametrize("body,headers", [
    (b"{", {}), (b"[" * 1000, {}), (b'{"versions":{"1.0.0":{"dist":{"tarball":"' + b"x" * 20000 + b'"}}}}', {}),
    (gzip.compress(b'{"a":"' + b"\x20" * 30_000_000 + b'"}'), {"Content-Encoding": "gzip"}), (b"not gzip", {"Content-Encoding": "gzip"}),
    (gzip.compress(b'{"a":1}')[:-4], {"Content-Encoding": "gzip"}), (b"{}", {"Content-Encoding": "br"}), (b"\xff\xfe", {}), (b"", {})])
def test_bad_documents(up, make, body, headers):
    c = make("--max-document=10000000")
    up.pages["/npm/p"] = (200, headers, body)
    assert c.get("/npm/p").status == 502
    assert c.get("/npm/p/-/p-1.0.0.tgz").status == 502
    up.npm("p", {"1.0.0": TARBALL})
    assert c.get("/npm/p/-/p-1.0.0.tgz").body == TARBALL


def test_a_large_packument(up, make):
    """30 MB, by a daemon whose memory hardly grows."""
    c = make()
    data = b"tiny"
    doc = {"name": "big", "versions": {f"1.0.{i}": {"readme": "x" * 10000, "dist": {"tarball": f"{up.url}/npm/big/-/big-1.0.{i}.tgz",
                                                                                    "integrity": sri(data)}} for i in range(3000)}}
    up.pages["/npm/big"] = (200, {}, json.dumps(doc).encode())
    up.pages["/npm/big/-/big-1.0.2999.tgz"] = (200, {}, data)
    rss = lambda: int((pathlib.Path("/proc") / str(c.process.pid) / "statm").read_text().split()[1]) * 4096
    c.get("/healthz")
    before = rss()
    got = json.loads(c.get("/npm/big").body)
    assert len(got["versions"]) == 3000 and got["versions"]["1.0.2999"]["dist"]["tarball"].startswith(c.url)
    assert c.get("/npm/big/-/big-1.0.2999.tgz").body == data
    assert rss() - before < 40_000_000  # the sanitizer's quarantine included


def test_what_never_changes_may_not(up, make):
    """A version without a digest whose bytes change after they were evicted: the first ones count."""
    c = make("--max-bytes=1048576")
    up.pages["/go/x.org/m/@v/v1.0.0.zip"] = (200, {}, b"a" * 600_000)
    assert c.get("/go/x.org/m/@v/v1.0.0.zip").status == 200
    for i in range(3):
        up.pages[f"/go/x.org/n/@v/v1.0.{i}.zip"] = (200, {}, bytes([i]) * 600_000)
        assert c.get(f"/go/x.org/n/@v/v1.0.{i}.zip").status == 200
    eventually(lambda: c.metrics()["devbox_registry_store_evicted"] == 3)
    assert c.metrics()["devbox_registry_store_bytes"] <= 1 << 20
    c.stop()
    c.start()
    up.pages["/go/x.org/m/@v/v1.0.0.zip"] = (200, {}, b"b" * 600_000)
    try:
        a = c.get("/go/x.org/m/@v/v1.0.0.zip")
        assert a.status == 502
    except (http.client.IncompleteRead, ConnectionError):
        pass
    up.pages["/go/x.org/m/@v/v1.0.0.zip"] = (200, {}, b"a" * 600_000)
    eventually(lambda: c.get("/go/x.org/m/@v/v1.0.0.zip").body == b"a" * 600_000)


# --- what may be asked for, and with whose name ---


def test_rules(up, make):
    c = make(rules="deny npm:evil*\nprivate npm:@acme/*\nallow pypi:good\n")
    for name in ("evil", "@acme/x", "fine"):
        up.npm(name, {"1.0.0": b"x"})
    assert [c.get(f"/npm/{n}").status for n in ("evil", "EVIL-2", "@acme/x", "@Acme/x", "fine")] == [403, 403, 404, 404, 200]
    assert c.get("/npm/@acme/x/-/x-1.0.0.tgz").status == 404
    assert c.get("/pypi/simple/bad/").status == 403 and c.get("/pypi/simple/good/").status == 404
    assert not any("acme" in path or "evil" in path for path in up.counts)


def test_credentials(up, make):
    other = Upstream()
    try:
        host = up.url.removeprefix("http://")
        c = make(upstreams=f"npm http://user:s3cret%40@{host}/npm\ntrust localhost\n")
        up.npm("p", {"1.0.0": b"x"})
        page = up.pages["/npm/p"]
        up.pages["/npm/p"] = (page[0], page[1], page[2].replace(b"/npm/p/-/p-1.0.0.tgz", b"/away"))
        up.pages["/away"] = (302, {"Location": other.url.replace("127.0.0.1", "localhost") + "/p"}, b"")
        other.pages["/p"] = (200, {}, b"x")
        answers = [c.get("/npm/p"), c.get("/npm/p/-/away"), c.get("/npm/none")]
        assert answers[1].body == b"x"
        assert all(h["Authorization"] == "Basic dXNlcjpzM2NyZXRA" for _, h in up.heads)
        assert all("Authorization" not in h for _, h in other.heads) and other.heads
        index = (c.folder / "store" / "index").read_bytes()
        said = c.log().encode() + index + b"".join(a.body + str(a.headers).encode() for a in answers)
        assert b"s3cret" not in said and b"dXNlcjpz" not in said
    finally:
        other.close()


def test_no_upstream(make):
    c = make(upstreams="# nothing\n")
    a = c.get("/npm/p")
    assert a.status == 503 and b"npm" in a.body


# --- the store ---


def test_kill_at_any_instant(up, make):
    """kill -9 under load, again and again: what is served equals its digest, always."""
    rounds = 100 if os.environ.get("DEVBOX_LONG") == "1" else 20
    rng = random.Random(7)
    data = {f"p{i}": {f"1.0.{v}": rng.randbytes(rng.choice([500, 40_000, 400_000])) for v in range(4)} for i in range(40)}
    for name, files in data.items():
        up.npm(name, files)
    c = make("--max-bytes=12000000", "--swr-s=0", start=False)
    wrong, served = [], [0]

    def client(stop, seed):
        mine = random.Random(seed)
        while not stop.is_set():
            name = mine.choice(list(data))
            version = mine.choice(list(data[name]))
            try:
                if mine.random() < 0.2:
                    a = c.get(f"/npm/{name}", timeout=60)
                    good = a.status != 200 or len(json.loads(a.body)["versions"]) == 4
                else:
                    a = c.get(f"/npm/{name}/-/{name}-{version}.tgz", timeout=60)
                    good = a.status != 200 or a.body == data[name][version]
            except (OSError, http.client.HTTPException):
                continue
            served[0] += a.status == 200
            if not good:
                wrong.append((name, version, a.status))

    for i in range(rounds):
        c.start()
        stop = threading.Event()
        threads = [threading.Thread(target=client, args=(stop, i * 10 + k)) for k in range(4)]
        for t in threads:
            t.start()
        time.sleep(rng.uniform(0.02, 0.4))  # the instant is what is tried
        c.kill()
        stop.set()
        for t in threads:
            t.join()
        assert not wrong
    r = c.fsck()
    assert r.returncode == 0, r.stdout + r.stderr
    c.start()
    for name, files in data.items():
        for version, want in files.items():
            assert c.get(f"/npm/{name}/-/{name}-{version}.tgz").body == want
    assert served[0] > rounds


def test_fsck(up, make):
    c = make()
    up.npm("p", {"1.0.0": TARBALL})
    assert c.get("/npm/p/-/p-1.0.0.tgz").status == 200
    assert c.fsck().returncode == 1  # it is in use
    c.stop()
    assert c.fsck().returncode == 0
    digest = hashlib.sha256(TARBALL).hexdigest()
    blob = c.folder / "store" / "blobs" / digest[:2] / digest
    damaged = bytearray(TARBALL)
    damaged[1000] ^= 1
    blob.chmod(0o640)
    blob.write_bytes(damaged)
    r = c.fsck()
    assert r.returncode == 3 and digest in r.stdout and not blob.exists()
    c.start()
    assert c.get("/npm/p/-/p-1.0.0.tgz").body == TARBALL


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_blob_that_was_damaged(up, make, damage):
    c = make()
    up.npm("p", {"1.0.0": TARBALL})
    eventually(lambda: c.get("/npm/p/-/p-1.0.0.tgz").headers["x-cache"] == "hit")
    digest = hashlib.sha256(TARBALL).hexdigest()
    c.stop()
    blob = c.folder / "store" / "blobs" / digest[:2] / digest
    if damage == "cut":
        os.truncate(blob, 5)
    else:
        with open(blob, "r+b") as f:
            f.seek(1000)
            f.write(bytes([TARBALL[1000] ^ 1]))
    c.start()
    assert c.get("/npm/p/-/p-1.0.0.tgz").body == TARBALL


def test_a_blob_that_goes_under_it(up, make):
    """Seen only when it is opened: it is fetched again, from where the metadata says."""
    c = make()
    up.npm("p", {"1.0.0": TARBALL})
    eventually(lambda: c.get("/npm/p/-/p-1.0.0.tgz").headers["x-cache"] == "hit")
    c.stop()
    c.start()
    digest = hashlib.sha256(TARBALL).hexdigest()
    (c.folder / "store" / "blobs" / digest[:2] / digest).unlink()
    assert c.get("/npm/p/-/p-1.0.0.tgz").body == TARBALL


# --- the real clients ---


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A cache in front of what this machine's clients use."""
    folder = tmp_path_factory.mktemp("real")
    subprocess.run([ROOT / "cli/supervisor/find-upstreams", folder / "found.conf"], check=True, timeout=120)
    c = Cache(folder / "cache", (folder / "found.conf").read_text())
    c.start()
    yield c
    c.stop()


def call(*words, cwd, timeout=600, **env):
    base = {k: v for k, v in os.environ.items() if not k.startswith(("npm_", "PIP_", "GO", "CARGO_"))}
    r = subprocess.run(words, cwd=cwd, env=base | env, capture_output=True, text=True, timeout=timeout)
    assert r.returncode == 0, (words, r.stdout[-2000:], r.stderr[-3000:])
    return r.stdout


def npm(c, at):
    (at / "package.json").write_text('{"name":"x","version":"1.0.0"}')
    call("npm", "install", "express", "@sindresorhus/is", "--registry", c.url + "/npm/", "--cache", str(at / "npm-cache"), "--no-audit", cwd=at)
    lock = json.loads((at / "package-lock.json").read_text())
    assert len(lock["packages"]) > 20
    shutil.rmtree(at / "node_modules")
    shutil.rmtree(at / "npm-cache")
    call("npm", "ci", "--registry", c.url + "/npm/", "--cache", str(at / "npm-cache"), "--no-audit", cwd=at)
    assert call("node", "-e", "console.log(typeof require('express'))", cwd=at) == "function\n"


def pip(c, at):
    python = next(p for p in ("/usr/bin/python3", "python3") if subprocess.run([p, "-m", "pip", "--version"], capture_output=True).returncode == 0)
    call(python, "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check", "--index-url", c.url + "/pypi/simple", "--target", str(at / "t"),
         "flask", "markupsafe", cwd=at)
    assert call(python, "-c", "import flask, markupsafe._speedups; print('ok')", cwd=at, PYTHONPATH=str(at / "t")) == "ok\n"


def go(c, at):
    env = {"GOPROXY": c.url + "/go", "GOMODCACHE": str(at / "mod"), "GOFLAGS": "-modcacherw", "GOTOOLCHAIN": "local"}
    call("go", "mod", "init", "x", cwd=at, **env)
    (at / "main.go").write_text('package main\n\nimport (\n\t"fmt"\n\t"rsc.io/quote"\n)\n\nfunc main() { fmt.Println(quote.Glass()) }\n')
    call("go", "get", "rsc.io/quote@v1.5.2", cwd=at, **env)
    call("go", "build", "-o", "x", ".", cwd=at, **env)
    assert "glass" in call("./x", cwd=at)


def cargo(c, at):
    (at / "home").mkdir()
    (at / "home" / "config.toml").write_text(f'[source.crates-io]\nreplace-with = "cache"\n[source.cache]\nregistry = "sparse+{c.url}/crates/"\n')
    (at / "Cargo.toml").write_text('[package]\nname = "x"\nversion = "0.1.0"\nedition = "2021"\n')
    (at / "src").mkdir()
    (at / "src" / "main.rs").write_text('#[derive(serde::Serialize)]\nstruct S;\nfn main() { let _ = S; println!("ok") }\n')
    call("cargo", "add", "serde", "--features", "derive", cwd=at, CARGO_HOME=str(at / "home"))
    assert call("cargo", "run", "-q", cwd=at, CARGO_HOME=str(at / "home"),
                CARGO_TARGET_DIR=str(at.parent / "target")) == "ok\n"


# What this machine does not have runs in sandboxes (test_packages.py), of whose images all four are part.
@pytest.mark.parametrize("client", [c for c in (npm, pip, go, cargo) if c is pip or shutil.which(c.__name__)])
def test_real_clients(real, client, tmp_path):
    """Unmodified, then again with nothing behind the cache."""
    for name, options in (("online", []), ("offline", ["--offline"])):
        at = tmp_path / name
        at.mkdir()
        real.stop()
        real.start(*options)
        client(real, at)
        assert (real.metrics()["devbox_registry_received_bytes_total"] == 0) == bool(options) or not options
