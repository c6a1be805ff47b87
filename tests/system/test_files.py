# SPDX-License-Identifier: Apache-2.0
"""Files in bulk: fork, download, upload, archives, the hostile ones among them."""

import bz2
import hashlib
import io
import lzma
import pathlib
import tarfile
import uuid
import zipfile

import pytest

from test_gateway import World
from test_socket import Workspace


@pytest.fixture(scope="module", params=["in rows", "in blobs"])
def w(tmp_path_factory, request):
    tmp = tmp_path_factory.mktemp("files")
    world = World(tmp, *([f"--blobs=file:{tmp}/blobs", "--blob-threshold=1"] if request.param == "in blobs" else []))
    yield world
    world.close()


@pytest.fixture()
def ws(w):
    return Workspace(w.api)


def tree(api, ws):
    return {e["path"]: e for e in api.call("GET", ws.path + "/files").json()}


def error_of(r):
    e = r.json()["error"]
    return r.status_code, e["code"], e["field"]


def test_a_workspace_with_its_files(w, ws):
    ws.create("d/a.txt", "a")
    got = w.api.call("GET", ws.path).json()
    assert got["files"] == w.api.call("GET", ws.path + "/files").json() and len(got["files"]) == 2


def test_fork(w, ws):
    ws.create("d/a.txt", "alpha")
    other = w.user("fork-user-0123456789-abc")
    assert other.call("POST", ws.path + "/fork").status_code == 404
    w.api.call("PUT", ws.path, json={"sharing_mode": "view"})
    key = {"Idempotency-Key": str(uuid.uuid4())}
    r = other.call("POST", ws.path + "/fork", headers=key)
    assert r.status_code == 201, r.text
    fork = r.json()
    assert (fork["name"], fork["sharing_mode"], fork["role"], fork["template"]) == ("test (fork)", "private", "owner", "python")
    assert other.call("POST", ws.path + "/fork", headers=key).json() == fork
    assert other.call("POST", ws.path + "/fork", headers=key, json={"name": "x"}).status_code == 409
    files = other.call("GET", f"/api/workspaces/{fork['id']}").json()["files"]
    mine = tree(w.api, ws)
    assert [(f["path"], f["etag"]) for f in files] == [(p, mine[p]["etag"]) for p in sorted(mine)]
    assert not {f["id"] for f in files} & {e["id"] for e in mine.values()}
    assert other.call("POST", ws.path + "/fork", json={"name": "mine"}).json()["name"] == "mine"
    assert w.api.call("GET", f"/api/workspaces/{fork['id']}").json()["role"] == "admin"
    assert error_of(other.call("POST", ws.path + "/fork", json={"name": ""})) == (400, "invalid", "name")


def test_content(w, ws):
    f = ws.create("d/ä \"<b>.html", "<script>alert(1)</script>")
    url = f"/api/files/{f['id']}/content"
    r = w.api.call("GET", url)
    assert r.content == b"<script>alert(1)</script>" and r.headers["ETag"] == f'"{f["etag"]}"'
    assert r.headers["Content-Type"] == "application/octet-stream" and r.headers["X-Content-Type-Options"] == "nosniff"
    assert r.headers["Content-Disposition"].startswith('attachment; filename="') and "default-src 'none'" in r.headers["Content-Security-Policy"]
    assert "filename*=UTF-8''%C3%A4%20%22%3Cb%3E.html" in r.headers["Content-Disposition"]
    for given, status, body, header in (("bytes=0-3", 206, b"<scr", "bytes 0-3/25"), ("bytes=-2", 206, b"t>", "bytes 23-24/25"),
                                        ("bytes=20-99", 206, b"ript>", "bytes 20-24/25"), ("bytes=1-0", 200, r.content, None),
                                        ("bytes=0-1,3-4", 200, r.content, None), ("bytes=25-", 416, None, "bytes */25")):
        got = w.api.call("GET", url, headers={"Range": given})
        assert got.status_code == status and got.headers.get("Content-Range") == header and (body is None or got.content == body)
    assert w.api.call("GET", url, headers={"If-None-Match": r.headers["ETag"]}).status_code == 304
    assert w.api.call("GET", url, headers={"Range": "bytes=0-1", "If-Range": '"x"'}).status_code == 200
    head = w.api.call("HEAD", url)
    assert head.status_code == 200 and head.headers["Content-Length"] == "25" and not head.content
    folder = tree(w.api, ws)["d"]["id"]
    assert error_of(w.api.call("GET", f"/api/files/{folder}/content")) == (409, "directory", None)
    assert w.user("content-stranger-0123456789").call("GET", url).status_code == 404


def test_download_and_import_again(w, ws):
    long = "/".join(["l" * 100] * 8) + "/é.txt"
    content = {"a.txt": b"alpha", "d/run.sh": b"#!/bin/sh\n", long: b"\xc3\xa9", "empty": b""}
    for path, data in content.items():
        ws.create(path, data.decode())
    w.api.call("POST", ws.path + "/files", json={"path": "nothing", "type": "directory"})
    for kind in ("zip", "tar"):
        r = w.api.call("GET", ws.path + f"/archive?format={kind}")
        assert r.status_code == 200 and f'"test.{kind}"' in r.headers["Content-Disposition"]
        if kind == "zip":
            z = zipfile.ZipFile(io.BytesIO(r.content))
            assert z.testzip() is None
            got = {i.filename: z.read(i) for i in z.infolist() if not i.is_dir()}
            assert "nothing/" in z.namelist() and z.getinfo("d/run.sh").external_attr >> 16 == 0o100755
        else:
            t = tarfile.open(fileobj=io.BytesIO(r.content))
            got = {m.name: t.extractfile(m).read() for m in t.getmembers() if m.isfile()}
            assert t.getmember("d/run.sh").mode == 0o755 and t.getmember("nothing").isdir()
        assert got == content
        other = Workspace(w.api)
        r = w.api.call("POST", other.path + "/archive", data=r.content)
        assert r.status_code == 201, r.text
        assert r.json()["files"] == 4 and r.json()["bytes"] == sum(map(len, content.values()))
        assert {p: e["etag"] for p, e in tree(w.api, other).items()} == {p: e["etag"] for p, e in tree(w.api, ws).items()}
    assert error_of(w.api.call("GET", ws.path + "/archive?format=rar")) == (400, "invalid", "format")


def test_upload(w, ws):
    ws.create("d/old.txt", "old")
    files = [("file", ("d/old.txt", b"new")), ("file", ("d/e/b.bin", bytes(range(256)))), ("f", ("ü.txt", "ü".encode()))]
    key = {"Idempotency-Key": str(uuid.uuid4())}
    r = w.api.call("POST", ws.path + "/upload?path=in/here", files=files, headers=key)
    assert r.status_code == 201 and r.json() == {"files": 3, "directories": 4, "bytes": 3 + 256 + 2}, r.text
    assert w.api.call("POST", ws.path + "/upload", files=files).status_code == 201
    t = tree(w.api, ws)
    assert t["d/old.txt"]["etag"] == hashlib.sha256(b"new").hexdigest() and t["in/here/d/e/b.bin"]["size"] == 256
    assert w.api.call("GET", f"/api/files/{t['d/e/b.bin']['id']}/content").content == bytes(range(256))
    big = b"x" * (5 << 20)
    assert w.api.call("POST", ws.path + "/upload", files=[("f", ("big", big))]).status_code == 201
    f = tree(w.api, ws)["big"]
    assert w.api.call("GET", f"/api/files/{f['id']}/content").content == big
    r = w.api.call("GET", f"/api/files/{f['id']}")
    assert r.status_code == 200 and r.json()["size"] == 5 << 20 and "content" not in r.json()
    before = tree(w.api, ws)

    def bad(files, path=""):
        r = w.api.call("POST", ws.path + "/upload" + path, files=files)
        assert tree(w.api, ws) == before, r.text
        return error_of(r)

    for name in ("../x", "/x", "a//b", "x" * 300):
        assert bad([("f", ("good", b"1")), ("f", (name, b"1"))])[0] == 400, name
    assert bad([("f", ("a", b"1")), ("f", ("a", b"2"))]) == (400, "invalid", "path")
    assert bad([("f", ("a", b"1")), ("f", ("a/b", b"2"))])[0] == 400
    assert bad([("f", ("d/old.txt/x", b"1"))]) == (409, "exists", "path")
    assert bad([("f", ("d", b"1"))]) == (409, "exists", "path")
    assert bad([("f", ("a", b"1"))], "?path=../x") == (400, "invalid", "path")
    assert bad([("f", ("a", b"x" * ((16 << 20) + 1)))])[0] in (400, 413)
    assert bad([("f", (f"m/{i}", b"")) for i in range(1001)])[0] in (400, 409, 413)
    assert error_of(w.api.call("POST", ws.path + "/upload", data=b"x"))[0] == 400
    assert w.api.call("POST", ws.path + "/upload", data=b"x" * (36 << 20), headers={"Content-Type": "multipart/form-data; boundary=b"}).status_code == 413
    viewer = w.user("upload-viewer-0123456789-x")
    w.api.call("PUT", ws.path, json={"sharing_mode": "view"})
    assert viewer.call("POST", ws.path + "/upload", files=files).status_code == 403


def tar_of(*members, mode="w"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=tarfile.PAX_FORMAT) as t:
        for name, kind, data in members:
            i = tarfile.TarInfo(name)
            i.type, i.mode = kind, 0o6777
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                i.linkname, data = data, b""
            i.size = len(data)
            t.addfile(i, io.BytesIO(data))
    return out.getvalue()


def zip_of(*members, **kw):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, **kw) as z:
        for name, data in members:
            z.writestr(name, data)
    return out.getvalue()


F, D = tarfile.REGTYPE, tarfile.DIRTYPE
GOOD = ("good.txt", F, b"good")
HOSTILE = {
    "dotdot": tar_of(GOOD, ("../../x", F, b"x")),
    "absolute": tar_of(GOOD, ("/etc/x", F, b"x")),
    "inner dotdot": tar_of(GOOD, ("a/../../x", F, b"x")),
    "backslash": zip_of(("good", "1"), ("..\\x", "1")),
    "drive": zip_of(("good", "1"), ("C:\\x", "1")),
    "control": tar_of(GOOD, ("a\x1b]0;x\x07", F, b"")),
    "long": tar_of(GOOD, ("x/" * 600 + "y", F, b"")),
    "symlink": tar_of(GOOD, ("l", tarfile.SYMTYPE, "/etc"), ("l/passwd", F, b"x")),
    "inner symlink": tar_of(GOOD, ("l", tarfile.SYMTYPE, "good.txt")),
    "hard link": tar_of(GOOD, ("h", tarfile.LNKTYPE, "../../etc/passwd")),
    "character device": tar_of(GOOD, ("c", tarfile.CHRTYPE, b"")),
    "block device": tar_of(GOOD, ("b", tarfile.BLKTYPE, b"")),
    "fifo": tar_of(GOOD, ("p", tarfile.FIFOTYPE, b"")),
    "twice": tar_of(GOOD, GOOD),
    "file and folder": tar_of(("a", F, b"x"), ("a/b", F, b"y")),
    "cut": tar_of(GOOD, ("y", F, b"y" * 5000))[:3000],
    "cut zip": zip_of(("a", "x" * 5000))[:-30],
    "nothing": b"x",
    "no archive": b"\x00" * 2048,
    "zeros": zip_of(("z", bytes(24 << 20))),
    "zeros twice": bz2.compress(tar_of(("a", F, bytes(15 << 20)), ("b", F, bytes(15 << 20)), ("c", F, bytes(15 << 20)))),
    "many": tar_of(*[(f"f{i}", F, b"") for i in range(2500)]),
    "rar": b"Rar!\x1a\x07\x01\x00" + bytes(100),
    "iso": bytes(32769) + b"CD001" + bytes(5000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives(w, ws, name):
    r = w.api.call("POST", ws.path + "/archive", data=HOSTILE[name])
    assert r.status_code in (400, 413) and r.json()["error"]["message"], (r.status_code, r.text)
    assert tree(w.api, ws) == {} and "passwd" not in str(list(pathlib.Path("/tmp").glob("x")))


def test_lies_in_headers(w, ws):
    """Sizes that are claimed are not believed: a zip whose header says 1 byte, a tar of 8 EB."""
    z = bytearray(zip_of(("a", "x" * 5000)))
    at = z.find(b"PK\x01\x02") + 24
    z[at:at + 4] = (0xFFFFFF00).to_bytes(4, "little")
    t = bytearray(tar_of(("a", F, b"x")))
    head = tarfile.TarInfo("a").tobuf()
    huge = bytearray(head)
    huge[124:136] = b"\x80" + b"\0" * 3 + (1 << 62).to_bytes(8, "big")
    huge[148:156] = b" " * 8
    huge[148:155] = b"%06o\0" % sum(huge)
    for data in (bytes(z), bytes(huge) + bytes(t[512:])):
        r = w.api.call("POST", ws.path + "/archive", data=data)
        assert r.status_code in (201, 400, 413), r.text
    assert all(e["size"] <= 5000 for e in tree(w.api, ws).values())


@pytest.mark.parametrize("wrap", [lambda b: b, bz2.compress, lzma.compress])
def test_compressed_tars(w, ws, wrap):
    r = w.api.call("POST", ws.path + "/archive?path=in", data=wrap(tar_of(("./", D, b""), ("./d", D, b""), ("./d/a", F, b"x"))))
    assert r.status_code == 201 and sorted(tree(w.api, ws)) == ["in", "in/d", "in/d/a"]
